"""Running a recorded episode again, and whether it comes out the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import Watch, run_episode
from asg_env.evaluation.records import Record, versions
from asg_env.trust import check_arguments, check_module

NEWER = (
    "dataset",
    "problem",
    "losses",
    "agent",
    "context",
)  # fields that records of older versions lack


START = 0.01  # relative, of losses before any training, between kinds of processors
DECIDED = ("groups", "actions", "lr_scales", "steps", "dataset", "threads", "context")


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
        The differences found, in words; empty if everything matches. What :func:`bits_promised`
        says decides whether that is to the bit.

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


def bits_promised(record: Record) -> bool:
    """Whether a replay here has to give the same bits: the same PyTorch on the same kind of
    processor (where the record notes it).

    Elsewhere rounding differs, and a training at a large learning rate magnifies that without
    bound. What is compared then is what was decided, and the losses before training, to START.
    """
    here, noted = versions(), record.versions
    return all(noted.get(name, here[name]) == here[name] for name in ("torch", "cpu"))


def how_compared(record: Record) -> str:
    """The same in words."""
    if bits_promised(record):
        return "bit for bit"
    made = ", ".join(f"{name} {record.versions.get(name, '?')}" for name in ("torch", "cpu"))
    return f"decisions, and losses before training within {START:.0%}: it was made with {made}"


def _differences(record: Record, again: Record) -> list[str]:
    """What is not the same, in words; what an older version did not note is left out."""
    if not bits_promised(record):
        return _differences_elsewhere(record, again)
    found = []
    for name in (f.name for f in dataclasses.fields(Record) if f.name != "versions"):
        was, now = getattr(record, name), getattr(again, name)
        unnoted = name in NEWER and not was
        if repr(was) != repr(now) and not unnoted:  # repr, so that NaN equals NaN
            found.append(f"{name}: recorded {was}, now {now}")
    if found and again.versions != record.versions:
        found.append(f"versions: recorded {record.versions}, now {again.versions}")
    return found


def _differences_elsewhere(record: Record, again: Record) -> list[str]:
    """What is not the same of what does not depend on rounding."""
    found = []
    for name in DECIDED:
        was, now = getattr(record, name), getattr(again, name)
        if was != now and not (name in NEWER and not was):
            found.append(f"{name}: recorded {was}, now {now}")
    for name, was in (record.losses[0] if record.losses else {}).items():
        now = again.losses[0].get(name, np.nan)
        if not np.isclose(now, was, rtol=START, atol=1e-6, equal_nan=True):
            found.append(f"{name} before training: recorded {was}, now {now}")
    return found
