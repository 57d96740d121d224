"""Damaging files on purpose: what a disk, a crash, a stranger or a hand may do to them."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from asg_env.files import CHECKSUM

DEEP = "deep"  # stands for what no Python object can be dumped as
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2.5, "", "x", "evil:f", [], {}, [1]),
    *(2**63, 30_000, 10**30, 1e308, math.nan, math.inf, DEEP),
)
"""What a value is replaced by."""


def bytes_damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One flipped bit, or a range that is cut off, lost, repeated, zeroed, or no text."""
    size = max(1, len(content))
    start = int(rng.integers(size))
    end = min(size, start + int(rng.integers(1, 65)))
    way = int(rng.integers(9))
    if way < 4:
        flipped = bytearray(content)
        flipped[start] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    middle = (b"", content[start:end] * 2, bytes(end - start), b"\xff\xfe")
    return content[:start] if way == 8 else content[:start] + middle[way - 4] + content[end:]


def json_damaged(value: Any, rng: np.random.Generator) -> str:
    """JSON with one value replaced, lost or exchanged, anywhere in it."""
    places = list(_places(value))
    holder, key = places[int(rng.integers(len(places)))]
    way = int(rng.integers(8))
    if way == 0:
        del holder[key]
    elif way == 1:
        other, its = places[int(rng.integers(len(places)))]
        holder[key] = json.loads(json.dumps(other[its]))
    else:
        holder[key] = ODD[int(rng.integers(len(ODD)))]
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 20_000 + "]" * 20_000)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def damaged_json(content: bytes, rng: np.random.Generator, by_hand: bool) -> bytes:
    """A JSON or JSONL file with one value damaged; by hand: its checksum is removed, too."""
    whole = content.startswith(b"{\n")
    lines = [content.decode()] if whole else content.decode().splitlines()
    k = int(rng.integers(len(lines)))
    fields = json.loads(lines[k])
    if by_hand:
        fields.pop(CHECKSUM, None)
    lines[k] = json_damaged(fields, rng)
    return ("\n".join(lines) + "\n").encode(errors="replace")


def damaged_tensors(content: bytes, rng: np.random.Generator, by_hand: bool) -> bytes:
    """A safetensors file with its header damaged; by hand: one of its notes, unsealed."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    if by_hand:
        header.get("__metadata__", {}).pop(CHECKSUM, None)
        notes = [k for k, v in header.get("__metadata__", {}).items() if v[:1] == "{"]
        if notes:
            fields = json.loads(header["__metadata__"][notes[0]])
            header["__metadata__"][notes[0]] = json_damaged(fields, rng)
        text = json.dumps(header)
    else:
        text = json_damaged(header, rng)
    encoded = text.encode()
    length = len(encoded) if rng.random() < 0.9 else int(rng.integers(2**62))
    return length.to_bytes(8, "little") + encoded + content[start:]


def foreign_tensors(content: bytes, rng: np.random.Generator) -> bytes:
    """The same file as another tool might write it: a NaN in a tensor, or integers for floats."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        with safe_open(file.name, "pt") as opened:
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
            notes = {k: v for k, v in (opened.metadata() or {}).items() if k != CHECKSUM}
    names = sorted(name for name, v in tensors.items() if v.is_floating_point() and v.numel())
    name = names[int(rng.integers(len(names)))]
    if rng.random() < 0.5:
        tensors[name].view(-1)[int(rng.integers(tensors[name].numel()))] = math.nan
    else:
        tensors[name] = tensors[name].to(torch.int32)
    return save(tensors, notes)


def damaged(path: Path, rng: np.random.Generator) -> tuple[str, bytes]:
    """A way and what it makes of a file: ``by hand`` is the caller's word, ``bytes``, ``values``
    and ``foreign`` are not."""
    content, choice = path.read_bytes(), rng.random()
    if path.suffix == ".pth" or choice < 0.5:
        return "bytes", bytes_damaged(content, rng)
    change = damaged_tensors if path.suffix == ".safetensors" else damaged_json
    if path.suffix == ".safetensors" and choice > 0.9:
        return "foreign", foreign_tensors(content, rng)
    by_hand = choice > 0.75
    return ("by hand" if by_hand else "values"), change(content, rng, by_hand)
