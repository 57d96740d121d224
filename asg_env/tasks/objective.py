"""What a task optimises and how it is scored: the seam between tasks and training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from asg_env.models.student import Outputs
from asg_env.tasks.guidance import proxy_kl

BLOCK = 1 << 20  # logits that are held at a time where a whole split is scored


class Seen(NamedTuple):
    """The student's view of N images.

    ``outputs``: logits. ``scores``: what is judged, of the shape of ``outputs.new``: the logits, or
    their mean over an image and its mirror after a sigmoid. ``labels`` and ``indices`` (N, ...)
    int64.
    """

    outputs: Outputs
    scores: Tensor
    labels: Tensor
    indices: Tensor


def blocks(views: Iterable[Seen], limit: int = BLOCK) -> Iterator[Seen]:
    """The same views joined to blocks of up to ``limit`` logits: never a whole large split."""
    waiting: list[Seen] = []
    held = 0
    for view in views:
        size = view.outputs.new.numel() + view.outputs.old.numel()
        if waiting and held + size > limit:
            yield _joined(waiting)
            waiting, held = [], 0
        waiting.append(view)
        held += size
    if waiting:
        yield _joined(waiting)


def _joined(views: list[Seen]) -> Seen:
    outputs = Outputs(
        torch.cat([v.outputs.new for v in views]), torch.cat([v.outputs.old for v in views])
    )
    return Seen(
        outputs,
        torch.cat([v.scores for v in views]),
        torch.cat([v.labels for v in views]),
        torch.cat([v.indices for v in views]),
    )


class Mean:
    """A mean over blocks of differing weight; of a single block it is that block's, to the bit."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, int]] = []

    def add(self, value: Tensor, weight: int) -> None:
        """A block's mean, a scalar tensor, and how many items it is over."""
        self._parts.append((value, weight))

    def value(self) -> Tensor:
        """The mean over all items; NaN without any."""
        if len(self._parts) == 1:
            return self._parts[0][0]
        total = sum(weight for _, weight in self._parts)
        if not total:
            return torch.tensor(float("nan"))
        return torch.stack([v.double() * w for v, w in self._parts if w]).sum() / total


class Score(ABC):
    """Counts over a split, fed a block at a time."""

    @abstractmethod
    def update(self, seen: Seen) -> None:
        """Count some images."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """What the counts say, by name."""


class Objective(ABC):
    """What is optimised and how it is scored.

    ``metric``: the entry of the score that a task is judged by.
    """

    metric: ClassVar[str]

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The task's loss of the new head's outputs, a differentiable scalar, nats."""

    @abstractmethod
    def guidance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """How far the student's old classifier is from the teacher's, a scalar, nats.

        Args:
            teacher, student: the old classifier's logits of both.
        """

    @abstractmethod
    def count(self, labels: Tensor) -> int:
        """How many items :meth:`loss` averages over."""

    @abstractmethod
    def score(self, classes: int) -> Score:
        """A fresh score for that many classes, with :attr:`metric` and ``ce`` among its entries."""


class Classification(Objective):
    """One label an image: cross-entropy, proxy KL and the mean per-class recall (paper).

    Outputs are (N, K) float32 logits, labels (N,) int64.
    """

    metric = "accuracy"

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, mean over the images."""
        return F.cross_entropy(outputs, labels)

    def guidance(self, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(teacher || student), mean over the images, temperature 1."""
        return proxy_kl(teacher, student)

    def count(self, labels: Tensor) -> int:
        """Images."""
        return len(labels)

    def score(self, classes: int) -> Score:
        """``accuracy``: mean recall of the classes among the labels; ``ce``, nats."""
        return _Recall(self, classes)


class _Recall(Score):
    def __init__(self, objective: Objective, classes: int) -> None:
        self._objective, self._hits = objective, Hits(classes)
        self._ce = Mean()

    def update(self, seen: Seen) -> None:
        """Count hits and misses of each class."""
        self._hits.update(seen.scores.argmax(1), seen.labels)
        self._ce.add(self._objective.loss(seen.outputs.new, seen.labels), len(seen.labels))

    def compute(self) -> dict[str, float]:
        """Accuracy in [0, 1] and ce."""
        return {"accuracy": self._hits.macro(), "ce": float(self._ce.value())}


class Hits:
    """True positives and misses of each class, by torchmetrics.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        from torchmetrics.classification import MulticlassAccuracy  # slow to import

        self._recall: Any = MulticlassAccuracy(classes, average="none")

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count (N,) int64 predictions against (N,) int64 labels."""
        self._recall = self._recall.to(predictions.device)
        self._recall.update(predictions, labels)

    def macro(self) -> float:
        """Mean recall of the classes among the labels, the paper's accuracy, in [0, 1]."""
        present = self._recall.tp + self._recall.fn > 0
        return float(self._recall.compute()[present].mean())

    def micro(self) -> float:
        """Share of the images that are right, in [0, 1]."""
        right, wrong = self._recall.tp.sum(), self._recall.fn.sum()
        return float(right / (right + wrong))
