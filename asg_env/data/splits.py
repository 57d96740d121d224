"""A split: labelled images that can be asked for in batches, from memory or from files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """``images`` (N, C, H, W) float32, ``labels`` (N,) int64, ``indices`` (N,) int64.

    ``indices`` are the images' places in the split. They are fewer than were asked for where an
    unreadable image was skipped.
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

    def chunks(self, limit: int | None = None) -> Iterator[Batch]:
        """The split (or its first ``limit`` images) from front to back."""
        count = len(self) if limit is None else min(limit, len(self))
        return self.batches(torch.arange(count).split(self.chunk))

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
