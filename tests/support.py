"""What several test files need: small environments, and trajectories that compare bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import asg_env  # noqa: F401 - registers the ids
from asg_env.envs import FinetuneEnv

REPO = Path(__file__).resolve().parent.parent
DIGITS_ID = "ASG-Digits-v0"
SMALL = {"budget": 20, "window": 5}  # optimizer steps: four decisions

Frame = list[str]


def make(env_id: str = DIGITS_ID, **kwargs: Any) -> FinetuneEnv:
    """A small environment without Gymnasium's wrappers, so that its own checks are what answers."""
    env = gym.make(env_id, **{**SMALL, **kwargs}).unwrapped
    assert isinstance(env, FinetuneEnv)
    return env


def started(seed: int = 0, **kwargs: Any) -> FinetuneEnv:
    """The same, reset."""
    env = make(**kwargs)
    env.reset(seed=seed)
    return env


def student(env: FinetuneEnv) -> Any:
    """The network that is being fine-tuned."""
    return env.student


def constant(env: FinetuneEnv, scale: float) -> np.ndarray:
    """The action that sets every group to one LR scale."""
    top = 10 if env.config.action == "discrete" else 1
    return np.full(env.action_space.shape, scale * top, dtype=env.action_space.dtype)


def random_actions(env: FinetuneEnv, count: int, seed: int) -> list[np.ndarray]:
    """``count`` actions that depend on ``seed`` alone."""
    rng = np.random.default_rng(seed)
    shape = (count, *env.action_space.shape)  # type: ignore[misc]
    if env.action_space.dtype == np.int64:
        levels = env.action_space.nvec.max()  # type: ignore[attr-defined]
        return list(rng.integers(0, levels, shape))
    return list(rng.random(shape).astype(np.float32))


def frame(observation: Any, info: Any, reward: Any = 0.0, *ends: Any) -> Frame:
    """One moment of a trajectory as text that is equal only if every bit is."""
    values = sorted((k, v) for k, v in info["losses"].items() if k[0] != "_")  # "_": vector masks
    losses = [(name, np.asarray(value).item()) for name, value in values]
    flags = [bool(end) for end in ends]
    bits = np.asarray(observation).tobytes().hex(), np.asarray(info["lr"]).tobytes().hex()
    return [*bits, repr(float(reward)), repr(losses), repr(flags)]


def play(env: FinetuneEnv, actions: Iterable[np.ndarray]) -> list[Frame]:
    """Take the actions; the frames that came of them."""
    frames = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        frames.append(frame(observation, info, reward, terminated, truncated))
    return frames


def trajectory(env: FinetuneEnv, seed: int | None, actions: Iterable[np.ndarray]) -> list[Frame]:
    """Reset and play."""
    return [frame(*env.reset(seed=seed)), *play(env, actions)]


def run_python(code: str, *arguments: str, path: Iterable[Path] = (), cwd: Path = REPO) -> str:
    """What a fresh Python process prints; it sees the checkout, and ``path`` before it."""
    folders = [*map(str, path), str(REPO / "tests"), str(REPO)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
