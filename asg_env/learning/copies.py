"""Copies of an environment in worker processes, and the seeds of what they play."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from asg_env.envs.setup import EnvSetup
from asg_env.workers import WorkerDied, await_deaths, end_all, prepare_worker, start_method

EVAL_SEED = 1_000_000  # the first seed of a comparison; training seeds are below
VALID_SEED = 2 * EVAL_SEED  # the first seed of the evaluations during a training


class WorkerCopies(AsyncVectorEnv):
    """Copies in a process each; WorkerDied if one dies while they start."""

    def __init__(self, makers: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        with ending_workers(self):
            super().__init__(makers, context=start_method(len(makers)))


def worker_env(setup: EnvSetup) -> gym.Env[Any, Any]:
    """A copy, in its worker; once also in the main process, which learns the spaces from it."""
    prepare_worker()
    return setup.make()


def make_copies(setup: EnvSetup, count: int, in_process: bool) -> AsyncVectorEnv | SyncVectorEnv:
    """``count`` copies, each in a process of its own, or all ``in_process``."""
    makers = [partial(worker_env, setup)] * count
    return SyncVectorEnv(makers) if in_process else WorkerCopies(makers)


@contextmanager
def ending_workers(envs: Any) -> Iterator[None]:
    """If the block fails, end the copies' workers at once: an interrupted step is never answered.

    Raises:
        WorkerDied: it failed because a worker died.
    """
    try:
        yield
    except BaseException as error:
        processes = list(getattr(envs, "processes", []))
        died = await_deaths(processes) if isinstance(error, (EOFError, ConnectionError)) else ""
        end_all(processes)
        envs.closed = True
        if died:
            raise WorkerDied(died) from error
        raise


@contextmanager
def closing(envs: Any) -> Iterator[None]:
    """Close the copies at the end of a block; see :func:`ending_workers` for one that fails."""
    with ending_workers(envs.unwrapped):
        yield
    envs.close()
