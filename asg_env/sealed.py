"""JSON that we write and read back: objects with a checksum, errors with the file's name."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asg_env.files import CHECKSUM, BadFile
from asg_env.writing import write_atomic

INFINITE = ("-Infinity", "Infinity")  # as text: JSON has no such number
DEEPEST = 50  # lists and objects inside one another: what we write has less than ten


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text.

    Args:
        text: UTF-8 where it is bytes.
        where: the file, and the line in it, for the message.

    Raises:
        BadFile: it is cut short, no JSON, no text, or too deeply nested.
    """
    try:
        found = json.loads(text)
        _check_depth(found, DEEPEST)
    except RecursionError as error:
        raise BadFile(f"{where} is nested too deeply to be one of our files") from error
    except ValueError as error:
        raise BadFile(f"{where} is damaged, or no JSON: {error}") from error
    return found


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise RecursionError
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, left - 1)


def strict(value: Any, nan: str | None = None) -> Any:
    """The same in JSON's own words: ``nan`` for NaN, "Infinity" and "-Infinity" for those."""
    if isinstance(value, Mapping):
        return {key: strict(inner, nan) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(inner, nan) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return nan if math.isnan(value) else INFINITE[value > 0]
    return value


def numbers(value: Any, nan: str | None = None) -> Any:
    """What :func:`strict` was given; with ``nan`` None, nothing in it was null."""
    if isinstance(value, dict):
        return {key: numbers(inner, nan) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner, nan) for inner in value]
    if value == nan or value in INFINITE:
        return math.nan if value == nan else float(value)
    return value


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON fields, see :func:`strict`, with their checksum in the last one."""
    plain = strict(fields)
    return {**plain, CHECKSUM: _checksum(plain)}


def _checksum(fields: Mapping[str, Any]) -> str:
    """SHA-256 of what is read back, the first 32 hexadecimal digits."""
    text = json.dumps(json.loads(json.dumps(fields)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def unsealed(text: str | bytes, where: str) -> dict[str, Any]:
    """The fields of a JSON object, less its checksum, which older versions did not write.

    Raises:
        BadFile: see :func:`parse_json`; it is no object, or not as it was written.
    """
    found = parse_json(text, where)
    if not isinstance(found, dict):
        raise BadFile(f"{where}: expected a JSON object, found a {type(found).__name__}")
    last = next(reversed(found), "")
    renamed = CHECKSUM not in found and found.get(last) == _checksum(_less(found, last))
    if renamed or (CHECKSUM in found and found.pop(CHECKSUM) != _checksum(found)):
        raise BadFile(
            f"{where} is not as it was written: its checksum does not fit. Restore the file, or "
            f"delete it and run again; if you changed it by hand, delete its {CHECKSUM!r} field"
        )
    return found


def _less(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def write_object(path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, whole or not at all."""
    write_atomic(path, (json.dumps(sealed(fields), indent=1) + "\n").encode())


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields that :func:`write_object` wrote.

    Raises:
        OSError: there is no such file, or it cannot be read.
        BadFile: naming the file, see :func:`unsealed`.
    """
    return unsealed(Path(path).read_bytes(), os.fspath(path))


def line_of(fields: Mapping[str, Any]) -> str:
    """A line of a JSONL file, with its checksum."""
    return json.dumps(sealed(fields)) + "\n"


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none if there is no file. A crash may have cut the last line.

    Raises:
        BadFile: naming the file and the line.
    """
    return [unsealed(line, where) for where, line in whole_lines(path)]


def whole_lines(path: str | os.PathLike[str]) -> list[tuple[str, bytes]]:
    """The lines that hold something, but not a last one without an end, each with where it is."""
    content = Path(path).read_bytes() if Path(path).exists() else b""
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")
    named = ((f"{os.fspath(path)}, line {k}", line) for k, line in enumerate(lines, 1))
    return [(where, line) for where, line in named if line.strip()]
