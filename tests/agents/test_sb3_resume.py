"""Trainings by SB3 that are stopped or killed resume to the same policy."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sb3_support import BANDIT, opened, rows_of, small
from support import REPO

from agents import sb3
from asg_env.policies.sb3_algorithms import ALGORITHMS


class Killed(BaseException):
    """Stops a training where a kill might."""


def stop_after(monkeypatch, updates):
    """Let a training end after some updates' checkpoint."""
    original = sb3.write_state

    def write_and_stop(model, folder, update, notes):
        original(model, folder, update, notes)
        if update == updates:
            raise Killed

    monkeypatch.setattr(sb3, "write_state", write_and_stop)


@pytest.mark.parametrize("ragged", [False, True], ids=["in step", "out of step"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_stopped_training_resumes_to_the_same_policy(algo, ragged, tmp_path, monkeypatch):
    """Bit for bit, copies in the middle of an episode and noise, memory and buffer included."""
    change = {
        **{"algo": algo, "hyperparameters": small(algo), "eval_every": 12, "eval_episodes": 2},
        **{"env_kwargs": {"ragged": int(ragged)}, "common_seeds": False},
    }
    whole = opened(tmp_path / "whole", BANDIT, **change)
    sb3.train(whole)
    args, under_way = opened(tmp_path / "stopped", BANDIT, **change), False
    for updates in (1, 4):
        with monkeypatch.context() as patch:
            stop_after(patch, updates)
            with pytest.raises(Killed):
                sb3.train(args)
        under_way = under_way or any(args.out.glob("copy_*"))
        torch.rand(3), np.random.rand(3)  # the generators need not be as they were
    assert under_way == ragged
    sb3.train(args)
    for name in ("policy.safetensors", "policy.json", "best.safetensors"):
        assert (whole.out / name).read_bytes() == (args.out / name).read_bytes()
    assert rows_of(whole.out) == rows_of(args.out)
    assert len(rows_of(whole.out)) == 24 / 2 / ALGORITHMS[algo].run["episodes"].value


TRAIN = """
import dataclasses, sys
from pathlib import Path
from tests.sb3_support import TINY, opened
from agents import sb3
sb3.train(opened(Path(sys.argv[1]), TINY, episodes=8))
"""


def start_training(folder):
    """A training in a process of its own."""
    command = [sys.executable, "-c", TRAIN, str(folder)]
    return subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)


def test_a_killed_training_resumes_to_the_same_policy(tmp_path):
    """SIGKILL in the middle of an update on the digits, then the same command: the same bytes."""
    whole, killed = start_training(tmp_path / "whole"), start_training(tmp_path / "killed")
    while killed.poll() is None and count_rows(tmp_path / "killed") < 2:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert count_rows(tmp_path / "killed") < 4
    assert start_training(tmp_path / "killed").wait(300) == whole.wait(300) == 0
    first, second = (tmp_path / n / "policy.safetensors" for n in ("killed", "whole"))
    assert first.read_bytes() == second.read_bytes()
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def count_rows(folder):
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_processes_change_nothing(trained, tmp_path):
    args, _ = trained("ppo")
    sb3.train(opened(tmp_path, args, workers="processes"))
    for name in ("policy.safetensors", "policy.json"):
        assert (tmp_path / name).read_bytes() == (args.out / name).read_bytes()


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path):
    args = opened(tmp_path, BANDIT)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x80\x04 no checkpoint")
    with pytest.raises(ValueError, match=r"is no whole checkpoint .*delete .* to start over"):
        sb3.train(args)
