"""A problem: one variant of a task, loaded; everything about it that no episode changes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from asg_env.compute import Compute
from asg_env.data.cache import RowCache, digest
from asg_env.data.decode import Transform
from asg_env.data.splits import Split
from asg_env.models.groups import LayerGroup
from asg_env.models.student import Student
from asg_env.tasks.objective import Classification, Objective

T = TypeVar("T")
SPLITS = ("train", "inner_valid", "outer_valid", "test")
RECHECKED = 8  # kept teacher outputs that are computed again, to see whether they still hold
PATIENCE = 5  # seconds before a progress bar is shown


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
        model: what :func:`~asg_env.models.pretrained.build_network` makes its architecture from.
        classifier: path of its final linear layer.
        hidden: width of the new head's hidden layer.
        groups: the student's layer groups, in forward order.
        flip_average: evaluate the mean of sigmoid(logits) over each image and its mirror (paper).
        transform: how image files are preprocessed; None: the images are made in memory.
        teacher_folder: where the teacher's outputs are kept; None: in memory only.
        objective: what is optimised, and how it is scored.
        unlabelled: target images for methods that ask for them; their labels are never read.
        compute: how the networks are computed.
    """

    dataset: str
    variant: str | None
    splits: Mapping[str, Split]
    retention: Split | None
    classes: tuple[str, ...]
    network: nn.Module
    model: str
    classifier: str
    hidden: int
    groups: tuple[LayerGroup, ...]
    flip_average: bool = False
    transform: Transform | None = None
    teacher_folder: Path | None = None
    objective: Objective = field(default_factory=Classification)
    unlabelled: Split | None = None
    compute: Compute = field(default_factory=Compute)
    _teacher: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    _placed: dict[Compute, Problem] = field(default_factory=dict, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Problem:
        """Itself: all copies of what uses it share it."""
        return self

    def student(self, seed: int) -> Student:
        """A fresh student around a copy of the network; the seed is that of the new head."""
        return Student(self.network, self.classifier, len(self.classes), self.hidden, seed)

    @property
    def old_classes(self) -> int:
        """K_old, the classes that the pretrained network tells apart."""
        layer = self.network.get_submodule(self.classifier)
        assert isinstance(layer, nn.Linear)
        return layer.out_features

    def teacher_logits(self, split: str) -> Tensor:
        """The teacher's logits on a split, (N, K_old) float32: computed once, then remembered.

        Rows of images that were skipped as unreadable mean nothing.
        """
        if split not in self._teacher:
            self._teacher[split] = self._teacher_pass(split)
        return self._teacher[split]

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for this problem, under a name of its own."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def teach(self, images: Tensor) -> Tensor:
        """The teacher's logits (N, K_old) float32 for images (N, C, H, W), without gradient."""
        with torch.no_grad(), self.compute.autocast():
            return self.network(self.compute.images(images)).float()

    def _teacher_pass(self, name: str) -> Tensor:
        data = self.splits[name]
        kept = self._teacher_cache(data, (len(data), self.old_classes))
        kept.good(np.arange(len(data)))  # what is damaged is made again
        if not self._still_true(data, kept):
            kept.filled[:] = False
        todo = [c for c in torch.arange(len(data)).split(data.chunk) if not kept.filled[c].all()]
        bar = tqdm(total=len(todo), desc=f"teacher on {name}", delay=PATIENCE, disable=None)
        for batch in data.batches(todo):
            if len(batch.indices):
                kept.put(batch.indices.numpy(), self.teach(batch.images).cpu().numpy())
            bar.update()
        bar.close()
        kept.sync()
        return torch.from_numpy(kept.rows).to(self.compute.device)

    def _still_true(self, data: Split, kept: RowCache) -> bool:
        """Whether the network gives what was kept: a key knows its weights, but not its code."""
        known = torch.from_numpy(np.flatnonzero(kept.filled)[:RECHECKED])
        if not len(known):
            return True
        batch = data.batch(known)
        was = torch.from_numpy(kept.rows[batch.indices.numpy()])
        return torch.allclose(self.teach(batch.images).cpu(), was, rtol=1e-2, atol=1e-2)

    def _teacher_cache(self, data: Split, shape: tuple[int, int]) -> RowCache:
        if self.teacher_folder is None or data.key is None:
            return RowCache.in_memory(shape, np.float32)
        name = digest(["teacher-2", data.key, repr(self.compute), self.model, self._weights_key])
        return RowCache.in_folder(self.teacher_folder, f"teacher-{name}", shape, np.float32)

    def on(self, compute: Compute) -> Problem:
        """The same problem with its images and its network there; moved once."""
        if self.compute == compute:
            return self
        if compute not in self._placed:
            splits = {name: split.to(compute.device) for name, split in self.splits.items()}
            self._placed[compute] = dataclasses.replace(
                self,
                splits=splits,
                retention=_moved(self.retention, compute),
                unlabelled=_moved(self.unlabelled, compute),
                network=compute.place(copy.deepcopy(self.network)),
                compute=compute,
                _teacher={},
                _kept={},
                _placed={},
            )
        return self._placed[compute]

    @cached_property
    def _weights_key(self) -> str:
        """A name for the pretrained weights."""
        state = self.network.state_dict().values()
        return digest(v.cpu().contiguous().numpy().tobytes() for v in state)

    @cached_property
    def fingerprint(self) -> str:
        """A name for the problem: its images, its network, its layer groups, its evaluation."""
        splits = [*self.splits.values(), *([self.retention] if self.retention else [])]
        about = self.variant, self.classes, self.model, self.classifier
        more = self.hidden, self.groups, self.flip_average
        return digest([self._weights_key, repr((*about, *more)), *(s.fingerprint for s in splits)])

    @property
    def skipped(self) -> int:
        """Unreadable images found and left out so far, in all splits."""
        parts = [*self.splits.values(), *([self.retention] if self.retention else [])]
        return sum(part.skipped for part in parts)

    def check_split(self, name: str) -> None:
        """Raise ValueError, listing the known ones, unless there is a split of that name."""
        if name not in self.splits:
            raise ValueError(f"unknown split {name!r}; expected one of {', '.join(self.splits)}")


def _moved(split: Split | None, compute: Compute) -> Split | None:
    return None if split is None else split.to(compute.device)
