"""What the schedulers' tests share: a policy that moves learning rates, small images."""

from __future__ import annotations

import torch

from asg_env.control.observations import OBSERVATIONS, Observer
from asg_env.policies.cautious import start_cautious
from asg_env.policies.recurrent import LearnedPolicy, PolicyArgs, RecurrentPolicy


def cautious_network():
    """It holds every group's step_ratio near a target, and sees what a plain loop has."""
    network = RecurrentPolicy(
        PolicyArgs("loop", 5, 1, levels=7, heads="shared", scale="ordinal", skip=True)
    )
    start_cautious(network, Observer(OBSERVATIONS["loop"], ["any"]).names)
    return network


def cautious_policy():
    return LearnedPolicy(cautious_network())


class Images(torch.utils.data.Dataset):
    """Noise whose mean tells the class, 3 classes, (3, 16, 16); ``dicts``: for transformers."""

    def __init__(self, count, dicts=False, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(3, (count,), generator=generator)
        shift = (self.labels - 1).view(-1, 1, 1, 1)
        self.images = torch.randn(count, 3, 16, 16, generator=generator) + 0.5 * shift
        self.dicts = dicts

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if self.dicts:
            return {"pixel_values": self.images[index], "labels": self.labels[index]}
        return self.images[index], self.labels[index]


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
