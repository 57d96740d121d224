"""Saving and loading an episode: tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils import seeding
from safetensors.torch import load, save
from torch import Tensor

from asg_env.files import BadFile, read_tensors, write_tensors
from asg_env.sealed import numbers, parse_json, strict
from asg_env.tasks.base import Task

PORTABLE = ("device", "threads")  # arguments under other values of which it may be loaded
FORMAT = "asg_env-snapshot-1"


class Snapshot(NamedTuple):
    """``tensors`` by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    metadata = {"format": FORMAT, "state": json.dumps(strict(snapshot.state, "NaN"))}
    write_tensors(path, snapshot.tensors, metadata)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read a snapshot; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        BadFile: the file is damaged, or not a snapshot.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise BadFile(
            f"{os.fspath(path)!r} is no snapshot of an asg_env environment: expected format "
            f"{FORMAT!r}, found {metadata.get('format')!r}; write one with env.unwrapped.save(path)"
        )
    state = parse_json(metadata.get("state", ""), f"the state in {os.fspath(path)!r}")
    return Snapshot(tensors, numbers(state, "NaN"))


def packed(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
    """A snapshot as a value that can be pickled: bytes, as a pickled tensor may share its memory
    with the process that it came from."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.tensors.items()}
    return save(tensors), snapshot.state


def unpacked(value: tuple[bytes, dict[str, Any]]) -> Snapshot:
    """The snapshot of :func:`packed`."""
    return Snapshot(load(value[0]), value[1])


def check_fits(snapshot: Snapshot, own: Mapping[str, Any], task: Task, path: str) -> None:
    """Raise ValueError, saying what differs, if an environment cannot continue a snapshot.

    Args:
        snapshot: with ``task``, ``config``, ``problem`` and ``episode`` in its state.
        own: the environment's ``task`` (name) and ``config`` (arguments as JSON values).
        task: the environment's.
        path: of the snapshot, for the message.
    """
    state = snapshot.state
    if state["task"] != own["task"]:
        raise ValueError(f"{path!r} is of task {state['task']!r}, this is {own['task']!r}")
    for name, value in state["config"].items():
        now = own["config"].get(name)
        if name not in PORTABLE and now != value:
            raise ValueError(
                f"{path!r} was saved with {name}={value!r}, this environment has "
                f"{name}={now!r}: make it with the same arguments"
            )
    check_problem(snapshot, task, repr(path))


def check_problem(snapshot: Snapshot, task: Task, what: str) -> None:
    """Raise ValueError, saying ``what`` it is, unless the task has the snapshot's problem."""
    state = snapshot.state
    if state["problem"] != task.load(state["episode"]["variant"]).fingerprint:
        raise ValueError(
            f"{what} was saved with other images, pretrained weights, layer groups or "
            "evaluation than this environment has: make it with the same ones"
        )


def np_random_of(snapshot: Snapshot) -> np.random.Generator:
    """The environment's generator, as it was."""
    generator, _ = seeding.np_random(0)
    generator.bit_generator.state = snapshot.state["np_random"]
    return generator
