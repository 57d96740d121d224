"""The schedules that every learned policy is compared with."""

import json
import math

import numpy as np
import pytest
from gymnasium import spaces
from support import REPO

from asg_env.policies.schedules import SCHEDULES, SchedulePolicy, warmup_poly_factor


def scales_of(name, progress, groups=7, seed=0):
    return SCHEDULES[name](progress, groups, np.random.default_rng(seed))


@pytest.mark.parametrize("p", [0.0, 0.05, 0.1, 0.5, 0.8, 1.0])
def test_schedules_have_their_closed_form(p):
    small = np.array([0.1] * 6 + [1.0])
    cosine = (1 + math.cos(math.pi * p)) / 2
    poly = min(0.01 + 0.99 * (p / 0.1) ** 2, 1) * (1 - min(p, 0.8)) ** 0.9
    expected = {
        "large": np.ones(7),
        "small_backbone": small,
        "frozen_backbone": np.array([0.0] * 6 + [1.0]),
        "cosine": np.full(7, cosine),
        "small_backbone_cosine": cosine * small,
        "small_backbone_warmup_poly": poly * small,
        "layer_decay": np.array([0.65**k for k in (6, 5, 4, 3, 2, 1, 0)]),
        "large_warmup_poly": np.full(7, poly),
        "frozen_backbone_warmup_poly": np.array([0.0] * 6 + [poly]),
        "small_backbone_poly": (1 - min(p, 0.8)) ** 0.9 * small,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scales_of(name, p), values, rtol=1e-12, err_msg=name)
    assert set(expected) == set(SCHEDULES) - {"random"}


def test_random_draws_each_of_the_eleven_levels_alike():
    rng = np.random.default_rng(0)
    draws = np.concatenate([SCHEDULES["random"](0.5, 7, rng) for _ in range(1100)])
    levels, counts = np.unique(np.round(10 * draws), return_counts=True)
    assert levels.tolist() == list(range(11))
    assert counts.min() > 600  # 700 expected, standard deviation 25
    assert counts.max() < 800
    assert np.array_equal(scales_of("random", 0.1, seed=5), scales_of("random", 0.1, seed=5))


def test_warmup_poly_is_the_official_one():
    data = json.loads((REPO / "tests/data/official_vectors.json").read_text())
    for iteration, factor in data["lr_warm_poly"].items():
        assert warmup_poly_factor(int(iteration) / 1000) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("groups", [1, 6, 20])
def test_baselines_stay_in_the_action_space(name, groups):
    policy = SchedulePolicy(name)
    policy.begin([f"g{i}" for i in range(groups)], ["ce", "progress"], 0)
    space = spaces.Box(0.0, 1.0, (groups,), np.float32)
    for progress in np.linspace(0, 1, 21):
        assert policy.act(np.array([3.0, progress], dtype=np.float32)) in space


def test_an_unknown_schedule_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'cosin'; known: random, large.*layer_decay"):
        SchedulePolicy("cosin")
