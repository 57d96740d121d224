"""A task: what is fine-tuned, on which images, and what is reported.

Splits (after google/learned_optimization, with the real domain added): ``train`` (synthetic, inner
loop), ``inner_valid`` (synthetic, early stopping), ``outer_valid`` (synthetic, the reward) and
``test`` (real target: reported, never fed back). ``retention`` holds real images of the *old*
classes.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

from asg_env.registry import Registry
from asg_env.tasks.problem import SPLITS, Problem

__all__ = ["SPLITS", "TASKS", "Defaults", "Problem", "Task"]


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
    optimizer: str = "sgd"
    channels_last: bool = False
    device: str = "auto"


class Task(ABC):
    """A family of :class:`Problem`, one per variant."""

    name: str
    defaults: Defaults

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickled, and copied, by the name that it has in its class's module, if it has one there;
        else by value."""
        for name, value in vars(sys.modules[type(self).__module__]).items():
            if value is self:
                return name
        return super().__reduce_ex__(protocol)

    @abstractmethod
    def variants(self, split: str) -> Sequence[str]:
        """Names of the variants for meta-``"train"`` or meta-``"test"``."""

    @abstractmethod
    def load(self, variant: str | None) -> Problem:
        """Load one variant (None: the task itself); the same object every time."""

    def choices(self, variant: str | None) -> list[str | None]:
        """The variants that a reset draws from, for a variant's name, "train" or "test".

        Raises:
            ValueError: the task has no such variant.
        """
        self.check_variant(variant)
        return [*self.variants(variant)] if variant in ("train", "test") else [variant]

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


def embedded_defaults(base_lr: float, guidance: float, budget: int) -> Defaults:
    """Those of a task whose networks and images are tiny: too small for a GPU or two threads."""
    return Defaults(
        base_lr, guidance, budget, window=10, batch_size=32, clip_norm=5.0, threads=1, device="cpu"
    )


class EmbeddedTask(Task):
    """A task that comes with the package: images made in memory, variants in a table."""

    dataset_name: str
    table: Mapping[str | None, Any]

    def variants(self, split: str) -> Sequence[str]:
        """Those of the table whose names begin with the split's."""
        return [name for name in self.table if name is not None and name.startswith(f"{split}:")]


TASKS: Registry[Task] = Registry("task", ("name", "defaults", "variants", "load", "choices"))
"""Tasks that have a name beside the environments' ids; ``task=`` of FinetuneEnv takes these, the
object itself, or ``"module:attribute"``."""
