"""Scripts under way: to send them signals, and to look at what they leave."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from asg_env.interrupts import SIGNALS

SETTLE = 3.0  # seconds that helpers of multiprocessing may take after a script's end
ORPHANS = 60.0  # seconds after a SIGKILL: a worker sees it when it has imported what it needs
TEMPORARY = re.compile(r".*\.(part|lock)|\.lock")


class Script:
    """A script under way, in a session of its own.

    Args:
        words: of its command line, after Python's name.
        out: its folder.
        log: where its two outputs go.
        largest: bytes that a file may have (RLIMIT_FSIZE); None: any number.
    """

    def __init__(self, words: list[str], out: Path, log: Path, largest: int | None = None) -> None:
        self.out, self.mark = out, uuid.uuid4().hex
        self.errors = log / f"{self.mark}.err"
        environment = {**os.environ, "TQDM_DISABLE": "1", "MARK": self.mark, "OMP_NUM_THREADS": "1"}

        def begin() -> None:
            for number in SIGNALS:  # nohup's children would pass over a SIGHUP
                signal.signal(number, signal.SIG_DFL)
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
                preexec_fn=begin,
            )

    def processes(self) -> list[int]:
        """It and all that came of it, by the mark in their environment."""
        found, mark = [], f"MARK={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def send(self, number: int, group: bool) -> None:
        """Send a signal, as ``kill`` or (``group``) a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def wait_for(self, condition: Callable[[], object], seconds: float = 240) -> None:
        """Wait until something holds, while it runs; RuntimeError if it ends, or that is late."""
        until = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"waited in vain: {self.errors.read_text()}")
            time.sleep(0.02)

    def imports(self) -> bool:
        """Whether it is up, and has loaded NumPy."""
        with suppress(OSError):
            return b"numpy" in Path(f"/proc/{self.process.pid}/maps").read_bytes()
        return False

    def runs(self, seconds: float) -> bool:
        """Whether it still does after that time; sooner if it ends."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is None

    def kill(self) -> list[str]:
        """SIGKILL it alone, as the system does that has no memory left; what does not follow it."""
        self.process.kill()
        self.process.wait()
        return self.survivors(ORPHANS)

    def survivors(self, seconds: float = SETTLE) -> list[str]:
        """Its processes that are there so long after its end."""
        until = time.monotonic() + seconds
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)
        return [f"process {pid}: {_words(pid)}" for pid in self.processes()]

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class End(NamedTuple):
    """How a script ended: ``left`` are files and processes that should not be there."""

    code: int
    seconds: float
    errors: list[str]
    left: list[str]


def ended(script: Script, patience: float) -> End:
    """Wait for its end; TimeoutExpired if that takes longer than ``patience`` seconds."""
    began = time.monotonic()
    try:
        code = script.process.wait(patience)
        seconds, left = time.monotonic() - began, script.survivors()
    finally:
        script.end()
    left += [str(p) for p in script.out.rglob(".*") if TEMPORARY.fullmatch(p.name)]
    return End(code, seconds, script.errors.read_text().splitlines(), left)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return ""
