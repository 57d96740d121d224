"""REINFORCE learns a bandit, in the direction of its loss."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from agents.reinforce import PRESETS, Trainer
from asg_env.learning import reinforce as updates_of
from asg_env.learning.reinforce import (
    PolicyLoss,
)
from asg_env.seeding import cpu_threads


class Bandits(gym.vector.VectorEnv):
    """Each group's signal says whether it wants the highest level (1) or the lowest (-1).

    Three decisions; the reward is the mean over groups of how near the level is, in [0, 1].
    """

    groups, decisions = 3, 3

    def __init__(self, copies):
        self.num_envs = copies
        self.single_action_space = spaces.MultiDiscrete([11] * self.groups)
        self.single_observation_space = spaces.Box(-1, 1, (5 + self.groups,), np.float32)

    def call(self, name):
        return ([f"g{i}" for i in range(self.groups)],) * self.num_envs

    def reset(self, *, seed=None, options=None):
        self.rng, self.done = np.random.default_rng(seed), 0
        return self._observe(), {}

    def _observe(self):
        self.wanted = self.rng.choice([-1.0, 1.0], (self.num_envs, self.groups))
        zeros = np.zeros((self.num_envs, 5))
        return np.concatenate([zeros, self.wanted], 1).astype(np.float32)

    def step(self, actions):
        scale = actions / 10
        reward = np.where(self.wanted > 0, scale, 1 - scale).mean(1)
        self.done += 1
        over = np.full(self.num_envs, self.done == self.decisions)
        info = {"steps": np.full(self.num_envs, self.done)}
        return self._observe(), reward, over, np.zeros(self.num_envs, dtype=bool), info


def learned(**change):
    """Mean reward of a decision in the last ten updates; at random it is .5, at best 1."""
    plain = {"updates": 200, "lr": 1e-2, "observation": "paper", "entropy": 0.0, "anneal": False}
    args = dataclasses.replace(PRESETS["fixed"], **{**plain, **change})
    trainer = Trainer(args, Bandits(args.num_envs))
    with cpu_threads(1):
        returns = [trainer.run_update()["return"] for _ in range(args.updates)]
    assert abs(np.mean(returns[:3]) / Bandits.decisions - 0.5) < 0.15
    return np.mean(returns[-10:]) / Bandits.decisions


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("heads", ["separate", "shared"])
def test_reinforce_learns_a_bandit(heads, seed):
    assert learned(heads=heads, scale="categorical", seed=seed) > 0.85


def test_reinforce_follows_the_sign_of_its_loss(monkeypatch):
    """The test above would see a flipped gradient."""
    original = updates_of.reinforce_loss

    def flipped(*arguments):
        loss, entropy = original(*arguments)
        return PolicyLoss(-loss, entropy)

    monkeypatch.setattr(updates_of, "reinforce_loss", flipped)
    assert learned(scale="categorical") < 0.15
