"""Saving and loading an episode: tensors and JSON in one safetensors file, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT = "asg_env-snapshot-1"


class Snapshot(NamedTuple):
    """``tensors`` by name, and everything else as JSON values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OSError: naming the path, if it cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, or of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    try:
        with safe_open(os.fspath(path), "pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not a whole safetensors file (truncated, or another format "
            f"such as a pickle, which is never loaded): {error}"
        ) from error


def write_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a snapshot, whole or not at all."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.tensors.items()}
    metadata = {"format": FORMAT, "state": json.dumps(snapshot.state)}
    write_atomic(path, save(tensors, metadata))


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
