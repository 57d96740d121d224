"""Signals, and workers that are killed, end a script in one line; nothing is left behind."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest
from interrupt_support import PATIENCE, SCRIPTS, Script, ended, interrupt, semaphores, start

AGAIN, NOTHING = "the same command resumes", "nothing is kept"
RESUME = ("reinforce", "sb3", "tune", "finetune", "benchmark", "generalization", "transfer")
RESUME += ("reward_validity",)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WRITES = {
    **{"reinforce": "metrics.jsonl", "sb3": "metrics.jsonl", "tune": "search.jsonl"},
    **{"finetune": "metrics.jsonl", "benchmark": "agents/*/training.log"},
    **{"generalization": "search.jsonl", "reward_validity": "records_*.jsonl"},
}
"""What shows that a script is at work."""


def at_work(name: str, script: Script) -> bool:
    return any(path.stat().st_size for path in script.out.glob(WRITES[name]))


def check(script: Script, name: str, number: int, group: bool) -> None:
    before = semaphores()
    end = interrupt(script, number, group)
    said = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    assert end.errors == [f"{said}; {AGAIN if name in RESUME else NOTHING}"]
    assert end.code == 128 + number
    assert end.left == []
    assert end.seconds < PATIENCE
    assert not semaphores() - before


@pytest.mark.parametrize(
    ("name", "number", "group"),
    [
        ("reinforce", signal.SIGINT, True),
        ("reinforce", signal.SIGTERM, False),
        ("finetune", signal.SIGHUP, True),
    ],
)
def test_a_signal_ends_a_script_at_work(name, number, group, tmp_path):
    script = start(name, tmp_path)
    script.wait_for(lambda: at_work(name, script))
    check(script, name, number, group)


@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize("name", ["reinforce", "finetune"])
def test_a_second_ctrl_c_ends_it_at_once(name, pause, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory() as temporary:  # a short name: sockets are made there
        monkeypatch.setenv("TMPDIR", temporary)
        script = start(name, tmp_path)
        script.wait_for(lambda: at_work(name, script))
        script.send(signal.SIGINT, True)
        time.sleep(pause)
        check(script, name, signal.SIGINT, True)
        assert not [*Path(temporary).glob("pymp-*")]


@pytest.mark.parametrize(("name", "number"), [("sb3", signal.SIGINT), ("replay", signal.SIGHUP)])
def test_a_signal_ends_a_script_that_still_imports(name, number, tmp_path):
    script = start(name, tmp_path)
    script.wait_for(script.imports)
    check(script, name, number, True)


def worker_of(script: Script) -> int:
    """A process of a script that plays: it has loaded torch, and is not the script itself."""
    for pid in script.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        parent = int(status.partition("PPid:")[2].split()[0])
        if parent not in (script.process.pid, os.getpid()):  # of the fork server
            return pid
    raise AssertionError("no worker")


def test_a_worker_that_is_killed_is_named(tmp_path):
    script = start("reinforce", tmp_path)
    script.wait_for(lambda: at_work("reinforce", script))
    pid = worker_of(script)
    os.kill(pid, signal.SIGKILL)
    end = ended(script)
    (line,) = end.errors
    assert line.startswith("Worker<WorkerCopies>-")
    assert f"(process {pid}) was killed by SIGKILL, perhaps because memory ran out; {AGAIN}" in line
    assert end.code == 1
    assert end.left == []


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["group", "process"])
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", WRITES)
def test_every_signal_ends_every_script_at_work(name, number, group, tmp_path):
    test_a_signal_ends_a_script_at_work(name, number, group, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_signal_ends_every_script_that_starts(name, number, tmp_path):
    """At a random moment within its first two seconds, but not before Python itself is up."""
    script = start(name, tmp_path)
    time.sleep(random.Random(f"{name} {number}").uniform(0.15, 2))
    if script.process.poll() is None:
        check(script, name, number, True)
