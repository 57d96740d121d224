"""Environments in several threads at once are as they are alone; the caller's state is kept."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from modes_support import all_at_once, state
from support import make, random_actions, trajectory
from torch import nn

from asg_env.models.student import seeded_linear
from asg_env.seeding import isolated_rng

SHORT = {"budget": 4, "window": 2}
THREADS = 3


def generators():
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
        torch.get_num_threads(),
    )


def test_students_of_one_seed_have_one_head():
    """35 of 800 used to differ, and the caller's generators were not as before."""
    problem, before = make().problem, generators()
    expected = problem.student(7).fc_new.state_dict()
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: problem.student(7).fc_new.state_dict(), range(200)))
    assert all(torch.equal(head[k], expected[k]) for head in heads for k in expected)
    assert generators() == before


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 32), (1, 7), (513, 3)])
def test_a_head_is_drawn_as_pytorch_draws_it(inputs, outputs):
    with isolated_rng(5):
        expected = [nn.Linear(inputs, outputs), nn.Linear(outputs, 2)]
    generator = torch.Generator().manual_seed(5)
    found = [seeded_linear(*size, generator) for size in ((inputs, outputs), (outputs, 2))]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)


def test_seeded_blocks_wait_for_each_other():
    before = generators()

    def draw(seed):
        with isolated_rng(seed):
            return [torch.rand(50).tolist(), np.random.rand(50).tolist(), random.random()]

    expected = [draw(seed) for seed in range(20)] * 10
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(draw, [*range(20)] * 10)) == expected
    assert generators() == before


@pytest.mark.parametrize("mode", [nullcontext, all_at_once])
@pytest.mark.parametrize(
    "kwargs", [{}, {"precision": "bf16", "regularizer": "feature_l2", "variant": "train"}]
)
def test_environments_in_threads_are_as_they_are_alone(kwargs, mode):
    def run(seed):
        env = make(**SHORT, **kwargs)
        frames = trajectory(env, seed, random_actions(env, 1, seed))
        return [*frames, *trajectory(env.fork(), None, []), repr(env.evaluate())]

    expected = [run(seed) for seed in range(2 * THREADS)]
    before = generators(), state()
    with mode(), ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(run, range(2 * THREADS))) == expected
    assert (generators(), state()) == before
