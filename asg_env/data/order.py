"""The order in which a training loop sees the images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def epoch_length(count: int, batch_size: int) -> int:
    """Batches in one epoch; the last one may be smaller."""
    return math.ceil(count / batch_size)


class BatchOrder:
    """Shuffled epochs over ``count`` images; the last batch of an epoch may be smaller.

    The order is a function of (seed, epoch), so that a position is all there is to save.

    Args:
        count: number of images.
        batch_size: images in a batch.
        seed: of the shuffles.
        position: batches drawn so far.
    """

    def __init__(self, count: int, batch_size: int, seed: int, position: int = 0) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.position = position
        self._shuffled: tuple[int, Tensor] | None = None

    @property
    def epoch_length(self) -> int:
        """Batches in one epoch."""
        return epoch_length(self.count, self.batch_size)

    def at(self, position: int) -> Tensor:
        """Indices of the batch at a position, (N,) int64, N <= batch_size."""
        epoch, index = divmod(position, self.epoch_length)
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
            self._shuffled = epoch, torch.from_numpy(order)
        return self._shuffled[1][index * self.batch_size : (index + 1) * self.batch_size]

    def upcoming(self) -> Iterator[Tensor]:
        """The batches from this position on, without end; the position stays."""
        return map(self.at, itertools.count(self.position))
