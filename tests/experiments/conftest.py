"""Runs of experiments/finetune.py that nothing interrupted."""

import dataclasses

import pytest
import torch
from finetune_support import TINY

from asg_env.policies.recurrent import (
    PolicyArgs,
    RecurrentPolicy,
    save_policy,
)
from experiments import finetune


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A policy whose actions depend on what it remembers."""
    folder = tmp_path_factory.mktemp("policies") / "mine"
    network = RecurrentPolicy(PolicyArgs("paper", 1, 6), seed=0)
    with torch.no_grad():
        for head in network.heads:
            head[0].weight.mul_(300)
    save_policy(network, folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, learned):
    """Runs that nothing interrupted, by policy."""
    out = tmp_path_factory.mktemp("whole")
    runs = {
        "random": dataclasses.replace(TINY, out=out / "random", select="inner_valid"),
        "learned": dataclasses.replace(TINY, out=out / "x", policy=str(learned), actions="sampled"),
    }
    for args in runs.values():
        finetune.main(args)
    return runs
