"""Copies of an environment in worker processes, and the seeds of what they play."""

from __future__ import annotations

import multiprocessing
import signal
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from asg_env.envs.setup import EnvSetup

EVAL_SEED = 1_000_000  # the first seed of a comparison; training seeds are below
VALID_SEED = 2 * EVAL_SEED  # the first seed of the evaluations during a training


def start_method() -> str:
    """How worker processes start."""
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


def ignore_interrupts() -> None:
    """In a worker: Ctrl-C is the main process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def worker_env(setup: EnvSetup, in_process: bool) -> gym.Env[Any, Any]:
    """A copy, in its worker."""
    if not in_process:
        ignore_interrupts()
    return setup.make()


def make_copies(setup: EnvSetup, count: int, in_process: bool) -> AsyncVectorEnv | SyncVectorEnv:
    """``count`` copies, each in a process of its own, or all ``in_process``."""
    makers = [partial(worker_env, setup, in_process)] * count
    return SyncVectorEnv(makers) if in_process else AsyncVectorEnv(makers, context=start_method())
