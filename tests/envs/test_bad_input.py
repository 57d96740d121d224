import errno
import os
import pickle
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from safetensors.torch import save_file
from support import constant, make, play, random_actions, started, trajectory

from asg_env.envs.snapshot import Snapshot, read_snapshot, write_snapshot

NAN, INF = float("nan"), float("inf")


BAD_VALUES = {
    "variant": ["train:99", "validation", "", 3, ["train"], np.array(["train", "test"])],
    "observation": ["laywise", None, 3],
    "action": ["box", None],
    "reward": ["proxy", None],
    "guidance": [-1.0, NAN, INF, "0.3", True],
    "regularizer": ["l2", None, 3, np.array(["si", "ewc"])],
    "regularizer_strength": [-1.0, NAN, INF, "1", None],
    "temperature": [0.0, -1.0, NAN, INF, "2", None],
    "reward_guidance": [-1.0, NAN, INF, "0.3"],
    "reward_images": [0, -1, 2.5, "8", True],
    "base_lr": [0, -0.1, NAN, INF, "0.1", True, 1e300, 2**200],
    "budget": [0, -5, 2.5, "20", True, 2**63, np.array([20, 20])],
    "window": [0, -1, 2.5, "papr", True],
    "step_limit": [0, 2.5, "5", 2**63],
    "optimizer": ["adamm", 3],
    "method": ["guidedd", 3],
    "momentum": [1.0, -0.1, NAN, "0.9"],
    "weight_decay": [-1e-4, NAN, INF, None],
    "clip_norm": [0, -1.0, NAN, "5"],
    "batch_size": [0, 2.5, "32", 2**63],
    "device": [np.array(["cpu", "cuda"]), "gpu", "cuda:x", "cuda:99", "meta", "", 3],
    "threads": [-1, 1.5, "1", 2**31],
    "teacher": ["cache", None, True],
    "precision": ["fp16", None, 16],
    "channels_last": ["yes", 1],
    "decide_first": ["yes", 1, None],
    "start_scale": [0, -0.1, NAN, INF, "0.1", True],
    "label_noise": [1.0, -0.1, NAN, "0.1", None],
    "shift_at": [1.1, -0.1, NAN, "0.5", None],
    "context": [3, "base_lr", {"base_lr": "high"}, {"speed": 1}, {"budget": ("uniform", 0, 9)}],
    "render_mode": ["human", "rgb", 3, np.array(["ansi", "rgb_array"])],
    "data_root": ["/data", "", Path("/data")],
}


BAD_ACTIONS = {
    "discrete": {
        "too short": [5] * 5,
        "too long": [5] * 7,
        "scalar": 5,
        "batch": [[5] * 6],
        "negative": [-1, 0, 0, 0, 0, 0],
        "too high": [11, 0, 0, 0, 0, 0],
        "fractional": [0.5, 0, 0, 0, 0, 0],
        "nan": [NAN, 0, 0, 0, 0, 0],
        "bool": [True] * 6,
        "text": ["5"] * 6,
        "none": None,
        "ragged": [[5], [5, 5], 5, 5, 5, 5],
        "huge": [10**400, 0, 0, 0, 0, 0],
        "huge float": [1e300, 0, 0, 0, 0, 0],
        "dict": {"a": 5},
        "tensor of bools": torch.ones(6, dtype=torch.bool),
        "tensor with NaN": torch.full((6,), NAN),
        "tensor of another shape": torch.ones(1, 6),
        "objects": np.array([object()] * 6),
    },
    "continuous": {
        "too short": [0.5] * 5,
        "negative": [-1e-6, 0, 0, 0, 0, 0],
        "too high": [1.000001, 0, 0, 0, 0, 0],
        "infinite": [INF, 0, 0, 0, 0, 0],
        "nan": [0, 0, 0, 0, 0, NAN],
        "complex": [1j] * 6,
    },
}


