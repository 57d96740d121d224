"""Jobs side by side: interrupts and failures end all of them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from asg_env.evaluation.parallel import run_parallel

SLEEPERS = """
import signal, time
from asg_env.evaluation.parallel import run_parallel
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
    jobs = [(seconds,) for seconds in (0, 600, 600, 600)]
    run_parallel(time.sleep, jobs, 2, lambda _: print("one is done", flush=True))
"""


def test_an_interrupt_ends_all_processes_at_once(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one is done\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        try:  # the pipe ends when the last process that could write to it has
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode != 0


def test_a_job_that_fails_ends_the_others():
    before = time.monotonic()
    with pytest.raises(ValueError, match="non-negative"):
        run_parallel(time.sleep, [(-1,), (600,), (600,)], 2, print)
    assert time.monotonic() - before < 300
    assert not multiprocessing.active_children()
