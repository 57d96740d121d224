"""Scripts that are killed, told to end, started twice, or short of room; and what becomes of them.

A :class:`Writer` is a script that writes a folder and resumes. After every end of it the same
command must come to what a run comes to that nothing interrupted.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asg_env.evaluation.processes import End, Script, ended
from asg_env.evaluation.tally import FINE, HANG, LEFT, SILENT, TRACEBACK, Tally
from asg_env.interrupts import AGAIN, SIGNALS

LONGEST = 1200.0  # seconds for a tiny run
PATIENCE = 10.0  # seconds to end after a signal
VARIES = ("seconds", "checksum", "out")  # fields of JSON files that differ from run to run
PASSED_OVER = (".png", ".log", ".lock")
ROOM = 64 * 2**20  # bytes that are enough


@dataclass(frozen=True)
class Writer:
    """``words``: a tiny run's command line, the script's path first; ``long``: one that is still
    under way minutes later."""

    name: str
    words: Sequence[str]
    long: Sequence[str]

    def start(self, out: Path, words: Sequence[str] | None = None, **limits: Any) -> Script:
        """Start it, writing to ``out``."""
        return Script([*(words or self.words), "--out", str(out)], out, out.parent, **limits)

    def whole(self, folder: Path) -> tuple[Any, float]:
        """What a tiny run that nothing interrupts leaves, and its seconds."""
        out = folder / f"whole_{self.name}"
        began = time.monotonic()
        end = ended(self.start(out), LONGEST)
        if end.code:
            raise SystemExit(f"{self.name} fails, untouched: {' '.join(end.errors)}")
        return contents(out), time.monotonic() - began

    def resumed(self, out: Path, expected: Any) -> tuple[str, str]:
        """The outcome of the same command, once nothing stops it."""
        script = self.start(out)
        try:
            end = ended(script, LONGEST)
        except subprocess.TimeoutExpired:
            return HANG, "resumed"
        return judged(end, out, expected)


def judged(end: End, out: Path, expected: Any) -> tuple[str, str]:
    """The outcome of a run that came to its end."""
    if end.code:
        return TRACEBACK, " ".join(end.errors)
    found = contents(out)
    if found != expected:
        names = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
        return SILENT, f"other {', '.join(sorted(names))}"
    return (LEFT, " ".join(end.left)) if end.left else (FINE, "")


def contents(folder: Path) -> dict[str, Any]:
    """What a folder's files say, by name, without what differs from run to run."""
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: _said(path)
        for name, path in files.items()
        if path.suffix not in PASSED_OVER and not name.startswith("tensorboard")
    }


def _said(path: Path) -> Any:
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    text = path.read_text()
    if path.suffix == ".json":
        return _steady(json.loads(text))
    # Of several processes, whose lines come in any order.
    return sorted(json.dumps(_steady(json.loads(line))) for line in text.splitlines())


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if k not in VARIES}
    return [_steady(v) for v in value] if isinstance(value, list) else value


# -- what is done to them --------------------------------------------------------------------------


def killed(writer: Writer, count: int, seed: int, folder: Path, tally: Tally) -> None:
    """SIGKILL it ``count`` times, at random moments of a whole run's time, resuming in between."""
    expected, seconds = writer.whole(folder)
    moments, out = random.Random(f"{seed} {writer.name}"), folder / f"killed_{writer.name}"
    outcomes = list[tuple[str, str]]()
    while len(outcomes) < count:
        script = writer.start(out)
        try:
            if not script.runs(moments.uniform(0, seconds)):  # it was done: once more, afresh
                outcome = judged(ended(script, LONGEST), out, expected)
                if outcomes and outcome[0] != FINE:
                    outcomes[-1] = outcome
                shutil.rmtree(out)
                continue
            left = script.kill()
            outcomes.append((LEFT, " ".join(left)) if left else (FINE, ""))
        finally:
            script.end()
    end = writer.resumed(out, expected)
    outcomes[-1] = end if end[0] != FINE else outcomes[-1]
    for found, text in outcomes:
        tally.add(found, f"{writer.name} killed: {text}")


