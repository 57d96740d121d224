"""What a campaign of faults counts: how each try ended, and examples of those that ended badly."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FINE, SILENT, TRACEBACK, HANG, LEFT = "fine", "silent wrong", "traceback", "hang", "left behind"
OUTCOMES = (FINE, SILENT, TRACEBACK, HANG, LEFT)
"""``traceback`` is any end without the one line, or the exit code, that it should have."""
LONGEST = 300  # characters of an example


class Tally:
    """Outcomes of tries, and what the bad ones said."""

    def __init__(self) -> None:
        self.counts, self.examples = Counter[str](), list[str]()

    def add(self, outcome: str, example: str = "") -> None:
        """Count one try; ``example`` says what was tried and what came, if it went wrong."""
        self.counts[outcome] += 1
        if outcome != FINE:
            self.examples.append(f"{outcome}: {' '.join(example.split())[:LONGEST]}")

    def row(self) -> dict[str, Any]:
        """``tried`` and each outcome, as counts."""
        return {"tried": self.counts.total(), **{name: self.counts[name] for name in OUTCOMES}}


class Hang(BaseException):
    """It took too long."""


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raise Hang, in the main thread, where a ``with`` block takes longer than that."""

    def late(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
