"""One writer at a time, and no longer than it lives."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest
from support import REPO

from asg_env import locks
from asg_env.learning.run_folder import only_run
from asg_env.locks import InUse, alone

HOLDER = """
import os, sys, time
from pathlib import Path
from asg_env.locks import alone
with alone(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() == 0:
        print("forked", flush=True)
        time.sleep(600)
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(locks, "WAIT", 0.3)


@contextmanager
def holder(path, how="plain"):
    words = [sys.executable, "-c", HOLDER, str(path), how]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, start_new_session=True) as one:
        assert one.stdout is not None
        for _ in range(2 if how == "fork" else 1):
            assert one.stdout.readline()
        try:
            yield one
        finally:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, 9)


@pytest.mark.parametrize("name", ["", "records.jsonl"])
def test_a_second_writer_is_told_who_the_first_one_is(name, tmp_path):
    path = tmp_path / name if name else tmp_path
    with holder(path) as first:
        with pytest.raises(InUse) as error, alone(path):
            pass
        text = str(error.value)
        assert f"{path} is being written by process {first.pid} on {socket.gethostname()}" in text
        first.kill()
        first.wait()
        assert list(tmp_path.glob(".*lock"))  # it means nothing
        with alone(path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_forked_child_does_not_hold_it(tmp_path):
    with holder(tmp_path, "fork") as first:
        first.kill()
        first.wait()
        with alone(tmp_path):
            pass


def test_a_run_that_is_going_on_is_not_opened(tmp_path):
    with only_run(tmp_path, {"a": 1}):
        second = only_run(tmp_path, {"a": 1})
        with pytest.raises(InUse, match=r"^--out .* is being written by process"), second:
            pass
    with only_run(tmp_path, {"a": 1}):
        pass
    with pytest.raises(SystemExit, match="holds a run with a=1"), only_run(tmp_path, {"a": 2}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["args.json"]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_files_cannot_be_locked_there_is_a_warning(code, tmp_path, monkeypatch, capsys):
    def refused(handle, flags):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with alone(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path} cannot be locked ({os.strerror(code)})")
