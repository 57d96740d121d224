"""One writer at a time: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asg_env.writing import naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT = 5.0  # seconds that the holder may still need to end
PAUSE = 0.1
_OURS = dict[int, Path]()  # held locks: open files, and where they are


class InUse(RuntimeError):
    """Another process writes there; the message says which one."""


@contextmanager
def alone(path: Path, what: str | None = None) -> Iterator[None]:
    """Be the only process that writes a folder or a file, for a ``with`` block.

    While it lasts there is a hidden file beside what is written: ``.lock`` in a folder,
    ``.NAME.lock`` beside a file. One that a killed process left means nothing.

    Args:
        path: a folder that is there, or a file that may be made.
        what: how a message calls it; None: by its path.

    Raises:
        InUse: another process (or this one, elsewhere) holds it, and still does after WAIT seconds.
        OSError: the lock's file cannot be written.
    """
    what = what or os.fspath(path)
    place = path / ".lock" if path.is_dir() else path.parent / f".{path.name}.lock"
    handle = _acquire(place, what)
    try:
        yield
    finally:
        if handle is not None:
            _unlink(place)
            _OURS.pop(handle, None)
            os.close(handle)


def _unlink(place: Path) -> None:
    """While it is held, so that nobody holds another file of this name."""
    with suppress(OSError):
        place.unlink()


def drop_held() -> None:
    """Leave no lock's file; for a process that ends at once."""
    for place in _OURS.values():
        _unlink(place)


def _forget() -> None:
    """In a forked child: the lock is the parent's alone."""
    for handle in _OURS:
        os.close(handle)
    _OURS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _acquire(place: Path, what: str) -> int | None:
    """The open file, locked; None, after a warning, where files cannot be locked."""
    until = time.monotonic() + WAIT
    while True:
        with naming(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if reason := _refusal(handle):
                print(
                    f"warning: {what} cannot be locked ({reason}): make sure that no other process "
                    "writes there",
                    file=sys.stderr,
                )
                return None
            if _is_at(handle, place):
                _sign(handle)
                _OURS[handle] = place
                return handle
        except BlockingIOError as error:
            if time.monotonic() > until:
                holder = os.pread(handle, 300, 0).decode(errors="replace") or "another process"
                raise InUse(
                    f"{what} is being written by {holder}: wait until that has ended, end it, or "
                    "choose another place"
                ) from error
            time.sleep(PAUSE)
        finally:
            if handle not in _OURS:
                os.close(handle)


def _refusal(handle: int) -> str:
    """Lock a file; why it cannot be, or nothing. BlockingIOError: somebody holds it."""
    if fcntl is None:
        return "this system has no flock"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # a file system without locks
        return error.strerror or str(error)
    return ""


def _is_at(handle: int, place: Path) -> bool:
    """Whether the file still has its name: the holder before may just have removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), place.stat())
    return False


def _sign(handle: int) -> None:
    """Say in the file who holds it; not at all on a full disk."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
