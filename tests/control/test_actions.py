"""Actions: their spaces, their meaning in closed form, their bounds."""

import gymnasium as gym
import numpy as np
import pytest
from support import make, started

from asg_env.control.actions import ACTIONS, FACTORS, HIGHEST, LOWEST

GROUPS = ("a", "b")


@pytest.mark.parametrize("name", ACTIONS)
def test_every_sample_is_a_scale_inside_the_bounds(name):
    kind = ACTIONS[name]
    space, before = kind.space(2), np.full(2, kind.start)
    space.seed(0)
    for _ in range(100):
        before = kind.scales(space.sample(), before, GROUPS)
        assert before.dtype == np.float64
        assert (before <= kind.highest).all()
        assert (before >= 0).all()


def test_levels_multiply_the_last_scales():
    before = np.array([0.2, 0.02])
    for k, factor in enumerate(FACTORS):
        np.testing.assert_allclose(
            ACTIONS["log"].scales([k, 6 - k], before, GROUPS), before * [factor, FACTORS[6 - k]]
        )
    assert FACTORS == (0.1, 1 / 3, 1 / 1.5, 1.0, 1.5, 3.0, 10.0)


def test_exponents_are_powers_of_ten_and_bounds_hold():
    kind = ACTIONS["log_continuous"]
    found = kind.scales(np.float32([0.5, -1]), np.array([1.0, 1.0]), GROUPS)
    np.testing.assert_allclose(found, [10**0.5, 0.1])
    assert kind.scales([1, -1], np.array([50.0, 5e-4]), GROUPS).tolist() == [HIGHEST, LOWEST]


@pytest.mark.parametrize(
    ("name", "action"),
    [("log", [7, 0]), ("log", [-1, 0]), ("log", [0.5, 0]), ("log_continuous", [1.1, 0])],
)
def test_actions_outside_are_refused(name, action):
    with pytest.raises(ValueError, match=r"out of range|whole numbers"):
        ACTIONS[name].scales(action, np.ones(2), GROUPS)


@pytest.mark.parametrize("name", ["log", "log_continuous"])
def test_an_episode_starts_at_start_scale(name):
    env = make(action=name, base_lr=0.2)
    assert env.reset(seed=0)[1]["lr"] == pytest.approx(np.full(6, 0.002))
    env = make(action=name, base_lr=0.2, start_scale=0.5)
    assert env.reset(seed=0)[1]["lr"] == pytest.approx(np.full(6, 0.1))
    hold = env.action_space.sample() * 0 + (3 if name == "log" else 0)
    assert env.step(hold)[4]["lr"] == pytest.approx(np.full(6, 0.1))


def test_scales_above_one_are_observed():
    env = started(action="log", observation="layerwise", start_scale=1.0, base_lr=1e-3)
    observation, *_ = env.step([6] * 6)
    shown = dict(zip(env.observation_names, observation, strict=True))
    assert shown["lr_scale/fc_new"] == 10
    assert env.observation_space.contains(observation)
    assert gym.spaces.Box(0, 1, (6,)).contains(started().reset(seed=0)[0][-6:])
