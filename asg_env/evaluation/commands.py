"""Commands side by side, each with a log; an interrupt, or a command that fails, ends them all."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asg_env.interrupts import AGAIN

LAST = 20  # lines of a failed command's log that are shown
PAUSE = 0.1  # seconds between looks at the commands
PATIENCE = 4.0  # seconds that a command has to end when it is told to
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # and no progress bar
GUARD = """
import os, signal, subprocess, sys, threading, time
def end_with_parent():
    os.read(0, 1)  # ends when the parent does, however it does
    os.killpg(0, signal.SIGTERM)
    time.sleep(float(sys.argv[1]))
    os.killpg(0, signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda *_: None)  # the command's to handle, and this waits for it
threading.Thread(target=end_with_parent, daemon=True).start()
code = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL)
os._exit(code if code >= 0 else 128 - code)
"""
"""Runs a command in a process group of its own, which ends with whoever started it."""


@dataclass(frozen=True)
class Command:
    """``words``: program and arguments. ``log``: the file to which its output is added."""

    name: str
    words: Sequence[str]
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        """A process that runs it: one CPU thread, no progress bar."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-c", GUARD, str(PATIENCE), *self.words],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **ONE_THREAD},
            )

    def check(self, code: int) -> None:
        """SystemExit, with the command and the end of its log, unless it ended well."""
        if code:
            lines = self.log.read_text(errors="replace").splitlines()[-LAST:]
            raise SystemExit(
                "\n".join(
                    [
                        f"{self.name} {_how(code)}: {shlex.join(self.words)}",
                        *(f"  {line}" for line in lines),
                        f"its whole output is in {self.log}; once that is mended, {AGAIN}",
                    ]
                )
            )


def _how(code: int) -> str:
    if code - 128 in set(signal.Signals):
        return f"was ended by {signal.Signals(code - 128).name}"
    return f"failed (exit code {code})"


def run_commands(
    commands: Iterable[Command], processes: int, ended: Callable[[Command], object]
) -> None:
    """Run commands, started in that order, ``processes`` at a time.

    Args:
        commands: which.
        processes: at a time.
        ended: called with each that ended well; what it raises ends the others.

    Raises:
        SystemExit: one failed.
    """
    left, running = list(commands), dict[subprocess.Popen[bytes], Command]()
    try:
        while left or running:
            while left and len(running) < processes:
                command = left.pop(0)
                running[command.start()] = command
            for process in [p for p in running if p.poll() is not None]:
                command = running.pop(process)
                command.check(process.returncode)
                ended(command)
            time.sleep(PAUSE)
    finally:
        _end(running)


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """End commands and everything that they started."""
    until = time.monotonic() + PATIENCE
    for process in processes:
        _signal(process, signal.SIGTERM)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, until - time.monotonic()))
        _signal(process, signal.SIGKILL)  # what is left of its group
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
