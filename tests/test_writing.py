"""Files are written whole or not at all, where they are, with the permissions they have."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPO

from asg_env import writing
from asg_env.writing import append_lines, drop_leftovers, keep_lines, write_atomic


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_the_umask_and_keeps_others(umask, tmp_path):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "a", b"1")
        assert mode(tmp_path / "a") == 0o666 & ~umask
        (tmp_path / "a").chmod(0o640)
        write_atomic(tmp_path / "a", b"2")
        append_lines(tmp_path / "a", "3\n")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == 0o640


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there, tmp_path):
    target, link = tmp_path / "disk" / "a", tmp_path / "a"
    if there:
        write_atomic(target, b"old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_device_is_written_and_stays_one(tmp_path):
    write_atomic("/dev/null", b"1")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as error:
        write_atomic(tmp_path / "full", b"1")
    assert str(error.value).endswith(f"{str(tmp_path / 'full')!r}")


@pytest.fixture
def small_files():
    """No file may grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_leaves_everything_as_it_was(small_files, tmp_path):
    log, file = tmp_path / "log", tmp_path / "file"
    append_lines(log, "a" * 80 + "\n")
    write_atomic(file, b"old")
    with pytest.raises(OSError, match="File too large") as error:
        append_lines(log, "b" * 80 + "\n")
    assert error.value.filename == str(log)
    with pytest.raises(OSError, match="File too large") as error:
        write_atomic(file, b"n" * 200)
    assert (error.value.filename, error.value.filename2) == (str(file), None)
    assert log.read_text() == "a" * 80 + "\n"
    assert file.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"log", "file"}


@pytest.mark.parametrize("torn", ["", "to", "b" * 200_000])
def test_a_line_that_was_cut_short_is_dropped(torn, tmp_path):
    (tmp_path / "log").write_text("a\nb\n" + torn)
    append_lines(tmp_path / "log", "c\n", sync=True)
    assert (tmp_path / "log").read_text() == "a\nb\nc\n"
    keep_lines(tmp_path / "log", 1)
    assert (tmp_path / "log").read_text() == "a\n"


WRITER = """
import os, time, sys
from asg_env import writing
os.fsync = lambda handle: (print("writing", flush=True), time.sleep(600))
writing.write_atomic(sys.argv[1], b"1")
"""


def test_what_a_kill_left_is_removed_but_not_what_is_being_written(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "snapshots"
    words = [sys.executable, "-c", WRITER, str(folder / "a.json")]
    with subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        monkeypatch.setattr(writing, "YOUNG", 0)
        drop_leftovers(tmp_path / "run")
        (left,) = folder.iterdir()
        process.kill()
        process.wait()
    mine = folder / ".gitignore.template"
    mine.touch()
    monkeypatch.setattr(writing, "YOUNG", 60)
    drop_leftovers(tmp_path / "run")
    assert left.exists()
    os.utime(left, (0, time.time() - 61))
    drop_leftovers(tmp_path / "run")
    assert list(folder.iterdir()) == [mine]


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"1")
    assert not list(tmp_path.iterdir())
