"""A method: what happens in one optimizer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from asg_env.data.splits import Batch
from asg_env.models.student import Outputs, Student
from asg_env.tasks.problem import Problem

NONE = "none"  # no regulariser beside proxy guidance


@dataclass(frozen=True)
class TrainingSettings:
    """How the inner loop trains. Units: learning rate per optimizer step, norms in weight units.

    ``method``, ``optimizer``, ``regularizer``: names, or the classes themselves. ``budget``:
    optimizer steps of the whole run; None: not known. ``label_noise``, ``shift_at``: see
    :mod:`asg_env.training.corruption`.
    """

    guidance: float
    base_lr: float
    batch_size: int
    optimizer: Any = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = float("inf")
    teacher: str = "cached"
    regularizer: Any = NONE
    regularizer_strength: float = 1.0
    temperature: float = 2.0
    budget: int | None = None
    method: Any = "guided"
    label_noise: float = 0.0
    shift_at: float = 1.0


class Loop(Protocol):
    """What a method may ask of the training loop."""

    def forward(self, images: Tensor) -> Outputs:
        """The student's logits, float32, of images (N, C, H, W)."""

    def teach(self, batch: Batch) -> Tensor:
        """The teacher's old logits (N, K_old) of a batch of ``train``, without gradient."""

    def backward(self, loss: Tensor) -> None:
        """The gradients of a scalar, in the place of those before."""

    def step(self) -> None:
        """Measure the gradients, clip them, and move the weights."""


class Purpose(NamedTuple):
    """What a method is made for; the student is still as pretrained.

    ``epoch_length``: optimizer steps of one pass over ``train``.
    """

    problem: Problem
    student: Student
    epoch_length: int
    settings: TrainingSettings


class Losses(NamedTuple):
    """``total``: what is minimised, a differentiable scalar. ``parts``: what is reported, detached
    (P,): the task's loss, the proxy KL and, if there is one, a penalty; nats."""

    total: Tensor
    parts: Tensor


class Method(ABC):
    """The interface. ``wants_target``: whether it asks for unlabelled target images.

    Args:
        purpose: what it is made for.
    """

    wants_target: ClassVar[bool] = False

    def __init__(self, purpose: Purpose) -> None:
        self.purpose = purpose

    @abstractmethod
    def losses(self, loop: Loop, source: Batch, target: Tensor | None) -> Losses:
        """The losses of a labelled source batch, and of target images (M, C, H, W), if wanted."""

    def update(self, loop: Loop, source: Batch, target: Tensor | None = None) -> Tensor:
        """One optimizer step; the losses' parts."""
        losses = self.losses(loop, source, target)
        loop.backward(losses.total)
        loop.step()
        return losses.parts

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the method's future depends on, by name."""
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027 - may be empty
        """Take over what :meth:`tensors` gave."""
