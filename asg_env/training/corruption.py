"""What a context may do to the training data: wrong labels, and images that change on the way."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asg_env.data.splits import Batch
from asg_env.methods.base import TrainingSettings
from asg_env.tasks.problem import Problem

STREAM = 3  # of an episode's seed
CONTRAST = 0.3  # what a shift leaves of each image's contrast


class Corruption(NamedTuple):
    """Changes batches of ``train``.

    ``offsets`` (images,) int64: what is added to each label, modulo ``classes``; None: nothing.
    ``shift``: the optimizer step from which on images have lost contrast.
    """

    offsets: Tensor | None
    classes: int
    shift: float

    @classmethod
    def of(cls, problem: Problem, settings: TrainingSettings, seed: int) -> Corruption:
        """That of a run: a share ``label_noise`` of the labels is another class's, drawn from the
        run's seed; from the share ``shift_at`` of the budget on, contrast falls to CONTRAST."""
        classes, shift = len(problem.classes), math.inf
        if settings.shift_at < 1 and settings.budget is not None:
            shift = settings.shift_at * settings.budget
        if not settings.label_noise:
            return cls(None, classes, shift)
        rng = np.random.default_rng([seed, STREAM])
        count = len(problem.splits["train"])
        wrong = rng.random(count) < settings.label_noise
        offsets = torch.from_numpy(np.where(wrong, rng.integers(1, classes, count), 0))
        return cls(offsets, classes, shift)

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch of an optimizer step, the first is 1."""
        if self.offsets is not None:
            added = self.offsets[batch.indices.cpu()].to(batch.labels.device)
            batch = batch._replace(labels=(batch.labels + added) % self.classes)
        if step > self.shift:
            centre = batch.images.mean(dim=(1, 2, 3), keepdim=True)
            batch = batch._replace(images=centre + CONTRAST * (batch.images - centre))
        return batch
