"""Worker processes: how they start, and what is said of one that died."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess

from tqdm import tqdm

from asg_env.interrupts import shielded

SETTLE = 2.0  # seconds within which it is known how a worker ended
PIPES, PIPES_EACH = 12, 3  # descriptors that workers take while they start; of each one


class WorkerDied(RuntimeError):
    """A worker process ended while it was needed; the message says which one, and how."""


def start_tracker() -> None:
    """Start the process that removes the semaphores of this one, where a hang-up does not end it.

    It is done before a :func:`shielded` block in which processes start, which its start would end.
    """
    if sys.platform != "win32":
        from multiprocessing import resource_tracker

        with shielded():
            resource_tracker.ensure_running()


def check_descriptors(workers: int) -> None:
    """Try whether so many workers can start: the fork server, too, fails where it gets no pipe.

    Raises:
        OSError: EMFILE or ENFILE, saying how many descriptors they need.
    """
    needed, held = PIPES + PIPES_EACH * workers, list[int]()
    try:
        while len(held) < needed:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        text = f"{workers} worker processes need {needed} open files more, {len(held)} are free"
        raise OSError(error.errno or errno.EMFILE, text) from error
    finally:
        for handle in held:
            os.close(handle)


def start_method(workers: int) -> str:
    """How so many worker processes start, once they can: signals of the terminal do not reach them.

    Raises:
        OSError: see :func:`check_descriptors`.
    """
    check_descriptors(workers)
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    from multiprocessing import forkserver

    start_tracker()
    with shielded():  # the workers are the server's children, and inherit what it does not see
        forkserver.ensure_running()
    return "forkserver"


def await_deaths(processes: Iterable[BaseProcess]) -> str:
    """:func:`deaths`, once it is known how a process ended that no longer answers."""
    processes, until = list(processes), time.monotonic() + SETTLE
    while not (found := deaths(processes)) and time.monotonic() < until:
        time.sleep(0.05)
    return found or "a worker process ended"


def prepare_worker() -> None:
    """In a worker: let progress bars use no semaphore, which would outlive one that is killed."""
    if multiprocessing.parent_process() is not None:
        tqdm.set_lock(threading.RLock())


def deaths(processes: Iterable[BaseProcess]) -> str:
    """Which of the processes died of themselves, in words; empty if none is known to have."""
    codes = {p: p.exitcode for p in processes}
    died = {p: code for p, code in codes.items() if code not in (None, 0, -signal.SIGTERM)}
    died = died or {p: code for p, code in codes.items() if code not in (None, 0)}
    return ", ".join(f"{p.name} (process {p.pid}) {_how(code or 0)}" for p, code in died.items())


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    if -code == signal.SIGKILL:
        return "was killed by SIGKILL, perhaps because memory ran out"
    return f"was ended by {signal.Signals(-code).name}"


def end_all(processes: Iterable[BaseProcess]) -> None:
    """End processes at once."""
    living = [p for p in processes if p.pid is not None]
    for process in living:
        process.kill()
    for process in living:
        process.join()
