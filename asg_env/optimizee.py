"""The optimizee: student, frozen teacher and optimizer. It trains a window and measures itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asg_env.features import feature_kl, group_features
from asg_env.guidance import GuidedLoss, guided_loss
from asg_env.metrics import class_accuracy
from asg_env.models.groups import check_groups
from asg_env.optim import make_optimizer
from asg_env.sampling import BatchOrder
from asg_env.tasks.base import Problem, TensorSplit

PROBE_SIZE = 32  # images of inner_valid on which the features are compared
CHUNK = 256  # images in one forward pass without gradient


@dataclass(frozen=True)
class OptimizeeSettings:
    """How the inner loop trains. Units: learning rate per optimizer step, norms in weight units."""

    guidance: float
    base_lr: float
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = float("inf")


class WindowStats(NamedTuple):
    """What one window did.

    ``ce``, ``kl``: means over the window's batches, nats. ``grad_norm`` (G,): mean norm of each
    group's gradient, before clipping. ``update_ratio`` (G,): norm of the window's weight change
    over the norm of the weights before it. ``finite``: no loss and no weight is NaN or infinite.
    """

    ce: float
    kl: float
    grad_norm: np.ndarray
    update_ratio: np.ndarray
    finite: bool


class Probe(NamedTuple):
    """What the weights look like now.

    ``head_mean``, ``head_std``: of the head's last weight. ``drift`` (G,): norm of
    (weights - start) over the norm of start. ``feature_kl`` (G,): KL between the features at the
    start and now.
    """

    head_mean: float
    head_std: float
    drift: np.ndarray
    feature_kl: np.ndarray


class Optimizee:
    """One fine-tuning run.

    Args:
        problem: what is fine-tuned.
        settings: how.
        seed: of the new head and of the batch order.
        device: where it runs.
    """

    def __init__(
        self, problem: Problem, settings: OptimizeeSettings, seed: int, device: torch.device
    ) -> None:
        self.problem, self.settings, self.seed = problem.on(device), settings, seed
        self.student = problem.student(seed).to(device)
        check_groups(self.student, problem.groups)
        by_group = [group.parameters(self.student) for group in problem.groups]
        self.params: list[Tensor] = [p for group in by_group for p in group]
        self._membership = torch.zeros(len(self.params), len(by_group), device=device)
        row = 0
        for column, group in enumerate(by_group):
            self._membership[row : row + len(group), column] = 1
            row += len(group)
        self.optimizer = make_optimizer(
            settings.optimizer, by_group, settings.base_lr, settings.momentum, settings.weight_decay
        )
        self.order = BatchOrder(len(problem.splits["train"]), settings.batch_size, seed)
        self._start = [p.detach().clone() for p in self.params]
        self._start_norm = self._group_norms(self._start)
        self._reference = self._features()

    # -- training ---------------------------------------------------------------------------------

    def train_window(self, scales: np.ndarray, steps: int) -> WindowStats:
        """Train ``steps`` batches with each group's learning rate at ``scales`` (G,) x base_lr."""
        for group, scale in zip(self.optimizer.param_groups, scales, strict=True):
            group["lr"] = float(scale) * self.settings.base_lr
        before = [p.detach().clone() for p in self.params]
        losses, norms = [], []
        for _ in range(steps):
            loss = self._backward(self.order.next())
            norms.append(self._clip())
            losses.append(torch.stack(loss))
            self.optimizer.step()
        moved = self._group_norms(list(torch._foreach_sub(self.params, before)))
        ratio = moved / self._group_norms(before).clamp_min(1e-12)
        return self._stats(torch.stack(losses), torch.stack(norms), ratio)

    def measure_window(self) -> WindowStats:
        """The statistics of the next batch, without training on it and without drawing it."""
        position = self.order.position
        loss = self._backward(self.order.next())
        self.order.position = position
        norms = self._clip()
        return self._stats(torch.stack(loss)[None], norms[None], torch.zeros_like(norms))

    def _backward(self, indices: Tensor) -> GuidedLoss:
        loss = self._loss("train", indices)
        self.optimizer.zero_grad()
        loss.total(self.settings.guidance).backward()
        return GuidedLoss(loss.ce.detach(), loss.kl.detach())

    def _clip(self) -> Tensor:
        """Clip the gradients to ``clip_norm``; return each group's norm before, (G,)."""
        gradients = [p.grad for p in self.params if p.grad is not None]
        norms = self._group_norms(gradients)
        if self.settings.clip_norm != float("inf"):
            total = torch.linalg.vector_norm(norms)
            torch.nn.utils.clip_grads_with_norm_(self.params, self.settings.clip_norm, total)
        return norms

    @torch.no_grad()
    def _group_norms(self, tensors: list[Tensor]) -> Tensor:
        squares = torch.stack(torch._foreach_norm(tensors)).square()
        return (squares @ self._membership).sqrt()

    def _stats(self, losses: Tensor, norms: Tensor, ratio: Tensor) -> WindowStats:
        ce, kl = losses.mean(0).tolist()
        largest = torch.stack(torch._foreach_norm(self.params, ord=float("inf"))).max()
        finite = bool(torch.isfinite(largest)) and bool(torch.isfinite(losses).all())
        grad_norm = norms.mean(0).double().cpu().numpy()
        return WindowStats(ce, kl, grad_norm, ratio.double().cpu().numpy(), finite)

    # -- measuring --------------------------------------------------------------------------------

    def probe(self) -> Probe:
        """Measure the weights and the features as they are now."""
        weight = self.student.head_weight.detach()
        moved = self._group_norms(list(torch._foreach_sub(self.params, self._start)))
        drift = moved / self._start_norm.clamp_min(1e-12)
        kl = feature_kl(self._reference, self._features())
        return Probe(
            float(weight.mean()),
            float(weight.std()),
            drift.double().cpu().numpy(),
            kl.double().cpu().numpy(),
        )

    def losses(self, split: str) -> GuidedLoss:
        """Mean CE and KL over a whole split."""
        with torch.inference_mode():
            return self._loss(split, slice(None))

    def evaluate(self, split: str) -> dict[str, float]:
        """``accuracy`` (mean per-class recall) and ``ce`` on a split, and ``retention``.

        Retention is the old frozen classifier's accuracy on the problem's retention images; it is
        left out where the problem has none. All accuracies are in [0, 1].
        """
        data = self.problem.splits[split]
        logits = self._logits(data, old=False)
        result = {
            "accuracy": class_accuracy(
                logits.argmax(1), data.labels, len(self.problem.classes), "macro"
            ),
            "ce": float(torch.nn.functional.cross_entropy(logits, data.labels)),
        }
        if self.problem.retention is not None:
            old = self._logits(self.problem.retention, old=True)
            labels = self.problem.retention.labels
            result["retention"] = class_accuracy(old.argmax(1), labels, old.shape[1], "micro")
        return result

    def _loss(self, split: str, indices: Tensor | slice) -> GuidedLoss:
        batch = self.problem.splits[split].batch(indices)
        teacher = self.problem.teacher_logits(split)[indices]
        outputs = self.student(batch.images)
        return guided_loss(outputs.new, batch.labels, teacher, outputs.old)

    def _logits(self, data: TensorSplit, old: bool) -> Tensor:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(data), CHUNK):
                outputs = self.student(data.batch(slice(start, start + CHUNK)).images)
                parts.append(outputs.old if old else outputs.new)
        return torch.cat(parts)

    def _features(self) -> list[Tensor]:
        images = self.problem.splits["inner_valid"].batch(slice(0, PROBE_SIZE)).images
        return group_features(self.student, self.problem.groups, images)

    # -- state ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the run's future depends on, by name."""
        named = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        for index, parameter in enumerate(self.params):
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                named[f"momentum.{index}"] = momentum
        return named

    def load_tensors(self, tensors: dict[str, Tensor], position: int) -> None:
        """Take over another run's :meth:`tensors` and its position in the batch order.

        Both runs must have been made with the same arguments.
        """
        weights = {k.removeprefix("student."): v for k, v in tensors.items() if k[:8] == "student."}
        self.student.load_state_dict(weights)
        self.optimizer.state.clear()
        for index, parameter in enumerate(self.params):
            if (momentum := tensors.get(f"momentum.{index}")) is not None:
                state: dict[str, Any] = self.optimizer.state[parameter]
                state["momentum_buffer"] = momentum.to(parameter.device, copy=True)
        self.order.position = position
