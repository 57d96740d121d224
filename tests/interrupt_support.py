"""Starts scripts, sends them signals, and looks at what they leave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from support import REPO

PATIENCE = 10.0  # seconds that a script may take to end
SETTLE = 3.0  # seconds that helpers of multiprocessing may take after it
TINY = ["--env-kwargs", "budget", "4", "window", "2"]
LONG = ["--env-kwargs", "budget", "2000", "window", "500"]
SCRIPTS: dict[str, list[str]] = {
    "reinforce": ["agents/reinforce.py", "--num-envs", "2", "--updates", "500", *TINY],
    "sb3": ["agents/sb3.py", "--num-envs", "2", *TINY],
    "tune": ["agents/tune.py", *TINY],
    "finetune": ["experiments/finetune.py", *LONG],
    "benchmark": ["experiments/benchmark.py", "--agents", "reinforce", "ppo", *LONG],
    "generalization": ["experiments/generalization.py", *LONG],
    "reward_validity": ["experiments/reward_validity.py", "--policies", "50", *LONG],
    "transfer": ["experiments/transfer.py", "--policies", "small_backbone_cosine", *LONG],
    "action_behavior": ["experiments/action_behavior.py"],
    "bench_step": ["experiments/bench_step.py"],
    "bench_loader": ["experiments/bench_loader.py"],
    "pretrain_digits": ["experiments/pretrain_digits.py"],
    "pretrain_visda_standin": ["experiments/pretrain_visda_standin.py"],
    "conformance": ["experiments/conformance.py"],
    "headroom": ["experiments/headroom.py", "--records", "{out}"],
    "replay": ["experiments/replay.py", "{out}/records.jsonl"],
    "check_images": ["experiments/check_images.py"],
    "contact_sheet": ["experiments/contact_sheet.py"],
}
"""Words of each script, long enough to be interrupted; ``{out}`` is its folder."""
NO_OUT = ("replay", "check_images", "contact_sheet", "headroom")


class Script:
    """A script under way, in a session of its own.

    Args:
        words: of its command line, after Python's name.
        out: its folder.
        log: where its two outputs go.
    """

    def __init__(self, words: list[str], out: Path, log: Path) -> None:
        self.out, self.mark = out, uuid.uuid4().hex
        self.errors = log / f"{self.mark}.err"
        environment = {**os.environ, "TQDM_DISABLE": "1", "MARK": self.mark, "OMP_NUM_THREADS": "1"}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=REPO,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment,
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

    def wait_for(self, condition, seconds: float = 240) -> None:
        """Wait until something holds, while it runs."""
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < until
            time.sleep(0.02)

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


class End(NamedTuple):
    """How a script ended: ``left`` are files and processes that should not be there."""

    code: int
    seconds: float
    errors: list[str]
    left: list[str]


def start(name: str, folder: Path, *more: str) -> Script:
    """A script of SCRIPTS, with its folder in ``folder``."""
    out = folder / "out"
    path, *words = [word.format(out=out) for word in SCRIPTS[name]]
    words += more if name in NO_OUT else [*more, "--out", str(out)]
    return Script([str(REPO / path), *words], out, folder)


def semaphores() -> set[str]:
    """Named semaphores of the machine that multiprocessing made."""
    return {path.name for path in Path("/dev/shm").glob("sem.mp-*")}


def ended(script: Script) -> End:
    """Wait for its end."""
    began = time.monotonic()
    try:
        code = script.process.wait(PATIENCE * 6)
        seconds, until = time.monotonic() - began, time.monotonic() + SETTLE
        while script.processes() and time.monotonic() < until:
            time.sleep(0.05)
        left = [f"process {pid}: {_words(pid)}" for pid in script.processes()]
    finally:
        script.end()
    temporary = re.compile(r".*\.(part|lock)|\.lock")
    left += [str(p) for p in script.out.rglob(".*") if temporary.fullmatch(p.name)]
    return End(code, seconds, script.errors.read_text().splitlines(), left)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return ""


def interrupt(script: Script, number: int, group: bool) -> End:
    """Send a signal and wait for the end."""
    script.send(number, group)
    return ended(script)
