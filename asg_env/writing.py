"""Writing files so that a kill at any moment, or a full disk, leaves them whole."""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEFTOVER = re.compile(
    r"\..+\.[0-9a-f]{8}\.part"
    r"|\..+\.(json|jsonl|md|safetensors)\.[a-z0-9_]{8}"  # of older versions
)
YOUNG = 2.0  # seconds within which a writer has locked what it writes
_UNFINISHED = set[str]()


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError that names no file name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    A file that is there keeps its permissions, a new one gets those of the umask. Where the path is
    a symbolic link, the file that it means is written; where it is a device or a pipe, that is.

    Raises:
        OSError: naming the path, if it cannot be written.
    """
    with naming(path):
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            target.write_bytes(content)
            return
        temporary = f"{target.parent}/.{target.name}.{secrets.token_hex(4)}.part"
        try:
            _UNFINISHED.add(temporary)
            with open(temporary, "xb") as file:
                _lock(file.fileno())
                file.write(content)
                if mode is not None:
                    os.chmod(temporary, stat.S_IMODE(mode))
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        finally:
            with suppress(OSError):
                os.unlink(temporary)  # unless it has the file's name by now
            _UNFINISHED.discard(temporary)


def _lock(handle: int) -> bool:
    """Try to hold a file until it is closed; whether it can be told that nobody else does."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def drop_unfinished() -> None:
    """Remove what this process is writing, which ends now."""
    for path in list(_UNFINISHED):
        with suppress(OSError):
            os.unlink(path)


def drop_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what killed :func:`write_atomic` calls left in a folder and two levels below it.

    What a living process is writing is left alone.
    """
    for pattern in (".*", "*/.*", "*/*/.*"):
        for path in Path(folder).glob(pattern):
            if LEFTOVER.fullmatch(path.name) and path.is_file() and not _is_written(path):
                path.unlink(missing_ok=True)


def _is_written(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        return time.time() - path.stat().st_mtime < YOUNG or not _lock(file.fileno())
    return False


def keep_lines(path: Path, count: int) -> None:
    """Drop what a log says beyond its first lines: what came after the last checkpoint."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    write_atomic(path, b"".join(lines[:count]))


def append_lines(path: str | os.PathLike[str], text: str, sync: bool = False) -> None:
    """Add whole lines to a log, all of them or none; a line that a crash cut short is dropped.

    Args:
        path: the log; made if it is not there.
        text: lines, each with its end.
        sync: whether to return only when they are on the disk.

    Raises:
        OSError: naming the path, if it cannot be written.
    """
    target = Path(path)
    with naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            end = _end_of_lines(handle)
            os.ftruncate(handle, end)
            os.lseek(handle, end, os.SEEK_SET)
            try:
                _write_all(handle, text.encode())
                if sync:
                    os.fsync(handle)
            except BaseException:
                os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)


def _end_of_lines(handle: int, block: int = 1 << 16) -> int:
    """Where the last whole line of a file ends, bytes."""
    at = os.lseek(handle, 0, os.SEEK_END)
    while at:
        start = max(0, at - block)
        found = os.pread(handle, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def save_figure(figure: Any, path: Path, **settings: Any) -> None:
    """Write a Matplotlib figure, whole or not at all; the path's suffix says how, by default PNG.

    ``settings``: of Matplotlib's ``savefig``.
    """
    buffer = BytesIO()
    figure.savefig(buffer, format=path.suffix[1:] or None, **settings)
    write_atomic(path, buffer.getvalue())
