"""Play policies on held-out variants, side by side in processes, into records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from tqdm import tqdm

import asg_env  # noqa: F401 - registers the ids
from asg_env.arguments import json_arguments
from asg_env.envs import FinetuneEnv
from asg_env.evaluation.parallel import run_parallel
from asg_env.evaluation.play import Watch, run_episode
from asg_env.evaluation.records import Record, append_records, read_records
from asg_env.policies.base import Identity, Policy
from asg_env.tasks.base import Task


@dataclass(frozen=True)
class Entrant:
    """A policy and who it is."""

    policy: Policy
    identity: Identity

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.identity.label


class Episode(NamedTuple):
    """What is played: a variant of the task, or "train" or "test", and the reset's seed."""

    variant: str | None
    seed: int


def drawn(variant: str | None, seeds: Sequence[int]) -> list[Episode]:
    """Episodes of a variant; where it is "train" or "test", each seed draws one."""
    return [Episode(variant, seed) for seed in seeds]


def spread(task: Task, variant: str | None, first: int, count: int) -> list[Episode]:
    """At least ``count`` episodes, equally many of each variant of "train" or "test".

    Args:
        task: whose variants.
        variant: a variant, or "train" or "test".
        first: the first seed; each episode has its own.
        count: how many, rounded up to a multiple of the variants.
    """
    names = task.variants(variant) if variant in ("train", "test") else [variant]
    rounds = -(-count // len(names))
    return [Episode(names[k % len(names)], first + k) for k in range(rounds * len(names))]


def play(
    policy: Policy, env_id: str, kwargs: dict[str, Any], seed: int, watch: Watch = "nothing"
) -> Record:
    """One episode."""
    env = gym.make(env_id, **kwargs)
    try:
        return run_episode(env, policy, env_id, kwargs, seed, watch)
    finally:
        env.close()


def compare(
    policies: Sequence[Policy],
    env_id: str,
    env_kwargs: dict[str, Any],
    episodes: Sequence[Episode],
    path: Path,
    processes: int = 2,
    play: Callable[[Policy, str, dict[str, Any], int], Record] = play,
) -> list[Record]:
    """Play every policy in every episode; the same seeds, variants and networks for each.

    Records are appended to ``path`` as they come; those already there are not played again.

    Args:
        policies: each has its own name.
        env_id, env_kwargs: the environment; the policies' own arguments are added.
        episodes: each has its own seed.
        path: a JSONL file.
        processes: episodes at a time.
        play: how one is played; importable.

    Returns:
        The records, all of the first policy first.

    Raises:
        SystemExit: a record there is not what would be played now, or the images or the network
            changed in between.
        ValueError: two policies of one name, or two episodes of one seed.
    """
    check_names(policies)
    seeds = [e.seed for e in episodes]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds}: expected each once")
    jobs = {
        (p.name, e.seed): (p, env_id, {**env_kwargs, **p.env_kwargs, "variant": e.variant}, e.seed)
        for e in episodes
        for p in policies
    }
    found = {(r.policy, r.reset_seed): r for r in read_records(path)}
    done = {key: record for key, record in found.items() if key in jobs}
    if done:
        problems = known_problems(env_id, jobs[next(iter(done))][2], [e.variant for e in episodes])
        for key, record in done.items():
            policy, _, kwargs, _ = jobs[key]
            check_record(record, policy, env_id, kwargs, problems, path)
    left = [job for key, job in jobs.items() if key not in done]
    with tqdm(total=len(jobs), initial=len(done), desc="comparing") as bar:

        def keep(record: Record) -> None:
            append_records(path, [record])
            done[record.policy, record.reset_seed] = record
            bar.update()

        if left:
            run_parallel(play, left, processes, keep)
    check_one_problem(list(done.values()), path)
    return [done[p.name, e.seed] for p in policies for e in episodes]


def check_names(policies: Sequence[Policy]) -> None:
    """ValueError if two policies have one name: their records could not be told apart."""
    names = [policy.name for policy in policies]
    if len(set(names)) < len(names):
        raise ValueError(f"names of policies, {', '.join(names)}: expected each once")


def known_problems(env_id: str, kwargs: dict[str, Any], variants: Sequence[str | None]) -> set[str]:
    """Fingerprints of the problems that an episode can be about."""
    env = gym.make(env_id, **kwargs).unwrapped
    assert isinstance(env, FinetuneEnv)
    names = set[str | None]()
    for name in variants:
        names |= set(env.task.variants(name)) if name in ("train", "test") else {name}
    return {env.task.load(name).fingerprint for name in names}


def check_record(
    record: Record,
    policy: Policy,
    env_id: str,
    kwargs: Mapping[str, Any],
    problems: Collection[str],
    path: Path,
) -> None:
    """Raise SystemExit, saying what differs, unless this episode would be played now."""
    now = json_arguments(kwargs)
    names = dict.fromkeys([*now, *record.kwargs])
    pairs: dict[str, tuple[Any, Any]] = {"env_id": (record.env_id, env_id)}
    pairs |= {name: (record.kwargs.get(name), now.get(name)) for name in names}
    differ = [f"{name} was {was!r}, is {is_!r}" for name, (was, is_) in pairs.items() if was != is_]
    if record.policy_digest != policy.digest:
        older = " (or an older version wrote it)" if not record.policy_digest else ""
        differ.append(f"the policy is another one now{older}")
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
