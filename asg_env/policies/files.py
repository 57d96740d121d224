"""A policy's two files, STEM.json and STEM.safetensors: written and read together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from asg_env.files import BadFile, check_finite, read_tensors, tensors_checksum, write_tensors
from asg_env.sealed import read_object, write_object

WEIGHTS = "weights"  # field of the JSON: the checksum of the tensors that belong to it


class PolicyFiles(NamedTuple):
    """``about``: what the JSON says, ``kind`` included; ``tensors``: finite; ``path``: of the JSON,
    for messages."""

    about: dict[str, Any]
    tensors: dict[str, Tensor]
    path: Path


def write_policy(
    folder: Path, stem: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write both files; return the path of the ``.safetensors`` one."""
    path = folder / f"{stem}.safetensors"
    total = write_tensors(path, tensors, {})
    write_object(path.with_suffix(".json"), {**about, WEIGHTS: total})
    return path


def read_policy(path: Path, writer: str) -> PolicyFiles:
    """Read both files of a policy; nothing in them is executed.

    Args:
        path: one of the two files.
        writer: the script that writes such a policy, for the message.

    Raises:
        FileNotFoundError: one is missing.
        BadFile: one is damaged, or they are not of the same policy. Those of older versions do not
            say what belongs together.
    """
    path, description = path.with_suffix(".safetensors"), path.with_suffix(".json")
    for file in (path, description):
        if not file.is_file():
            raise FileNotFoundError(f"no policy file {file}; {writer} writes it")
    with blamed_on_version(description):
        about = read_object(description)
    with blamed_on_version(path):
        tensors, metadata = read_tensors(path)
        check_finite(tensors, str(path))
        if about.pop(WEIGHTS, None) not in (None, tensors_checksum(tensors, metadata)):
            raise BadFile(
                f"{description.name} and {path.name} are not of the same policy: restore both, or "
                "delete them and train again"
            )
    return PolicyFiles(about, tensors, description)


@contextmanager
def blamed_on_version(path: Path) -> Iterator[None]:
    """Turn what wrong content of a policy's file raises into BadFile, which names the file."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, KeyError, AssertionError, OverflowError) as error:
        raise BadFile(f"{path} is no policy of this version: {error}") from error
