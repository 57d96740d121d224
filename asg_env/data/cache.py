"""Rows that are computed once: decoded images and teacher outputs, in memory or in a file.

In a folder a cache is three files of NumPy's format: the rows, a checksum of each, and which of
them are filled. A file that is not of the expected size and kind is refused; a row whose checksum
is not that of its content is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HEADER = 4096  # bytes at the beginning of a file in which its header must be
ATTEMPTS = 10  # at making a file that others delete
ABANDONED = 3600  # seconds after which a file in the making counts as left by a killed process


class RowCache:
    """An array of rows, each filled at most once.

    A row counts as filled only after it was written, so a killed process leaves no half row.

    Args:
        rows: (N, ...) array; a row means something only where ``filled``.
        filled: (N,) bool.
        sums: (N,) uint32, a checksum of each row that is filled; None: it lies in memory.
        name: what to call it in a warning.

    Attributes:
        rows, filled: the same. What another process wrote, see :meth:`good` before its use.
    """

    def __init__(
        self, rows: np.ndarray, filled: np.ndarray, sums: np.ndarray | None = None, name: str = ""
    ) -> None:
        self.rows, self.filled = rows, filled
        self._sums, self._name = sums, name
        self._checked = np.zeros(len(rows), bool)  # written, or found whole, by this process
        self._warned = False

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
        rows, sums, filled = (folder / f"{name}.{part}.npy" for part in ("rows", "sums", "filled"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (rows.exists() and sums.exists()):  # what was filled is no more, or unknown
                filled.unlink(missing_ok=True)
            cache = RowCache(
                _mapped(rows, shape, dtype),
                _mapped(filled, shape[:1], np.bool_),
                _mapped(sums, shape[:1], np.uint32),
                os.fspath(rows),
            )
        except OSError as error:
            raise OSError(
                f"cannot keep a cache in {folder} ({error}): pass another folder, or "
                "cache='memory' or 'none'"
            ) from error
        cache.filled[cache.filled.view(np.uint8) > 1] = False  # no bool: damaged
        return cache

    def good(self, indices: np.ndarray) -> np.ndarray:
        """Which rows may be used, (n,) bool: filled, and as they were written.

        A damaged row becomes an empty one, with a warning. A row is checked once by a process.
        """
        if self._sums is not None:
            filled = self.filled[indices]
            for index in indices[filled & ~self._checked[indices]].tolist():
                self._check(index, self._sums)
        return self.filled[indices]

    def _check(self, index: int, sums: np.ndarray) -> None:
        if _checksum(self.rows[index]) == sums[index]:
            self._checked[index] = True
            return
        self.filled[index] = False
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self._name} is damaged: such rows are made again", stacklevel=4)

    def put(self, index: int | np.ndarray, values: np.ndarray) -> None:
        """Write a row (or several)."""
        self.rows[index] = values
        if self._sums is not None:
            for i in np.atleast_1d(index).tolist():
                self._sums[i] = _checksum(self.rows[i])
        self._checked[index] = True
        self.filled[index] = True

    def sync(self) -> None:
        """Make sure that a cache in a folder is on the disk."""
        for array in (self.rows, self._sums, self.filled):
            if isinstance(array, np.memmap):
                array.flush()


def _checksum(row: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(row).view(np.uint8).data)


def digest(parts: Iterable[str | bytes]) -> str:
    """A name (32 hex digits) for content: equal parts, equal name."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()[:32]


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """The array in a file, made if it is not there.

    Nothing that the file says about its size is believed before its size was looked at.
    """
    for _ in range(ATTEMPTS):
        try:
            found = path.stat()
        except FileNotFoundError:
            if path.is_symlink():
                raise ValueError(f"{path} is a broken link: delete it") from None
            _create(path, shape, dtype)
            continue
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is no file: delete it, or pass another folder")
        start = _check_header(path, shape, dtype)
        needed = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        if found.st_size != needed:
            raise ValueError(
                f"{path} is no whole cache file ({found.st_size} bytes, not {needed}): delete it"
            )
        return np.memmap(path, dtype, "r+", start, shape)
    raise OSError(f"{path} goes as fast as it is made")


def _check_header(path: Path, shape: tuple[int, ...], dtype: type) -> int:
    """Where the content begins, bytes; ValueError unless the file is of that kind."""
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(HEADER))
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("another version of the format")
        found = np.lib.format.read_array_header_1_0(head)
    except Exception as error:  # the header is Python text, and NumPy raises what its parser does
        raise ValueError(
            f"{path} is no whole cache file (its header is damaged): delete it"
        ) from error
    if found != (shape, False, np.dtype(dtype)):
        raise ValueError(
            f"{path} holds {found[0]} {found[2]}, not {shape} {np.dtype(dtype)}: delete it"
        )
    return head.tell()


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
