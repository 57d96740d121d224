"""The optimizee: student, frozen teacher and optimizer. It trains a window and measures itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asg_env.compute import Compute
from asg_env.control.features import feature_kl, group_features, linear_cka
from asg_env.control.meter import Meter, Probe, WindowStats
from asg_env.data.order import BatchOrder
from asg_env.data.splits import Batch, Split
from asg_env.files import check_like
from asg_env.methods.base import Purpose, TrainingSettings
from asg_env.methods.guided import METHODS
from asg_env.models.groups import check_groups
from asg_env.models.student import Outputs, Student
from asg_env.tasks.guidance import GuidedLoss
from asg_env.tasks.objective import Hits, Mean, Seen, blocks
from asg_env.tasks.problem import Problem
from asg_env.training.corruption import Corruption
from asg_env.training.optim import (
    OPTIMIZER_STATE,
    OPTIMIZERS,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)

PROBE_SIZE = 32  # images of inner_valid on which the features are compared
METHOD = "regularizer."  # how the names of the method's tensors begin
METER = "meter."
STUDENT = "student."  # and those of the student's
TARGET = 1  # stream of the target batches' order beside the seed's own


class Similarity(NamedTuple):
    """How near the student is to the run's start, per layer group (G,).

    ``distance``: norm of (weights - start). ``cka``:
    :func:`~asg_env.control.features.linear_cka` of the features.
    """

    distance: np.ndarray
    cka: np.ndarray


class Optimizee:
    """One fine-tuning run; to a method, the :class:`~asg_env.methods.base.Loop`.

    Args:
        problem: what is fine-tuned.
        settings: how.
        seed: of the new head and of the batch order.
        compute: how the networks are computed.
        directions: whether its meter looks at directions.

    Raises:
        ValueError: the method wants target images and the problem has none.
    """

    def __init__(
        self,
        problem: Problem,
        settings: TrainingSettings,
        seed: int,
        compute: Compute,
        directions: bool = False,
    ) -> None:
        self.problem, self.settings, self.seed = problem.on(compute), settings, seed
        self.student = problem.student(seed)
        compute.place(self.student)
        check_groups(self.student, problem.groups)
        by_group = [group.parameters(self.student) for group in problem.groups]
        self.params = [p for group in by_group for p in group]
        options = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
        kind = OPTIMIZERS.find(settings.optimizer)
        self.optimizer = make_optimizer(kind, by_group, settings.base_lr, **options)
        self.order = BatchOrder(len(problem.splits["train"]), settings.batch_size, seed)
        purpose = Purpose(self.problem, self.student, self.order.epoch_length, settings)
        self.method = METHODS.find(settings.method)(purpose)
        self._target = self._target_order() if self.method.wants_target else None
        self._upcoming: Iterator[Batch] | None = None
        self.meter = Meter(by_group, directions)
        self._corrupt = Corruption.of(problem, settings, seed)
        self._reference = self._probed()

    def _target_order(self) -> BatchOrder:
        images = self.problem.unlabelled
        if images is None:
            raise ValueError(
                f"method={self.settings.method!r} learns from unlabelled target images, and "
                f"{self.problem.dataset} has none"
            )
        seed = int(np.random.default_rng([self.seed, TARGET]).integers(2**31))
        return BatchOrder(len(images), self.settings.batch_size, seed)

    # -- training ---------------------------------------------------------------------------------

    def train_window(self, scales: np.ndarray, steps: int) -> WindowStats:
        """Train ``steps`` batches with each group's learning rate at ``scales`` (G,) x base_lr."""
        for group, scale in zip(self.optimizer.param_groups, scales, strict=True):
            group["lr"] = float(scale) * self.settings.base_lr
        self.meter.begin()
        self._mode("train")
        for _ in range(steps):
            source = self._next_batch()
            self.meter.losses(self.method.update(self, source, self._target_images()))
        self._mode("eval")
        return self.meter.end()

    def _mode(self, name: str) -> None:
        """Tell an optimizer that measures other weights than it trains, as averaging ones do."""
        getattr(self.optimizer, name, lambda: None)()

    def measure_window(self) -> WindowStats:
        """The statistics of the next batch, without training on it and without drawing it."""
        train = self.problem.splits["train"]
        batch = next(b for b in map(train.batch, self.order.upcoming()) if len(b.indices))
        self.meter.begin()
        losses = self.method.losses(self, batch, self._target_images())
        self.backward(losses.total)
        self._clip()
        self.meter.losses(losses.parts)
        return self.meter.end()

    def _next_batch(self) -> Batch:
        if self._upcoming is None:
            self._upcoming = self.problem.splits["train"].batches(self.order.upcoming())
        try:
            for batch in self._upcoming:
                self.order.position += 1
                if len(batch.indices):  # not all of them are unreadable
                    return self._corrupt(batch, self.order.position)
        except BaseException:
            self._upcoming = None  # a generator that raised is spent
            raise
        raise AssertionError("the order has no end")

    def _target_images(self) -> Tensor | None:
        """The target batch beside the newest source batch: a function of the same position."""
        if self._target is None or self.problem.unlabelled is None:
            return None
        position = self.order.position
        indices = self._target.at(position)
        while not len(batch := self.problem.unlabelled.batch(indices)):
            position += 1
            indices = self._target.at(position)
        return batch.images

    # -- what a method may ask for ----------------------------------------------------------------

    def forward(self, images: Tensor) -> Outputs:
        """The student's logits, float32."""
        compute = self.problem.compute
        with compute.autocast():
            outputs = self.student(compute.images(images))
        return Outputs(outputs.new.float(), outputs.old.float())

    def teach(self, batch: Batch) -> Tensor:
        """The teacher's logits of a batch of ``train``, seen now or kept from before."""
        if self.settings.teacher == "online":
            return self.problem.teach(batch.images)
        return self.problem.teacher_logits("train")[batch.indices]

    def backward(self, loss: Tensor) -> None:
        """The gradients of a loss, in the place of those before."""
        self.optimizer.zero_grad()
        loss.backward()

    def step(self) -> None:
        """Measure the gradients, clip them to ``clip_norm``, and move the weights."""
        self._clip()
        self.optimizer.step()

    def _clip(self) -> None:
        norms = self.meter.gradients()
        if self.settings.clip_norm != float("inf"):
            total = torch.linalg.vector_norm(norms)
            torch.nn.utils.clip_grads_with_norm_(self.params, self.settings.clip_norm, total)

    # -- measuring --------------------------------------------------------------------------------

    def probe(self) -> Probe:
        """Measure the weights and the features as they are now."""
        weight = self.student.head_weight.detach()
        kl = feature_kl(self._reference, self._probed()).double().cpu().numpy()
        return Probe(float(weight.mean()), float(weight.std()), self.meter.drift(), kl)

    def losses(self, split: str, count: int | None = None) -> GuidedLoss:
        """Mean CE and KL over the first ``count`` images of a split; None: over all."""
        objective, ce, kl = self.problem.objective, Mean(), Mean()
        with torch.inference_mode():
            for seen in self._blocks(self.problem.splits[split], count=count):
                teacher = self.problem.teacher_logits(split)[seen.indices]
                ce.add(objective.loss(seen.outputs.new, seen.labels), objective.count(seen.labels))
                kl.add(objective.guidance(teacher, seen.outputs.old), len(seen.labels))
        return GuidedLoss(ce.value(), kl.value())

    def evaluate(self, split: str) -> dict[str, float]:
        """The objective's score on a split; for "test", where it can be measured, ``retention``.

        Retention is the old frozen classifier's accuracy on the problem's retention images, [0, 1].
        """
        score = self.problem.objective.score(len(self.problem.classes))
        with torch.inference_mode():
            for seen in self._blocks(self.problem.splits[split], self.problem.flip_average):
                score.update(seen)
            result = score.compute()
            if split == "test" and self.problem.retention is not None:
                result["retention"] = self._retained(self.problem.retention)
        return result

    def _retained(self, images: Split) -> float:
        hits = Hits(self.problem.old_classes)
        for seen in self._blocks(images):
            hits.update(seen.outputs.old.argmax(1), seen.labels)
        return hits.micro()

    def similarity(self, split: str, images: int) -> Similarity:
        """How near weights and features are to the run's start, on images all over a split."""
        shown = self.problem.splits[split].spread(images).images
        begun = self.problem.student(self.seed)
        self.problem.compute.place(begun)
        cka = linear_cka(self._features(begun, shown), self._features(self.student, shown))
        return Similarity(self.meter.distance(), cka.cpu().numpy())

    def _blocks(
        self, data: Split, flip_average: bool = False, count: int | None = None
    ) -> Iterator[Seen]:
        """The student on a split or its first images; use it in inference mode."""
        return blocks(self._views(data, flip_average, count))

    def _views(self, data: Split, flip_average: bool, count: int | None) -> Iterator[Seen]:
        for batch in data.chunks(count):
            outputs = self.forward(batch.images)
            scores = outputs.new
            if flip_average:
                mirrored = self.forward(batch.images.flip(-1)).new
                scores = (outputs.new.sigmoid() + mirrored.sigmoid()) / 2
            yield Seen(outputs, scores, batch.labels, batch.indices)

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
        return {
            **{f"{STUDENT}{k}": v for k, v in self.student.state_dict().items()},
            **optimizer_tensors(self.optimizer, self.params),
            **{f"{METHOD}{k}": v for k, v in self.method.tensors().items()},
            **{f"{METER}{k}": v for k, v in enumerate(self.meter.moves)},
        }

    def load_tensors(self, tensors: Mapping[str, Tensor], position: int) -> None:
        """Take over another run's :meth:`tensors` and its position in the batch order.

        Both runs must have been made with the same arguments; ValueError if a tensor does not fit.
        """
        known = (STUDENT, METHOD, METER, *OPTIMIZER_STATE)
        if odd := [name for name in tensors if not name.startswith(known)]:
            raise ValueError(f"a tensor is called {odd[0]!r}")
        weights = _below(STUDENT, tensors)
        check_like(weights, self.student.state_dict(), "the student")
        self.student.load_state_dict(weights)
        load_optimizer_tensors(self.optimizer, self.params, tensors)
        self.method.load_tensors(_below(METHOD, tensors))
        moves = _below(METER, tensors)
        self.meter.load_moves([moves[str(k)] for k in range(len(moves))])
        self.order.position = position
        self._upcoming = None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, under what follows."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
