"""How a script ends when it is told to: Ctrl-C, SIGTERM and SIGHUP are one line and an exit code.

A script says above its imports whether the same command goes on (``RESUMES = True``) or nothing is
kept (``False``). From the first import of ``asg_env`` on its signals are handled here; programs
that say nothing keep their own handling. While :func:`work` is under way a signal raises
:class:`Interrupted`, so that all is closed in order; before and after it, at a second signal, and
where closing takes too long, the process ends at once. What is on the disk is whole at any moment.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
SHIELDED = [s for s in SIGNALS if s != signal.SIGTERM]  # which ends a worker
PATIENCE = 6.0  # seconds for an orderly end
AGAIN = "the same command resumes"
NOTHING = "nothing is kept"


class Interrupted(KeyboardInterrupt):
    """A signal that ends the script."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Watch:
    """The signals of a process.

    Attributes:
        resumes: whether the same command goes on.
        received: the first signal, if there was one.
        working: whether a signal raises :class:`Interrupted`.
    """

    def __init__(self) -> None:
        self.resumes, self.working, self.said = True, False, False
        self.received: int | None = None

    @property
    def advice(self) -> str:
        """How to go on."""
        return AGAIN if self.resumes else NOTHING

    def start(self, resumes: bool) -> None:
        """Handle the signals from now on; a hang-up that is ignored (nohup) stays ignored."""
        self.resumes = resumes
        for number in SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)
        before = sys.unraisablehook

        def hook(what: Any) -> None:  # it is lost in a destructor, and then PATIENCE ends
            if not isinstance(what.exc_value, Interrupted):
                before(what)

        sys.unraisablehook = hook

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.received = self.received is None, self.received or number
        if not (first and self.working):
            self.end_now()
        timer = threading.Timer(PATIENCE, self.end_now)
        timer.daemon = True
        timer.start()
        raise Interrupted(number)

    def say(self, number: int) -> int:
        """Write the one line, once; the exit code."""
        if not self.said:
            self.said = True
            line = f"{'' if _at_line_start() else chr(10)}{ended_by(number)}; {self.advice}\n"
            with suppress(OSError):
                os.write(2, line.encode())
        return 128 + number

    def leave(self, number: int) -> int:
        """At the orderly end: :meth:`say`; after a signal, which gave it PATIENCE, further ones do
        not disturb the interpreter's end."""
        if self.received is not None:
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
        return self.say(number)

    def end_now(self) -> None:
        """End this process and its workers at once."""
        number = self.received or signal.SIGTERM
        for child in _loaded("multiprocessing", "active_children"):
            child.kill()
        _loaded("asg_env.writing", "drop_unfinished")
        _loaded("asg_env.locks", "drop_held")
        cleaner = threading.Thread(target=_drop_shared, daemon=True)
        cleaner.start()
        cleaner.join(1.0)  # it may wait for a lock that what was interrupted holds
        os._exit(self.say(number))


def _loaded(module: str, name: str) -> Any:
    """What a function returns, of a module that may not be imported, or not wholly."""
    return getattr(sys.modules.get(module), name, tuple)()


def _drop_shared() -> None:
    """Named semaphores and the folder of sockets, which multiprocessing removes at an orderly end.
    Its other finalizers wait for processes."""
    registry = getattr(sys.modules.get("multiprocessing.util"), "_finalizer_registry", {})
    for finalizer in list(registry.values()):
        if getattr(finalizer._callback, "__name__", "") in ("_cleanup", "_remove_temp_dir"):
            with suppress(Exception):
                finalizer()


def ended_by(number: int) -> str:
    """In words."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def _at_line_start() -> bool:
    """Whether no progress bar stands in the line that is written next."""
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return not [bar for bar in getattr(bars, "_instances", ()) if not bar.disable]


WATCH = Watch()


@contextmanager
def work() -> Iterator[None]:
    """A block in which the signals of a watched script raise :class:`Interrupted`."""
    WATCH.working = True
    try:
        yield
    finally:
        WATCH.working = False


@contextmanager
def shielded() -> Iterator[None]:
    """Processes that are started here never see Ctrl-C or a hang-up: they are this one's to handle.

    The signals of this process wait until the end of the block, which should be short.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def watch_script() -> None:
    """Start the watch if the main program is a script that says ``RESUMES``."""
    resumes = getattr(sys.modules.get("__main__"), "RESUMES", None)
    if isinstance(resumes, bool) and threading.current_thread() is threading.main_thread():
        WATCH.start(resumes)