def signalled(writer: Writer, count: int, seed: int, folder: Path, tally: Tally) -> None:
    """Send it each of SIGNALS ``count`` times, at a random moment of its first seconds."""
    for number in (n for n in SIGNALS for _ in range(count)):
        moments = random.Random(f"{seed} {writer.name} {number} {tally.counts.total()}")
        out = folder / f"signalled_{writer.name}_{number}_{tally.counts.total()}"
        script = writer.start(out, writer.long)
        said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        try:
            script.wait_for(script.imports)
            script.runs(moments.uniform(0, 10))
            script.send(number, moments.random() < 0.5)
            end = ended(script, PATIENCE * 3)
            outcome, text = TRACEBACK, f"exit code {end.code}, {' '.join(end.errors)}"
            if end.seconds > PATIENCE:
                outcome, text = HANG, f"{end.seconds:.0f} s"
            elif end.code == 128 + number and end.errors == [f"{said}; {AGAIN}"]:
                outcome, text = (LEFT, " ".join(end.left)) if end.left else (FINE, "")
        except subprocess.TimeoutExpired:
            outcome, text = HANG, f"still there after {PATIENCE * 3:.0f} s"
        except RuntimeError as error:
            outcome, text = TRACEBACK, str(error)
        finally:
            script.end()
        tally.add(outcome, f"{writer.name} {said}: {text}")


def started_twice(writer: Writer, folder: Path, tally: Tally) -> None:
    """Start it twice at once on one folder: one writes, the other says who does."""
    out = folder / f"twice_{writer.name}"
    both = [writer.start(out, writer.long) for _ in range(2)]
    try:
        until = time.monotonic() + 120
        while all(script.process.poll() is None for script in both):
            if time.monotonic() > until:
                tally.add(SILENT, f"{writer.name} twice: both write")
                return
            time.sleep(0.05)
        winner = next((script for script in both if script.process.poll() is None), both[0])
        loser = ended(next(script for script in both if script is not winner), PATIENCE)
        named = f"is being written by process {winner.process.pid} on"
        good = loser.code == 1 and len(loser.errors) == 1 and named in loser.errors[0]
        text = " ".join(loser.errors)
        winner.send(signal.SIGTERM, False)
        end = ended(winner, PATIENCE * 3)
        if not good or end.code != 128 + signal.SIGTERM:
            tally.add(TRACEBACK, f"{writer.name} twice: {text}; {' '.join(end.errors)}")
        else:
            tally.add(LEFT if end.left else FINE, f"{writer.name} twice: {' '.join(end.left)}")
    finally:
        for script in both:
            script.end()


def without_room(writer: Writer, sizes: Sequence[int], folder: Path, tally: Tally) -> None:
    """Run it where there is little room (bytes), and again where there is enough."""
    expected, _ = writer.whole(folder)
    for size in sizes:
        place = folder / f"room_{writer.name}_{size}"
        place.mkdir()
        with small_disk(place, size) as mounted:
            limits = {} if mounted else {"largest": size}
            out = place / "out"
            script = Script([*writer.words, "--out", str(out)], out, folder, **limits)
            end = ended(script, LONGEST)
            said = "No space left on device" if mounted else "File too large"
            text = " ".join(end.errors)
            if end.code != 1 or len(end.errors) != 1 or said not in text:
                outcome = TRACEBACK
            else:
                if mounted:
                    _mount(place, ROOM, "remount,")
                outcome, more = writer.resumed(out, expected)
                text = f"{text} {more}"
        tally.add(outcome, f"{writer.name} with {size} bytes: code {end.code}, {text}")


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A file system of that many bytes; False where none may be mounted."""
    mounted = _mount(place, size)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)


def _mount(place: Path, size: int, how: str = "") -> bool:
    if sys.platform != "linux":
        return False
    words = ["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "tmpfs", str(place)]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
