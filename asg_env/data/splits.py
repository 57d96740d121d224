"""A split: labelled images that can be asked for in batches, from memory or from files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from asg_env.data.cache import digest


class Batch(NamedTuple):
    """``images`` (N, C, H, W) float32, ``labels`` (N,) int64, ``indices`` (N,) int64.

    ``indices`` are the images' places in the split. They are fewer than were asked for, perhaps
    none, where unreadable images were skipped.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class Split(ABC):
    """Labelled images. ``labels`` (N,) int64 lies in memory; ``device`` is where batches arrive.

    ``chunk`` is the number of images for one forward pass without gradient. ``key`` names the
    content across processes; None: nothing about it is worth keeping.
    """

    labels: Tensor
    device: torch.device
    chunk: int
    key: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, indices: Tensor) -> Batch:
        """The images and labels at ``indices`` (int64)."""

    @abstractmethod
    def to(self, device: torch.device) -> Split:
        """The same split with its batches on another device."""

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """The batches of an order (of index tensors), perhaps prepared ahead of their use."""
        return map(self.batch, order)

    def chunks(self, count: int | None = None) -> Iterator[Batch]:
        """The split, or its first ``count`` images, front to back, without empty batches."""
        order = torch.arange(len(self))[:count].split(self.chunk)
        return (batch for batch in self.batches(order) if len(batch.indices))

    def first(self, count: int) -> Batch:
        """The first ``count`` images, or, if none of them is readable, the next ones."""
        order = torch.arange(len(self)).split(count)
        return next(batch for batch in map(self.batch, order) if len(batch.indices))

    def spread(self, count: int) -> Batch:
        """At most ``count`` images, evenly over the split, which may be sorted by class."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self)), dtype=torch.float64)
        batch = self.batch(places.round().long())
        return batch if len(batch.indices) else self.first(count)

    @property
    def fingerprint(self) -> str:
        """A name for what the split is made of, wherever its files lie."""
        return digest([self.labels.cpu().numpy().tobytes()])

    @property
    def skipped(self) -> int:
        """Unreadable images found and left out so far."""
        return 0


class TensorSplit(Split):
    """Images held in memory.

    Args:
        images: (N, C, H, W) float32, already preprocessed.
        labels: (N,) int64.
    """

    chunk = 256

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
        self.images, self.labels, self.device = images, labels, images.device

    def batch(self, indices: Tensor) -> Batch:
        """The images and labels at ``indices`` (int64)."""
        return Batch(self.images[indices], self.labels[indices], indices)

    def subset(self, indices: Tensor) -> TensorSplit:
        """Some of the images, in the order of ``indices`` (int64)."""
        return TensorSplit(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> TensorSplit:
        """The same split on another device."""
        return TensorSplit(self.images.to(device), self.labels.to(device))
