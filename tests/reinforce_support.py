"""What several of REINFORCE's tests need."""

import dataclasses

import torch

from agents.reinforce import PRESETS
from asg_env.policies.recurrent import RecurrentPolicy


def shaken(args, seed=0):
    """A network whose outputs are far from uniform."""
    network = RecurrentPolicy(args, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network


TINY = dataclasses.replace(
    PRESETS["fixed"],
    env_kwargs={"budget": 10, "window": 5},
    workers="none",
    num_envs=2,
    updates=3,
    seed=1,
    heads="shared",
)
