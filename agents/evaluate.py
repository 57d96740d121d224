"""Play policies on held-out variants, side by side in processes, into records."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from tqdm import tqdm

import asg_env  # noqa: F401 - registers the ids
from asg_env.records import Policy, Record, append_records, read_records, run_episode


def compare(
    policies: Sequence[Policy],
    env_id: str,
    env_kwargs: dict[str, Any],
    variant: str | None,
    seeds: Sequence[int],
    path: Path,
    processes: int = 2,
) -> list[Record]:
    """Play every policy on every seed; the same seeds, variants and networks for each.

    Records are appended to ``path`` as they come; those already there are not played again.
    """
    done = {(r.policy, r.reset_seed): r for r in read_records(path)}
    jobs = [(p, s) for s in seeds for p in policies if (p.name, s) not in done]
    bar = tqdm(total=len(policies) * len(seeds), initial=len(done), desc="comparing")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_worker) as pool:
        futures = [
            pool.submit(play, p, env_id, {**env_kwargs, **p.env_kwargs, "variant": variant}, s)
            for p, s in jobs
        ]
        try:
            for future in as_completed(futures):
                record = future.result()
                append_records(path, [record])
                done[record.policy, record.reset_seed] = record
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    bar.close()
    return [done[p.name, s] for p in policies for s in seeds]


def _worker() -> None:
    """One CPU thread, and an end if the main process is killed."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def play(policy: Policy, env_id: str, kwargs: dict[str, Any], seed: int) -> Record:
    """One episode."""
    env = gym.make(env_id, **kwargs)
    try:
        return run_episode(env, policy, env_id, kwargs, seed)
    finally:
        env.close()
