"""The optimizee: student, frozen teacher and optimizer. It trains a window and measures itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asg_env.compute import Compute
from asg_env.control.features import feature_kl, group_features, linear_cka
from asg_env.data.order import BatchOrder
from asg_env.data.splits import Batch, Split
from asg_env.methods.guidance import GuidedLoss, guided_loss
from asg_env.methods.regularizers import (
    NONE,
    REGULARIZERS,
    ProxyGuidance,
    Regularizer,
    Setting,
    View,
)
from asg_env.models.groups import check_groups
from asg_env.models.student import Outputs, Student
from asg_env.tasks.base import Problem
from asg_env.tasks.metrics import class_accuracy
from asg_env.training.optim import make_optimizer

PROBE_SIZE = 32  # images of inner_valid on which the features are compared
REGULARIZER = "regularizer."  # how the names of their tensors begin
TEACHERS = ("auto", "cached", "online")


@dataclass(frozen=True)
class OptimizeeSettings:
    """How the inner loop trains. Units: learning rate per optimizer step, norms in weight units.

    ``budget``: optimizer steps of the whole run; None: not known.
    """

    guidance: float
    base_lr: float
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = float("inf")
    teacher: str = "cached"
    regularizer: str = NONE
    regularizer_strength: float = 1.0
    temperature: float = 2.0
    budget: int | None = None


class WindowStats(NamedTuple):
    """What one window did.

    ``ce``, ``kl``: means over the window's batches, nats. ``grad_norm`` (G,): mean norm of each
    group's gradient, before clipping. ``update_ratio`` (G,): norm of the window's weight change
    over the norm of the weights before it. ``finite``: no loss and no weight is NaN or infinite.
    ``penalty``: mean of the added regulariser's penalty, without its strength; None: there is none.
    """

    ce: float
    kl: float
    grad_norm: np.ndarray
    update_ratio: np.ndarray
    finite: bool
    penalty: float | None = None


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


class Similarity(NamedTuple):
    """How near the student is to the run's start, per layer group (G,).

    ``distance``: norm of (weights - start). ``cka``:
    :func:`~asg_env.control.features.linear_cka` of the features.
    """

    distance: np.ndarray
    cka: np.ndarray


class Seen(NamedTuple):
    """The student's view of N images: logits, what accuracy is judged by, labels and indices."""

    outputs: Outputs
    scores: Tensor
    labels: Tensor
    indices: Tensor


