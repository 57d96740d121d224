"""Rows that are computed once: decoded images and teacher outputs, in memory or in a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

ABANDONED = 3600  # seconds after which a file in the making counts as left by a killed process


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
        ValueError: naming the file, if it is damaged.
        """
        rows, filled = folder / f"{name}.rows.npy", folder / f"{name}.filled.npy"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not rows.exists():  # never made, or deleted: then what was filled is no more
                filled.unlink(missing_ok=True)
            return RowCache(_mapped(rows, shape, dtype), _mapped(filled, shape[:1], np.bool_))
        except OSError as error:
            raise OSError(
                f"cannot keep a cache in {folder} ({error}): pass another folder, or "
                "cache='memory' or 'none'"
            ) from error

    def put(self, index: int | np.ndarray, values: np.ndarray) -> None:
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
    array = None
    while array is None:
        try:
            np.lib.format.open_memmap(path, "r")  # "r+" would fill up a file that was cut short
            array = np.lib.format.open_memmap(path, "r+")
        except FileNotFoundError:
            _create(path, shape, dtype)
        except ValueError as error:
            raise ValueError(f"{path} is no whole cache file ({error}): delete it") from error
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{path} holds {array.shape} {array.dtype}, not {shape} {np.dtype(dtype)}: delete it"
        )
    return array


def _drop_abandoned(path: Path) -> None:
    """Remove what processes that were killed while making the file left."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(FileNotFoundError):  # another process is done with it
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                leftover.unlink()


def _create(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """Make the file whole, with its disk space, before any process can see it."""
    _drop_abandoned(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        free = shutil.disk_usage(path.parent).free
        if needed > free:
            raise OSError(f"it needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free")
        np.lib.format.open_memmap(temporary, "w+", dtype, shape).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
            with open(temporary, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(temporary))
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        Path(temporary).unlink(missing_ok=True)
