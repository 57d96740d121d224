"""Copies of an environment for Stable-Baselines3, whose episodes have seeds of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RescaleAction
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from asg_env.envs.setup import EnvSetup
from asg_env.learning.copies import EVAL_SEED, ending_workers, worker_env
from asg_env.workers import start_method


class Copy(gym.Wrapper[Any, Any, Any, Any]):
    """One of the environment's copies: each of its episodes has a seed of its own.

    Args:
        env: the environment.
        key: numbers that the seeds are made of, together with the episode's number.
    """

    def __init__(self, env: gym.Env[Any, Any], key: tuple[int, ...]) -> None:
        super().__init__(env)
        self.key, self.episode, self.playing = key, -1, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The next episode; ``seed`` is ignored."""
        self.episode, self.playing = self.episode + 1, False
        own = int(np.random.default_rng([*self.key, self.episode]).integers(EVAL_SEED))
        return self.env.reset(seed=own, options=options)

    def step(self, action: Any) -> Any:
        """As the environment does."""
        result = self.env.step(action)
        self.playing = not (result[2] or result[3])
        return result

    def save_episode(self, path: Path) -> tuple[int, bool]:
        """The episode's number, and whether it is under way, in which case ``path`` is written."""
        if self.playing:
            self.get_wrapper_attr("save")(path)
        return self.episode, self.playing

    def load_episode(self, episode: int, path: Path | None) -> None:
        """Start an episode; with a path, go on with the one that was saved there."""
        self.episode = episode - 1
        self.reset()
        if path is not None:
            self.get_wrapper_attr("load")(path)
            self.playing = True


def make_copy(setup: EnvSetup, key: tuple[int, ...]) -> Copy:
    """A copy; continuous actions are of [-1, 1], as SB3 wants them."""
    env = worker_env(setup)
    if setup.kwargs["action"] == "continuous":
        env = RescaleAction(env, np.float32(-1), np.float32(1))
    return Copy(env, key)


class WorkerCopies(SubprocVecEnv):
    """Copies in a process each; WorkerDied if one dies while they start."""

    def __init__(self, makers: list[Callable[[], gym.Env[Any, Any]]]) -> None:
        with ending_workers(self):
            super().__init__(makers, start_method(len(makers)))


def make_sb3_copies(
    setup: EnvSetup, keys: Sequence[tuple[int, ...]], in_process: bool
) -> DummyVecEnv | SubprocVecEnv:
    """A copy for each of ``keys``, in a process of its own or all ``in_process``."""
    makers: list[Callable[[], gym.Env[Any, Any]]] = [partial(make_copy, setup, key) for key in keys]
    return DummyVecEnv(makers) if in_process else WorkerCopies(makers)
