"""What the benchmarks share: a clock, and networks on random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from asg_env.data.splits import TensorSplit
from asg_env.models.groups import resnet_groups
from asg_env.seeding import isolated_rng
from asg_env.tasks.base import Problem

CLASSES, HEAD_WIDTH = 12, 512  # of the new head (paper)
BRANCH = 0.2  # weight of the residual branches: random ones would make the gradients explode


class Timing(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def timed(call: Callable[[], object]) -> Timing:
    """How long a call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Timing(time.process_time() - cpu, time.perf_counter() - wall)


def random_problem(model: str, side: int, sizes: Mapping[str, int]) -> Problem:
    """A network with random weights on random images: the cost of a real one, no data.

    Args:
        model: one of torchvision's ResNets; batch norm takes its statistics from the images.
        side: of the images, pixels.
        sizes: images in each split.
    """
    from torchvision.models import get_model  # slow to import

    with isolated_rng(0):
        network = get_model(model, weights=None, zero_init_residual=True)
        splits = {
            name: TensorSplit(torch.randn(n, 3, side, side), torch.randint(CLASSES, (n,)))
            for name, n in sizes.items()
        }
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics become those of the images, at once
            if not module.weight.any():  # ends a residual branch
                nn.init.constant_(module.weight, BRANCH)
    with torch.no_grad():
        network.train()(splits["inner_valid"].images)
    network.eval()
    return Problem(
        dataset="random images",
        variant=None,
        splits=splits,
        retention=None,
        classes=tuple(map(str, range(CLASSES))),
        network=network,
        model=model,
        classifier="fc",
        hidden=HEAD_WIDTH,
        groups=resnet_groups(network),
    )