EXTREMES = {
    **{
        "base_lr": [1e38, 5e-324],
        "guidance": [1e38],
        "momentum": [1 - 1e-16],
        "batch_size": [10**7],
    },
    **{"weight_decay": [1e38], "clip_norm": [1e300, 5e-324], "budget": [10**7], "window": [10**7]},
    **{"step_limit": [10**7], "reward_images": [10**7], "reward_guidance": [1e38]},
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in EXTREMES.items() for value in values]
)
def test_a_value_at_the_edge_of_its_range_plays(name, value):
    env = make(**{"budget": 4, "window": 2, name: value})
    env.reset(seed=0)
    if name != "window":
        observation, reward, *_ = env.step([10] * 6)
        assert np.isfinite([reward, *observation]).all()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_a_bad_value_is_refused_when_the_env_is_made_and_named(name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        make(**{name: value})


def test_every_argument_has_bad_values_to_try():
    assert set(BAD_VALUES) == {*make().config.__dataclass_fields__, "render_mode", "data_root"}


def test_paper_windows_that_leave_no_decision_are_refused():
    with pytest.raises(ValueError, match="budget=10"):
        make(window="paper", budget=10).reset(seed=0)


def test_an_unknown_argument_is_named_with_the_nearest_and_all_known_ones():
    with pytest.raises(TypeError, match=r"'gidance'.*'guidance'.*known:.*base_lr"):
        make(gidance=0.1)
    with pytest.raises(TypeError, match="'zzz'"):
        make(zzz=1)


def test_an_unknown_id_is_refused_with_a_suggestion():
    with pytest.raises(gym.error.NameNotFound, match="ASG-Digits"):
        gym.make("ASG-Digit-v0")
    with pytest.raises(gym.error.VersionNotFound, match="v0"):
        gym.make("ASG-Digits-v7")


@pytest.mark.parametrize("kind", BAD_ACTIONS)
def test_bad_actions_are_refused_and_leave_the_episode_untouched(kind):
    env, untouched = started(action=kind), started(action=kind)
    actions = random_actions(env, 4, seed=0)
    for bad in BAD_ACTIONS[kind].values():
        with pytest.raises(ValueError, match=r"action|sequence"):
            env.step(bad)
    assert play(env, actions) == play(untouched, actions)


@pytest.mark.parametrize(
    "same",
    [
        *([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 2, 3, 4, 5, 6), np.arange(1, 7, dtype=np.uint8)),
        *(torch.arange(1, 7), torch.arange(1.0, 7.0, requires_grad=True)),
        *(torch.arange(1, 7, dtype=torch.bfloat16), [np.int64(k) for k in range(1, 7)]),
    ],
    ids=str,
)
def test_an_action_may_be_a_list_a_tensor_or_whole_floats(same):
    env, other = started(), started()
    assert play(other, [same]) == play(env, [np.array([1, 2, 3, 4, 5, 6])])


def test_what_needs_a_running_episode_says_so_before_reset(tmp_path):
    env = make(render_mode="ansi")
    calls = (
        lambda: env.step(constant(env, 1.0)),
        lambda: env.evaluate("test"),
        lambda: env.save(tmp_path / "x"),
        *(env.fork, env.render),
    )
    for call in calls:
        with pytest.raises(ResetNeeded, match="reset"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_step_after_the_end_is_refused():
    env = started()
    play(env, random_actions(env, 4, seed=0))
    with pytest.raises(ResetNeeded, match="over"):
        env.step(constant(env, 1.0))


def test_an_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'tset'.*train, inner_valid, outer_valid, test"):
        started().evaluate("tset")


@pytest.mark.parametrize("options", [{"varient": "train:0"}, {"variant": "train:99"}])
def test_a_refused_reset_changes_nothing(options):
    env, untouched = started(seed=1), started(seed=1)
    with pytest.raises(ValueError, match=r"varient|train:99"):
        env.reset(seed=9, options=options)
    actions = random_actions(env, 4, seed=0)
    assert play(env, actions) == play(untouched, actions)
    assert trajectory(env, None, actions) == trajectory(untouched, None, actions)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture(scope="module")
def snapshot_bytes(tmp_path_factory):
    env = started()
    play(env, random_actions(env, 1, seed=0))
    path = tmp_path_factory.mktemp("snapshot") / "whole"
    env.save(path)
    return path.read_bytes()


def bad_snapshot(kind, path, whole):
    if kind == "directory":
        path.mkdir()
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(path.parent / "executed")))
    elif kind == "torch pickle":
        torch.save(Payload(path.parent / "executed"), path)
    elif kind == "other safetensors":
        save_file({"weight": torch.ones(3)}, path)
    elif kind.startswith("cut"):
        path.write_bytes(whole[: int(len(whole) * float(kind.split()[1]))])
    elif kind != "missing":
        path.write_bytes(whole)
        tensors, state = read_snapshot(path)
        if kind == "other budget":
            state["config"]["budget"] = 40
        elif kind == "other task":
            state["task"] = "visda"
        elif kind == "no state":
            state = {}
        elif kind == "no weights":
            tensors = {}
        elif kind == "other shapes":
            tensors = {name: torch.ones(2) for name in tensors}
        write_snapshot(path, Snapshot(tensors, state))


@pytest.mark.parametrize(
    "kind",
    [
        *("missing", "directory", "pickle", "torch pickle", "other safetensors"),
        *("cut 0", "cut 0.001", "cut 0.3", "cut 0.999"),
        *("other budget", "other task", "no state", "no weights", "other shapes"),
    ],
)
def test_a_bad_snapshot_is_refused_and_leaves_the_episode_untouched(kind, tmp_path, snapshot_bytes):
    path = tmp_path / "bad"
    bad_snapshot(kind, path, snapshot_bytes)
    env, untouched = started(seed=5), started(seed=5)
    actions = random_actions(env, 4, seed=0)
    assert play(env, actions[:1]) == play(untouched, actions[:1])
    error = FileNotFoundError if kind in ("missing", "directory") else ValueError
    with pytest.raises(error, match=re.escape(str(path))):
        env.load(path)
    assert not (tmp_path / "executed").exists()
    assert play(env, actions[1:]) == play(untouched, actions[1:])
    assert trajectory(env, None, actions) == trajectory(untouched, None, actions)


@pytest.mark.parametrize("kwargs", [{"optimizer": "official_sgd"}, {"observation": "paper"}])
def test_a_snapshot_of_other_arguments_is_refused_with_the_difference(kwargs, tmp_path):
    started().save(tmp_path / "saved")
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"{name}=.*{name}="):
        make(**kwargs).load(tmp_path / "saved")


def test_saving_where_it_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("mine too")
    env = started()
    before = sorted(tmp_path.rglob("*"))
    for target in (tmp_path / "file" / "snapshot", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"file|folder"):
            env.save(target)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_save_that_fails_halfway_keeps_the_old_file(tmp_path, monkeypatch):
    env = started()
    env.save(tmp_path / "saved")
    old = (tmp_path / "saved").read_bytes()
    play(env, random_actions(env, 1, seed=0))

    def no_space(_handle):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        env.save(tmp_path / "saved")
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]
    assert (tmp_path / "saved").read_bytes() == old
