"""What several of the tests of asg_env/data need."""

import numpy as np
import torch

from asg_env.data.decode import Transform
from asg_env.data.image_split import ImageSplit, LoaderSettings

SMALL = Transform(16, 16)


def split(files, cache="none", workers=0, on_error="stop", transform=SMALL):
    return ImageSplit(files, transform, LoaderSettings(workers, str(cache), on_error))


def order(files, size=4, epochs=2):
    rng = np.random.default_rng(0)
    shuffled = [torch.from_numpy(rng.permutation(len(files))) for _ in range(epochs)]
    return [batch for epoch in shuffled for batch in epoch.split(size)]


def same(batches, others):
    return all(
        torch.equal(a, b)
        for one, two in zip(batches, others, strict=True)
        for a, b in zip(one, two, strict=True)
    )
