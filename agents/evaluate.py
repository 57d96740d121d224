"""Play policies on held-out variants, side by side in processes, into records."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from tqdm import tqdm

import asg_env  # noqa: F401 - registers the ids
from asg_env.arguments import json_arguments
from asg_env.envs import FinetuneEnv
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

    Raises:
        SystemExit: a record there is not what would be played now, or the images or the network
            changed in between.
    """
    kwargs = {p.name: {**env_kwargs, **p.env_kwargs, "variant": variant} for p in policies}
    wanted = {(p.name, s) for p in policies for s in seeds}
    found = {(r.policy, r.reset_seed): r for r in read_records(path)}
    done = {key: record for key, record in found.items() if key in wanted}
    if done:
        problems = known_problems(env_id, kwargs[policies[0].name], variant)
        for record in done.values():
            check_record(record, env_id, kwargs[record.policy], problems, path)
    jobs = [(p, s) for s in seeds for p in policies if (p.name, s) not in done]
    bar = tqdm(total=len(policies) * len(seeds), initial=len(done), desc="comparing")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=worker) as pool:
        futures = [pool.submit(play, p, env_id, kwargs[p.name], s) for p, s in jobs]
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
    check_one_problem(list(done.values()), path)
    return [done[p.name, s] for p in policies for s in seeds]


def known_problems(env_id: str, kwargs: dict[str, Any], variant: str | None) -> set[str]:
    """Fingerprints of the problems that an episode can be about."""
    env = gym.make(env_id, **kwargs).unwrapped
    assert isinstance(env, FinetuneEnv)
    names = env.task.variants(variant) if variant in ("train", "test") else [variant]
    return {env.task.load(name).fingerprint for name in names}


def check_record(
    record: Record, env_id: str, kwargs: Mapping[str, Any], problems: Collection[str], path: Path
) -> None:
    """Raise SystemExit, saying what differs, unless this episode would be played now."""
    now = json_arguments(kwargs)
    names = dict.fromkeys([*now, *record.kwargs])
    pairs: dict[str, tuple[Any, Any]] = {"env_id": (record.env_id, env_id)}
    pairs |= {name: (record.kwargs.get(name), now.get(name)) for name in names}
    differ = [f"{name} was {was!r}, is {is_!r}" for name, (was, is_) in pairs.items() if was != is_]
    if record.problem not in problems:
        older = " (an older version, which did not note them)" if not record.problem else ""
        differ.append(f"the images or the network are others{older}")
    if differ:
        raise SystemExit(_refusal(record, "; ".join(differ), path))


def check_one_problem(records: Sequence[Record], path: Path) -> None:
    """Raise SystemExit unless all records of a seed are about the same images and weights."""
    first: dict[int, Record] = {}
    for record in records:
        other = first.setdefault(record.reset_seed, record)
        if record.problem != other.problem:
            what = f"its images or network are not those of policy {other.policy!r}"
            raise SystemExit(_refusal(record, what, path))


def _refusal(record: Record, reason: str, path: Path) -> str:
    return (
        f"{path} holds a record of policy {record.policy!r}, seed {record.reset_seed}, that does "
        f"not belong in this table: {reason}: choose another --out, or delete {path}"
    )


def worker() -> None:
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
