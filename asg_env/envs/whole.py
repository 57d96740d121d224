"""Whether a snapshot out of a file is whole: what it says of an episode fits the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from asg_env.envs.ledger import Ledger
from asg_env.envs.snapshot import Snapshot
from asg_env.files import BadFile, check_finite
from asg_env.ranges import whole
from asg_env.typed import LARGEST, from_fields

WRONG = (
    *(KeyError, TypeError, RuntimeError, ValueError),
    *(OverflowError, AttributeError, IndexError, MemoryError),
)
"""What is raised where a value of a file is put to use and is not what it should be."""


@dataclass(frozen=True)
class State:
    """The JSON part of a snapshot; ``position`` is that in the order of batches."""

    task: str
    config: dict[str, Any]
    problem: str
    episode: Ledger
    position: Annotated[int, whole(0, LARGEST)]
    np_random: dict[str, Any]


@contextmanager
def blamed_on_snapshot(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a wrong snapshot raises into BadFile, which names the file."""
    name = repr(os.fspath(path))
    try:
        yield
    except WRONG as error:
        if name in str(error):
            raise BadFile(str(error)) from error
        raise BadFile(
            f"{name} is no whole snapshot: {error}; restore it, or delete it and run again"
        ) from error


def check_state(snapshot: Snapshot) -> None:
    """Raise ValueError unless the JSON part has the fields that it should have."""
    from_fields(State, snapshot.state)


def check_episode(
    snapshot: Snapshot, plan: tuple[int, Sequence[int]], groups: int, observations: int
) -> None:
    """Raise ValueError unless a snapshot's ledger is one of the environment's episodes.

    Args:
        snapshot: after :func:`check_state`.
        plan: optimizer steps before the first decision, and those of each decision.
        groups: layer groups.
        observations: numbers that are observed.
    """
    ledger = from_fields(Ledger, snapshot.state["episode"])
    before, windows = plan
    if ledger.windows != list(windows) or not 0 <= ledger.decision <= len(windows):
        raise ValueError("its windows are not those of this environment")
    if ledger.steps != before + sum(windows[: ledger.decision]):
        raise ValueError(f"{ledger.steps} steps are not those of {ledger.decision} decisions")
    if snapshot.state["position"] < ledger.steps:
        raise ValueError("its position in the order of batches is before its steps")
    if not 0 <= ledger.seed < 2**31 or len(ledger.history) != ledger.decision + 1:
        raise ValueError("its seed, or its history, is not that of an episode")
    _check_numbers("scales", ledger.scales, groups)
    _check_numbers("observation", ledger.observation, observations)
    plain = (ledger.phi_start, ledger.phi, ledger.train_loss, ledger.returned)
    if not all(map(math.isfinite, (*plain, *ledger.rewards.values()))):
        raise ValueError("a loss or reward in it is no finite number")
    if ledger.decision and ledger.error is None:  # what diverged may hold NaN
        check_finite(snapshot.tensors, "it")


def _check_numbers(name: str, values: Sequence[float], count: int) -> None:
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"its {name} are not {count} finite numbers")
