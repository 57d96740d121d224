"""Trainings that are killed and resumed; presets and arguments."""

import dataclasses
import json
import math
import random
import subprocess
import sys
import time

import gymnasium as gym
import pytest
import torch
from reinforce_support import TINY
from support import REPO

from agents import reinforce
from agents.reinforce import Args, Trainer
from asg_env.cli import read_arguments
from asg_env.learning.checkpoint import read_checkpoint, write_checkpoint
from asg_env.learning.run_folder import open_run

TRAIN = """
import sys
from pathlib import Path
import torch
import torch.utils.tensorboard
from agents import reinforce
from asg_env.learning.run_folder import open_run
import dataclasses
import asg_env.tasks.digits
from tests.reinforce_support import TINY
args = dataclasses.replace(TINY, out=Path(sys.argv[1]))
print("ready", flush=True)
open_run(args.out, dataclasses.asdict(args))
reinforce.train(args)
print("done", flush=True)
"""


def start_training(folder):
    """A training process that is about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def rows_of(folder):
    """The logged rows, less their wall-clock time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "checksum")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def test_a_killed_training_resumes_to_the_same_policy(tmp_path):
    """SIGKILL at five random moments, resuming each time: the same bytes."""
    process = start_training(tmp_path / "whole")
    began = time.perf_counter()
    assert process.stdout.readline().strip() == "done"
    whole = time.perf_counter() - began  # less the interpreter's start and end
    process.communicate(timeout=300)
    moments = random.Random(0)
    for _ in range(5):
        process = start_training(tmp_path / "killed")
        time.sleep(moments.uniform(0, whole))
        process.kill()
        process.communicate()
    process = start_training(tmp_path / "killed")
    assert process.communicate(timeout=300)[0].strip() == "done"
    first, second = ((tmp_path / n / "policy.safetensors") for n in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")


@pytest.mark.parametrize("updates", [1, 2])
def test_resuming_after_each_update_gives_the_same_policy(updates, tmp_path):
    """The same, without processes: stop after an update, start again from the files."""
    whole = reinforce.train(_opened(tmp_path / "whole"))
    args = _opened(tmp_path / "stopped")
    envs = reinforce.make_envs(args)
    trainer = Trainer(args, envs)
    for _ in range(updates):
        trainer.run_update()
        write_checkpoint(args.out, trainer.checkpoint())
    envs.close()
    assert read_checkpoint(args.out).update == updates
    resumed = reinforce.train(args)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def _opened(folder):
    args = dataclasses.replace(TINY, out=folder)
    open_run(folder, dataclasses.asdict(args))
    return args


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x80\x04 no checkpoint")
    with pytest.raises(ValueError, match="delete it to start over") as error:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert read_checkpoint(tmp_path / "nowhere") is None


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    args = _opened(tmp_path)
    open_run(tmp_path, dataclasses.asdict(args))  # the same again is no other
    other = dataclasses.replace(args, lr=0.5)
    with pytest.raises(
        SystemExit, match=rf"holds a run with lr={args.lr}, not 0.5: choose another"
    ) as e:
        reinforce.main(other)
    assert str(tmp_path) in str(e.value)


def test_an_unwritable_out_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    args = dataclasses.replace(TINY, out=tmp_path / "file" / "run")
    with pytest.raises(SystemExit, match="cannot be written") as error:
        reinforce.main(args)
    assert str(args.out) in str(error.value)


def test_the_paper_presets_facts():
    """Its window, restart and run length are the environment's, whatever its epochs are."""
    paper = reinforce.PRESETS["paper"]
    assert (paper.lr, paper.optimizer, paper.anneal, paper.gamma) == (7e-4, "sgd", False, 0.0)
    assert (paper.rollout, paper.early_stop_epochs, paper.budget_epochs) == (5, 2, 30)
    assert (paper.baseline, paper.entropy, paper.clip) == ("none", 0.0, math.inf)
    off = (paper.normalise, paper.per_step_credit, paper.carry_state, paper.greedy)
    assert not any(off)
    assert (paper.heads, paper.scale, paper.skip, paper.head_hidden) == (
        *("separate", "categorical"),
        *(False, 0),
    )
    assert (paper.observation, paper.num_envs) == ("paper", 1)
    assert paper.env_kwargs == {"window": "paper", "optimizer": "official_sgd"}


@pytest.mark.parametrize("batch_size", [32, 50])
def test_what_is_given_in_epochs_follows_the_environment(batch_size):
    kwargs = {"batch_size": batch_size, **reinforce.PRESETS["paper"].env_kwargs}
    args = dataclasses.replace(reinforce.PRESETS["paper"], env_kwargs=kwargs, workers="none")
    u = gym.make("ASG-Digits-v0", batch_size=batch_size).unwrapped
    epoch = math.ceil(len(u.problem.splits["train"]) / batch_size)
    assert reinforce.run_setup(args).kwargs == {**kwargs, "budget": 30 * epoch}
    envs = reinforce.make_envs(args)
    config = envs.get_attr("unwrapped")[0].config
    assert (config.budget, config.step_limit) == (30 * epoch, 2 * epoch)
    trainer = Trainer(args, envs)
    assert isinstance(trainer.learner.optimizer, torch.optim.SGD)
    assert trainer.learner.optimizer.defaults["momentum"] == 0.9
    assert not trainer.network.args.greedy
    envs.close()


def test_steps_that_are_given_come_before_epochs():
    given = {"budget": 20, "step_limit": 10}
    args = dataclasses.replace(reinforce.PRESETS["paper"], env_kwargs=given, workers="none")
    assert reinforce.run_setup(args).kwargs == given
    envs = reinforce.make_envs(args)
    assert envs.get_attr("unwrapped")[0].config.step_limit == 10
    envs.close()


def test_env_kwargs_add_to_the_presets():
    args = read_arguments(
        reinforce.PRESETS, ["--preset", "paper", "--env-kwargs", "base_lr", "0.05", "window", "7"]
    )
    assert args.env_kwargs == {"window": 7, "optimizer": "official_sgd", "base_lr": 0.05}
    assert reinforce.PRESETS["paper"].env_kwargs["window"] == "paper"


def test_presets_choose_the_defaults():
    assert read_arguments(reinforce.PRESETS, []) == Args()
    paper = read_arguments(reinforce.PRESETS, ["--preset", "paper", "--updates", "7"])
    assert (paper.gamma, paper.rollout, paper.per_step_credit, paper.updates) == (0.0, 5, False, 7)
    assert read_arguments(reinforce.PRESETS, ["--preset=paper"]).optimizer == "sgd"
