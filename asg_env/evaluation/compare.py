"""Play policies on held-out variants, side by side in processes, into records."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from asg_env.arguments import json_arguments
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.parallel import run_parallel
from asg_env.evaluation.play import play
from asg_env.evaluation.records import Record, append_records, read_records
from asg_env.locks import alone
from asg_env.policies.base import Identity, Policy, check_policy
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


def compare(
    entrants: Sequence[Policy | Entrant],
    setup: EnvSetup,
    episodes: Sequence[Episode],
    path: Path,
    processes: int = 2,
    play: Callable[[Policy, EnvSetup, int], Record] = play,
) -> list[Record]:
    """Play every policy in every episode; the same seeds, variants and networks for each.

    Records are appended to ``path`` as they come; those already there are not played again.

    Args:
        entrants: each has its own label; of a bare policy it is the name.
        setup: the environment; the policies' own arguments are added.
        episodes: each has its own seed.
        path: a JSONL file.
        processes: episodes at a time.
        play: how one is played; importable.

    Returns:
        The records, all of the first policy first.

    Raises:
        SystemExit: a record there is not what would be played now, or the images or the network
            changed in between.
        InUse: another process writes to ``path``.
        WorkerDied: a process that played ended; what was played before is in ``path``.
        TypeError: an entrant is no policy; the message says what it lacks.
        ValueError: two policies of one name, or two episodes of one seed.
    """
    players = as_entrants(entrants)
    jobs = _jobs(players, setup, episodes)
    with alone(path):
        done = _played(jobs, episodes, path, processes, play)
    return [done[who.label, e.seed] for who in players for e in episodes]


def _played(
    jobs: Mapping[tuple[str, int], _Job],
    episodes: Sequence[Episode],
    path: Path,
    processes: int,
    play: Callable[[Policy, EnvSetup, int], Record],
) -> dict[tuple[str, int], Record]:
    """The record of each job, after what is left has been played."""
    found = {(r.policy, r.reset_seed): r for r in read_records(path)}
    done = {key: record for key, record in found.items() if key in jobs}
    if done:
        where = jobs[next(iter(done))].setup
        problems = known_problems(where, [e.variant for e in episodes])
        for key, record in done.items():
            check_record(record, jobs[key], problems, path)
    left = [(play, *job) for key, job in jobs.items() if key not in done]
    with tqdm(total=len(jobs), initial=len(done), desc="comparing") as bar:

        def keep(record: Record) -> None:
            append_records(path, [record])
            done[record.policy, record.reset_seed] = record
            bar.update()

        if left:
            run_parallel(_play, left, processes, keep)
    check_one_problem(list(done.values()), path)
    return done


class _Job(NamedTuple):
    entrant: Entrant
    setup: EnvSetup
    seed: int


def _jobs(
    entrants: Sequence[Entrant], setup: EnvSetup, episodes: Sequence[Episode]
) -> dict[tuple[str, int], _Job]:
    """What is to be played, by label and seed, in the order of play."""
    check_names(entrants)
    seeds = [e.seed for e in episodes]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds}: expected each once")
    return {
        (who.label, e.seed): _Job(
            who, setup.updated(**who.policy.env_kwargs, variant=e.variant), e.seed
        )
        for e in episodes
        for who in entrants
    }


def _play(
    play: Callable[[Policy, EnvSetup, int], Record], entrant: Entrant, setup: EnvSetup, seed: int
) -> Record:
    return play(entrant.policy, setup, seed).by(entrant.identity)


def as_entrants(policies: Sequence[Policy | Entrant]) -> list[Entrant]:
    """Entrants, where a bare policy is who its name says.

    Raises:
        TypeError: one is no policy, or cannot be sent to another process.
    """
    made = []
    for one in policies:
        check_policy(one.policy if isinstance(one, Entrant) else one)
        made.append(one if isinstance(one, Entrant) else Entrant(one, Identity(one.name)))
    for who in made:
        _check_sendable(who)
    return made


def _check_sendable(who: Entrant) -> None:
    try:
        pickle.dumps(who.policy)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"policy {who.label!r} cannot be sent to a process that plays it ({error}): define its "
            "class at the top level of a module"
        ) from error


def check_names(entrants: Sequence[Entrant]) -> None:
    """ValueError if two have one label: their records could not be told apart."""
    names = [who.label for who in entrants]
    if len(set(names)) < len(names):
        raise ValueError(f"names of policies, {', '.join(names)}: expected each once")


def known_problems(setup: EnvSetup, variants: Sequence[str | None]) -> set[str]:
    """Fingerprints of the problems that an episode can be about."""
    task = setup.make_unwrapped().task
    names = set[str | None]()
    for name in variants:
        names |= set(task.variants(name)) if name in ("train", "test") else {name}
    return {task.load(name).fingerprint for name in names}


def check_record(record: Record, job: _Job, problems: Collection[str], path: Path) -> None:
    """Raise SystemExit, saying what differs, unless this episode would be played now."""
    now = json_arguments(job.setup.kwargs)
    names = dict.fromkeys([*now, *record.kwargs])
    pairs: dict[str, tuple[Any, Any]] = {"env_id": (record.env_id, job.setup.env)}
    pairs |= {name: (record.kwargs.get(name), now.get(name)) for name in names}
    differ = [f"{name} was {was!r}, is {is_!r}" for name, (was, is_) in pairs.items() if was != is_]
    if record.policy_digest != job.entrant.policy.digest:
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
