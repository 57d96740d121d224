"""What several of the tests of agents/sb3.py need."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from agents import sb3
from asg_env.learning.run_folder import open_run
from asg_env.policies.sb3_algorithms import ALGORITHMS

SHORT = {"budget": 4, "window": 2}  # two decisions


class Bandit(gym.Env):
    """Each group's signal says whether it wants the highest scale (1) or the lowest (-1).

    The reward is the mean over groups of how near the scale is, in [0, 1]; at random it is .5.
    ``ragged``: episodes last two to four decisions, so that copies are soon out of step.
    """

    group_names = ["a", "b", "head"]
    observation_names = ["progress", "wanted/a", "wanted/b", "wanted/head"]
    config, problem = SimpleNamespace(base_lr=1.0), SimpleNamespace(fingerprint="")
    dataset_name = "bandit"
    decisions, device, threads = 3, torch.device("cpu"), 1

    def __init__(self, action, observation="paper", variant=None, ragged=False):
        self.discrete, self.ragged = action == "discrete", ragged
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = (
            spaces.MultiDiscrete([11] * 3)
            if self.discrete
            else spaces.Box(0.0, 1.0, (3,), np.float32)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.done = 0
        self.length = int(self.np_random.integers(2, 5)) if self.ragged else self.decisions
        return self._observe(), self._info(np.zeros(3))

    def _observe(self):
        self.wanted = self.np_random.choice([-1.0, 1.0], 3)
        return np.array([self.done / 4, *self.wanted], dtype=np.float32)

    def _info(self, scale):
        return {"lr": scale, "steps": 10 * self.done, "losses": {}}

    def step(self, action):
        assert self.action_space.contains(action)
        scale = np.asarray(action) / (10 if self.discrete else 1)
        reward = float(np.where(self.wanted > 0, scale, 1 - scale).mean())
        self.done += 1
        return self._observe(), reward, self.done == self.length, False, self._info(scale)

    def evaluate(self, split):
        return {"accuracy": 0.5}

    def save(self, path):
        rng = self.np_random.bit_generator.state
        state = [self.done, self.length, self.wanted.tolist(), rng]
        Path(path).write_text(json.dumps(state))

    def load(self, path):
        self.done, self.length, wanted, rng = json.loads(Path(path).read_text())
        self.wanted, self.np_random.bit_generator.state = np.array(wanted), rng


gym.register("SB3Bandit-v0", Bandit, disable_env_checker=True)


TINY = sb3.Args(
    *("ppo",), env_kwargs=SHORT, workers="none", num_envs=2, episodes=4, eval_every=0, seed=1
)


BANDIT = dataclasses.replace(TINY, env="SB3Bandit-v0", env_kwargs={}, episodes=24)


def small(algo):
    """Hyperparameters with which an algorithm learns within a few episodes at all."""
    return {"warmup": 2, "batch_size": 8} if "warmup" in ALGORITHMS[algo].run else {}


def opened(folder, args, **change):
    args = dataclasses.replace(args, out=folder, **change)
    open_run(folder, dataclasses.asdict(args))
    return args


def rows_of(folder):
    """The logged rows, less their wall-clock time and the checksum, which knows it."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "checksum")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]
