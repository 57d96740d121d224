"""Worker processes that would get too few descriptors are refused before the first one starts."""

import errno
import subprocess
import sys

import pytest
from support import REPO, run_python

from asg_env.workers import PIPES, PIPES_EACH

LIMITED = """
import os, resource, sys
from asg_env.workers import check_descriptors
free, workers = map(int, sys.argv[1:])
lowest = os.dup(0)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + free, lowest + free))
try:
    check_descriptors(workers)
    assert os.dup(0) == lowest  # all are given back
except OSError as error:
    print(error.errno, error.strerror)
"""
REINFORCE = "agents/reinforce.py --num-envs 2 --env-kwargs budget 4 window 2 --out"


@pytest.mark.parametrize("workers", [1, 8])
def test_descriptors_are_counted(workers):
    needed = PIPES + PIPES_EACH * workers
    assert not run_python(LIMITED, str(needed), str(workers))
    said = run_python(LIMITED, str(needed - 1), str(workers)).strip()
    text = f"{workers} worker processes need {needed} open files more, {needed - 1} are free"
    assert said == f"{errno.EMFILE} {text}"


def test_a_script_says_it_in_one_line(tmp_path):
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n 16; exec "$0" {REINFORCE} "$1"', sys.executable, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=REPO,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("2 worker processes need 18 open files more")
    assert line.endswith("the same command resumes where a process may open more files (ulimit -n)")
    assert done.returncode == 1
