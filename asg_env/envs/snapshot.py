"""Saving and loading an episode: tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from torch import Tensor

from asg_env.files import read_tensors, write_tensors

FORMAT = "asg_env-snapshot-1"


class Snapshot(NamedTuple):
    """``tensors`` by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    metadata = {"format": FORMAT, "state": json.dumps(snapshot.state)}
    write_tensors(path, snapshot.tensors, metadata)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read a snapshot; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, or not a snapshot.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{os.fspath(path)!r} is no snapshot of an asg_env environment: expected format "
            f"{FORMAT!r}, found {metadata.get('format')!r}; write one with env.unwrapped.save(path)"
        )
    return Snapshot(tensors, json.loads(metadata["state"]))
