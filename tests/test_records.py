"""Records: any argument that the environment takes is noted, or refused before the first step."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.baselines import SchedulePolicy
from agents.run import Run
from asg_env.arguments import json_arguments
from asg_env.deploy import load_student, save_student
from asg_env.records import Record, replay, run_episode

DIGITS = "ASG-Digits-v0"
SMALL = {"budget": 10, "window": 5, "action": "continuous"}
FOLDERS = "ASG-ImageFolder-v0"
POLICY = SchedulePolicy("random")


def own_groups(network):
    return {"stem": ["conv1", "bn1"], "body": ["layer1", "layer2", "layer3"]}


def no_step(*_, **__):
    pytest.fail("a step was taken")


# -- arguments as JSON -----------------------------------------------------------------------------


def test_arguments_become_json_values():
    given = {
        **{"budget": np.int64(3), "lr": np.float32(0.5), "flag": np.bool_(True), "none": None},
        **{"root": Path("a/b"), "groups": {"a": ("x", "y")}, "inf": float("inf")},
        "function": own_groups,
    }
    noted = json_arguments(given)
    assert noted == {
        **{"budget": 3, "lr": 0.5, "flag": True, "none": None, "root": "a/b"},
        **{"groups": {"a": ["x", "y"]}, "inf": float("inf")},
        "function": f"{__name__}:own_groups",
    }
    assert json.loads(json.dumps(noted)) == noted
    assert [type(noted[name]) for name in ("budget", "lr", "flag")] == [int, float, bool]


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, np.zeros(2), {1: "a"}, torch.zeros(1), functools.partial(int)]
)
def test_what_json_lacks_is_named(value):
    with pytest.raises(TypeError, match=r"^groups=.* cannot be noted"):
        json_arguments({"budget": 3, "groups": value})


def test_a_record_of_such_arguments_replays(folders):
    kwargs = {**folders, **SMALL, "budget": np.int64(10), "groups": own_groups}
    kwargs["source_root"] = Path(folders["source_root"])
    record = run_episode(gym.make(FOLDERS, **kwargs), POLICY, FOLDERS, kwargs, seed=1)
    again = Record.from_json(record.to_json())
    assert again == record
    assert again.kwargs["groups"] == f"{__name__}:own_groups"
    assert replay(again) == []


def test_a_student_of_such_arguments_is_written(folders, tmp_path):
    kwargs = {**folders, **SMALL, "budget": np.int64(10), "groups": own_groups}
    kwargs["source_root"] = Path(folders["source_root"])
    env = gym.make(FOLDERS, **kwargs).unwrapped
    env.reset(seed=0)
    save_student(tmp_path / "student", env, FOLDERS, kwargs, {})
    noted = load_student(tmp_path / "student").facts["kwargs"]
    assert noted == json_arguments(kwargs)


@pytest.mark.parametrize("kind", ["lambda", "local"])
def test_groups_that_no_record_can_note_are_refused_before_the_first_step(
    kind, folders, tmp_path, monkeypatch
):
    def local(network):
        return own_groups(network)

    groups = {"lambda": lambda network: own_groups(network), "local": local}[kind]
    kwargs = {**folders, **SMALL, "groups": groups}
    env = gym.make(FOLDERS, **kwargs)
    monkeypatch.setattr(type(env.unwrapped), "reset", no_step)
    with pytest.raises(ValueError, match="pass groups='module:function'"):
        run_episode(env, POLICY, FOLDERS, kwargs, seed=0)
    with pytest.raises(ValueError, match="pass groups='module:function'"):
        Run(tmp_path, FOLDERS, kwargs, env.unwrapped, POLICY).train()
    assert not list(tmp_path.iterdir())
