"""A task: what is fine-tuned, on which images, and what is reported.

Splits (after google/learned_optimization, with the real domain added): ``train`` (synthetic, inner
loop), ``inner_valid`` (synthetic, early stopping), ``outer_valid`` (synthetic, the reward) and
``test`` (real target: reported, never fed back). ``retention`` holds real images of the *old*
classes.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asg_env.models.groups import LayerGroup
from asg_env.models.student import Student

SPLITS = ("train", "inner_valid", "outer_valid", "test")


class Batch(NamedTuple):
    """``images`` (N, C, H, W) float32 and ``labels`` (N,) int64."""

    images: Tensor
    labels: Tensor


class TensorSplit:
    """Images held in memory.

    Args:
        images: (N, C, H, W) float32, already preprocessed.
        labels: (N,) int64.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor | slice) -> Batch:
        """The images and labels at ``indices`` (int64, or a slice)."""
        return Batch(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> TensorSplit:
        """The same split on another device."""
        return TensorSplit(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Problem:
    """One variant of a task, loaded: everything about it that no episode changes.

    Attributes:
        dataset: what the images are, as shown to people.
        variant: the variant's name, or None for the task itself.
        splits: the four of :data:`SPLITS`.
        retention: real images of the pretrained network's own classes, or None.
        classes: names of the new classes; ``classes[k]`` is label k.
        network: the pretrained classifier (teacher); never modified.
        student: ``student(seed)`` makes a fresh student around a copy of ``network``.
        groups: the student's layer groups, in forward order.
    """

    dataset: str
    variant: str | None
    splits: Mapping[str, TensorSplit]
    retention: TensorSplit | None
    classes: tuple[str, ...]
    network: nn.Module
    student: Callable[[int], Student]
    groups: tuple[LayerGroup, ...]
    _teacher: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _moved: dict[torch.device, Problem] = field(default_factory=dict, repr=False)

    def teacher_logits(self, split: str) -> Tensor:
        """The teacher's logits on a split, (N, K_old) float32: computed once, then remembered."""
        if split not in self._teacher:
            data = self.splits[split]
            with torch.inference_mode():
                parts = [
                    self.network(data.batch(slice(i, i + 256)).images)
                    for i in range(0, len(data), 256)
                ]
            self._teacher[split] = torch.cat(parts).clone()
        return self._teacher[split]

    def on(self, device: torch.device) -> Problem:
        """The same problem with its images and its network on ``device``; moved once."""
        if self.network_device == device:
            return self
        if device not in self._moved:
            splits = {name: split.to(device) for name, split in self.splits.items()}
            retention = None if self.retention is None else self.retention.to(device)
            self._moved[device] = dataclasses.replace(
                self,
                splits=splits,
                retention=retention,
                network=copy.deepcopy(self.network).to(device),
                _teacher={},
                _moved={},
            )
        return self._moved[device]

    @property
    def network_device(self) -> torch.device:
        """Where the images are."""
        return self.splits["train"].images.device


@dataclass(frozen=True)
class Defaults:
    """A task's own values for the environment arguments that depend on the task."""

    base_lr: float
    guidance: float
    budget: int
    window: int | str
    batch_size: int
    clip_norm: float | None = None
    threads: int | None = None


class Task(ABC):
    """A family of :class:`Problem`, one per variant."""

    name: str
    defaults: Defaults

    @abstractmethod
    def variants(self, split: str) -> Sequence[str]:
        """Names of the variants for meta-``"train"`` or meta-``"test"``."""

    @abstractmethod
    def load(self, variant: str | None) -> Problem:
        """Load one variant (None: the task itself); the same object every time."""

    def check_variant(self, variant: str | None) -> None:
        """Raise ValueError, listing the known ones, unless ``variant`` is one of this task's."""
        drawn = [split for split in ("train", "test") if self.variants(split)]
        known = [*drawn, *(name for split in drawn for name in self.variants(split))]
        if variant is not None and variant not in known:
            raise ValueError(
                f"variant={variant!r} is not one of task {self.name!r}; known: None"
                + "".join(f", {name}" for name in known)
                + (" ('train' and 'test' draw one at each reset)" if drawn else "")
            )
