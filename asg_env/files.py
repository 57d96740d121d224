"""Files of tensors, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from asg_env.writing import write_atomic

CHECKSUM = "checksum"  # a safetensors file's entry of metadata, a JSON object's field


class BadFile(ValueError):
    """A file does not hold what was expected there; the message names it and says what to do."""


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> str:
    """Write a safetensors file, whole or not at all, with a checksum; equal content, equal bytes.

    Returns:
        The checksum, see :func:`tensors_checksum`.
    """
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    plain_metadata = {k: v for k, v in metadata.items() if k != CHECKSUM}
    total = tensors_checksum(plain, plain_metadata)
    write_atomic(path, _ordered(save(plain, {**plain_metadata, CHECKSUM: total})))
    return total


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its header sorted: safetensors orders the metadata at random."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def tensors_checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, dtypes, shapes, values and metadata, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for key, value in sorted(metadata.items()):
        total.update(f"{key!r}: {value!r}\n".encode(errors="surrogatepass"))
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        BadFile: the file is truncated, of another format, or not as it was written. Without a
            checksum (older versions wrote none) the last cannot be known.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {name!r}")
    try:
        with safe_open(name, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:  # of a damaged header nearly anything is raised
        raise BadFile(
            f"{name!r} is not a whole safetensors file (truncated, or another format "
            f"such as a pickle, which is never loaded): {error}"
        ) from error
    if metadata.pop(CHECKSUM, None) not in (None, tensors_checksum(tensors, metadata)):
        raise BadFile(
            f"{name!r} is damaged: its checksum does not fit what it holds; restore the file, or "
            "delete it and run again"
        )
    return tensors, metadata


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise BadFile, naming the tensor, if one holds NaN or infinity."""
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise BadFile(f"{where}: {name} holds something that is no finite number")


def check_like(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise BadFile unless tensors have the names, shapes and kinds of numbers that are expected.

    Floats may have another precision, as they are converted; integers are no weights.

    Args:
        found: to be used.
        expected: whose values do not matter; they may be on the meta device.
        where: the file, for the message.
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        parts = {"missing": missing, "unknown": unknown}
        said = "; ".join(f"{what} {_some(names)}" for what, names in parts.items() if names)
        raise BadFile(f"{where} holds other tensors than expected: {said}")
    for name, own in expected.items():
        value = found[name]
        if value.shape != own.shape:
            was, wanted = tuple(value.shape), tuple(own.shape)
            raise BadFile(f"{where}: {name} has shape {was}, expected {wanted}")
        if value.dtype != own.dtype and not (value.is_floating_point() and own.is_floating_point()):
            raise BadFile(f"{where}: {name} holds {value.dtype}, expected {own.dtype}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