class Optimizee:
    """One fine-tuning run.

    Args:
        problem: what is fine-tuned.
        settings: how.
        seed: of the new head and of the batch order.
        compute: how the networks are computed.
    """

    def __init__(
        self, problem: Problem, settings: OptimizeeSettings, seed: int, compute: Compute
    ) -> None:
        self.problem, self.settings, self.seed = problem.on(compute), settings, seed
        self.student = problem.student(seed)
        compute.place(self.student)
        check_groups(self.student, problem.groups)
        by_group = [group.parameters(self.student) for group in problem.groups]
        self.params: list[Tensor] = [p for group in by_group for p in group]
        self._membership = torch.zeros(len(self.params), len(by_group), device=compute.device)
        row = 0
        for column, group in enumerate(by_group):
            self._membership[row : row + len(group), column] = 1
            row += len(group)
        self.optimizer = make_optimizer(
            settings.optimizer, by_group, settings.base_lr, settings.momentum, settings.weight_decay
        )
        self.order = BatchOrder(len(problem.splits["train"]), settings.batch_size, seed)
        self.regularizers = self._regularizers()
        self._upcoming: Iterator[Batch] | None = None
        self._start = [p.detach().clone() for p in self.params]
        self._start_norm = self._group_norms(self._start)
        self._reference = self._probed()

    def _regularizers(self) -> list[Regularizer]:
        """Proxy guidance, and the one that is added by name."""
        settings = self.settings
        shared = self.problem, self.student, self.order.epoch_length, settings.budget
        made: list[Regularizer] = [
            ProxyGuidance(Setting(*shared, settings.guidance, settings.temperature))
        ]
        if settings.regularizer != NONE:
            setting = Setting(*shared, settings.regularizer_strength, settings.temperature)
            made.append(REGULARIZERS[settings.regularizer](setting))
        return made

    # -- training ---------------------------------------------------------------------------------

    def train_window(self, scales: np.ndarray, steps: int) -> WindowStats:
        """Train ``steps`` batches with each group's learning rate at ``scales`` (G,) x base_lr."""
        for group, scale in zip(self.optimizer.param_groups, scales, strict=True):
            group["lr"] = float(scale) * self.settings.base_lr
        before = [p.detach().clone() for p in self.params]
        losses, norms = [], []
        for _ in range(steps):
            losses.append(self._backward(self._next_batch()))
            for regularizer in self.regularizers:
                regularizer.before_step()
            norms.append(self._clip())
            self.optimizer.step()
            for regularizer in self.regularizers:
                regularizer.after_step()
        moved = self._group_norms(list(torch._foreach_sub(self.params, before)))
        ratio = moved / self._group_norms(before).clamp_min(1e-12)
        return self._stats(torch.stack(losses), torch.stack(norms), ratio)

    def measure_window(self) -> WindowStats:
        """The statistics of the next batch, without training on it and without drawing it."""
        train = self.problem.splits["train"]
        batch = next(b for b in map(train.batch, self.order.upcoming()) if len(b.indices))
        losses = self._backward(batch)
        norms = self._clip()
        return self._stats(losses[None], norms[None], torch.zeros_like(norms))

    def _next_batch(self) -> Batch:
        if self._upcoming is None:
            self._upcoming = self.problem.splits["train"].batches(self.order.upcoming())
        try:
            for batch in self._upcoming:
                self.order.position += 1
                if len(batch.indices):  # not all of them are unreadable
                    return batch
        except BaseException:
            self._upcoming = None  # a generator that raised is spent
            raise
        raise AssertionError("the order has no end")

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the loss on a batch; CE, KL and, if there is one, the added penalty."""
        if self.settings.teacher == "online":
            teacher = self.problem.teach(batch.images)
        else:
            teacher = self.problem.teacher_logits("train")[batch.indices]
        outputs = self._forward(batch.images)
        ce, kl = guided_loss(outputs.new, batch.labels, teacher, outputs.old)
        view = View(batch.images, outputs, teacher, kl)
        penalties = [regularizer.penalty(view) for regularizer in self.regularizers]
        total = ce
        for regularizer, penalty in zip(self.regularizers, penalties, strict=True):
            total = total + regularizer.setting.strength * penalty
        self.optimizer.zero_grad()
        total.backward()
        return torch.stack([ce, *penalties]).detach()

    def _forward(self, images: Tensor) -> Outputs:
        compute = self.problem.compute
        with compute.autocast():
            outputs = self.student(compute.images(images))
        return Outputs(outputs.new.float(), outputs.old.float())

    def _clip(self) -> Tensor:
        """Clip the gradients to ``clip_norm``; return each group's norm before, (G,)."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
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
        ce, kl, *penalty = losses.mean(0).tolist()
        largest = torch.stack(torch._foreach_norm(self.params, ord=float("inf"))).max()
        finite = bool(torch.isfinite(largest)) and bool(torch.isfinite(losses).all())
        grad_norm = norms.mean(0).double().cpu().numpy()
        return WindowStats(ce, kl, grad_norm, ratio.double().cpu().numpy(), finite, *penalty)

    # -- measuring --------------------------------------------------------------------------------

    def probe(self) -> Probe:
        """Measure the weights and the features as they are now."""
        weight = self.student.head_weight.detach()
        moved = self._group_norms(list(torch._foreach_sub(self.params, self._start)))
        drift = moved / self._start_norm.clamp_min(1e-12)
        kl = feature_kl(self._reference, self._probed())
        return Probe(
            float(weight.mean()),
            float(weight.std()),
            drift.double().cpu().numpy(),
            kl.double().cpu().numpy(),
        )

    def losses(self, split: str, count: int | None = None) -> GuidedLoss:
        """Mean CE and KL over the first ``count`` images of a split; None: over all."""
        with torch.inference_mode():
            seen = self._pass(self.problem.splits[split], count=count)
            teacher = self.problem.teacher_logits(split)[seen.indices]
            return guided_loss(seen.outputs.new, seen.labels, teacher, seen.outputs.old)

    def evaluate(self, split: str) -> dict[str, float]:
        """``accuracy`` (mean per-class recall) and ``ce`` on a split; for "test", ``retention``.

        Retention is the old frozen classifier's accuracy on the problem's retention images; it is
        left out where the problem has none. All accuracies are in [0, 1].
        """
        with torch.inference_mode():
            seen = self._pass(self.problem.splits[split], self.problem.flip_average)
            classes = len(self.problem.classes)
            result = {
                "accuracy": class_accuracy(seen.scores.argmax(1), seen.labels, classes, "macro"),
                "ce": float(torch.nn.functional.cross_entropy(seen.outputs.new, seen.labels)),
            }
            if split == "test" and self.problem.retention is not None:
                seen = self._pass(self.problem.retention)
                old = seen.outputs.old
                result["retention"] = class_accuracy(
                    old.argmax(1), seen.labels, old.shape[1], "micro"
                )
        return result

    def similarity(self, split: str, images: int) -> Similarity:
        """How near weights and features are to the run's start, on images all over a split."""
        shown = self.problem.splits[split].spread(images).images
        begun = self.problem.student(self.seed)
        self.problem.compute.place(begun)
        moved = self._group_norms(list(torch._foreach_sub(self.params, self._start)))
        cka = linear_cka(self._features(begun, shown), self._features(self.student, shown))
        return Similarity(moved.double().cpu().numpy(), cka.cpu().numpy())

    def _pass(self, data: Split, flip_average: bool = False, count: int | None = None) -> Seen:
        """The student on a split or its first images; call it in inference mode."""
        new, old, scores, labels, indices = [], [], [], [], []
        for batch in data.chunks(count):
            outputs = self._forward(batch.images)
            new.append(outputs.new)
            old.append(outputs.old)
            if flip_average:
                mirrored = self._forward(batch.images.flip(-1)).new
                scores.append((outputs.new.sigmoid() + mirrored.sigmoid()) / 2)
            labels.append(batch.labels)
            indices.append(batch.indices)
        logits = torch.cat(new)
        return Seen(
            Outputs(logits, torch.cat(old)),
            torch.cat(scores) if scores else logits,
            torch.cat(labels),
            torch.cat(indices),
        )

    def _probed(self) -> list[Tensor]:
        images = self.problem.splits["inner_valid"].first(PROBE_SIZE).images
        return self._features(self.student, images)

    def _features(self, student: Student, images: Tensor) -> list[Tensor]:
        compute = self.problem.compute
        with compute.autocast():
            return group_features(student, self.problem.groups, compute.images(images))

    # -- state ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the run's future depends on, by name."""
        named = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        for index, parameter in enumerate(self.params):
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                named[f"momentum.{index}"] = momentum
        for regularizer in self.regularizers:
            named |= {f"{REGULARIZER}{k}": v for k, v in regularizer.tensors().items()}
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
                state["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        state = {
            k.removeprefix(REGULARIZER): v for k, v in tensors.items() if k.startswith(REGULARIZER)
        }
        for regularizer in self.regularizers:
            regularizer.load_tensors(state)
        self.order.position = position
        self._upcoming = None
