"""Running a recorded episode again, and whether it comes out the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import Watch, run_episode
from asg_env.evaluation.records import Record
from asg_env.trust import check_arguments, check_module

NEWER = (
    "dataset",
    "problem",
    "losses",
    "agent",
    "context",
)  # fields that records of older versions lack


class _Replayed:
    """A policy that repeats a record's actions."""

    def __init__(self, record: Record, dtype: Any) -> None:
        self.name, self.env_kwargs = record.policy, dict(record.kwargs)
        self.digest = record.policy_digest
        self._actions = iter(np.asarray(a, dtype=dtype) for a in record.actions)

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Nothing to prepare."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The next recorded action."""
        return next(self._actions)


def _watched(record: Record) -> Watch:
    if not record.evaluations:
        return "nothing"
    return "all" if len(record.evaluations) > 1 else "end"


def check_trusted(record: Record, where: str, trust: Collection[str] = ()) -> None:
    """Raise ValueError if replaying a record would run code of a module that is not in ``trust``.

    Args:
        record: out of a file.
        where: the file and the line, for the message.
        trust: modules; ``asg_env`` is always trusted.
    """
    check_module(record.env_id, f"{where}: env_id", trust)
    check_arguments(record.kwargs, where, trust)


def replay(record: Record, trust: Collection[str] = ()) -> list[str]:
    """Run a record's episode again.

    Args:
        record: what was played.
        trust: modules whose code the record may name, as ``"module:attribute"`` or ``"module:id"``.

    Returns:
        The differences found, in words; empty if rewards and final evaluation match exactly.

    Raises:
        ValueError: it names a module that is not trusted.
    """
    check_trusted(record, f"record of {record.policy!r}, seed {record.reset_seed}", trust)
    setup = EnvSetup(record.env_id, record.kwargs)
    env = setup.updated(device=record.device, threads=record.threads).make()
    policy = _Replayed(record, env.action_space.dtype)
    try:
        again = run_episode(env, policy, setup, record.reset_seed, _watched(record))
    except StopIteration:
        return [f"the episode goes on after the recorded {len(record.actions)} decisions"]
    finally:
        env.close()
    return _differences(record, again.by(record.identity))


def _differences(record: Record, again: Record) -> list[str]:
    """What is not the same, in words; what an older version did not note is left out."""
    found = []
    for name in (f.name for f in dataclasses.fields(Record) if f.name != "versions"):
        was, now = getattr(record, name), getattr(again, name)
        unnoted = name in NEWER and not was
        if repr(was) != repr(now) and not unnoted:  # repr, so that NaN equals NaN
            found.append(f"{name}: recorded {was}, now {now}")
    if found and again.versions != record.versions:
        found.append(f"versions: recorded {record.versions}, now {again.versions}")
    return found
