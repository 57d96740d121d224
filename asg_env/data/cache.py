"""Rows that are computed once: decoded images and teacher outputs, in memory or in a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np


class RowCache:
    """An array of rows, each filled at most once.

    A row counts as filled only after it was written, so a killed process leaves no half row.

    Attributes:
        rows: (N, ...) array; a row means something only where ``filled``.
        filled: (N,) bool.
    """

    def __init__(self, rows: np.ndarray, filled: np.ndarray) -> None:
        self.rows, self.filled = rows, filled

    @staticmethod
    def in_memory(shape: tuple[int, ...], dtype: type) -> RowCache:
        """An empty cache in memory, (N, ...)."""
        return RowCache(np.empty(shape, dtype), np.zeros(shape[0], bool))

    @staticmethod
    def in_folder(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> RowCache:
        """The cache ``name`` of a folder, made if it is not there. Processes may share it.

        Raises:
            OSError: naming the folder, if it cannot be written or the disk is too full.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return RowCache(
            _mapped(folder / f"{name}.rows.npy", shape, dtype),
            _mapped(folder / f"{name}.filled.npy", shape[:1], np.bool_),
        )

    def put(self, index: int | slice, values: np.ndarray) -> None:
        """Write a row (or several)."""
        self.rows[index] = values
        self.filled[index] = True

    def sync(self) -> None:
        """Make sure that a cache in a folder is on the disk."""
        for array in (self.rows, self.filled):
            if isinstance(array, np.memmap):
                array.flush()


def digest(parts: Iterable[str | bytes]) -> str:
    """A name (32 hex digits) for content: equal parts, equal name."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()[:32]


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if not path.exists():
        _create(path, shape, dtype)
    array = np.lib.format.open_memmap(path, "r+")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path} holds {array.shape} {array.dtype}, not {shape}; delete it")
    return array


def _create(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """Make the file whole, with its disk space, before any process can see it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        if needed > shutil.disk_usage(path.parent).free:
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                f"the cache needs {needed / 1e9:.1f} GB in {path.parent}, where {free / 1e9:.1f} "
                "GB are free: choose another cache folder, or cache='none'"
            )
        np.lib.format.open_memmap(temporary, "w+", dtype, shape).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        Path(temporary).unlink(missing_ok=True)
