"""Snapshots without a checksum (of older versions, or by hand) are looked at; others are whole."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support import make, started

from asg_env.files import BadFile, read_tensors


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The tensors and the metadata of a snapshot, after one decision."""
    env = started(3)
    env.step(env.action_space.sample())
    path = tmp_path_factory.mktemp("saved") / "s.safetensors"
    env.save(path)
    return read_tensors(path)


def load(tmp_path, tensors, state):
    path = tmp_path / "s.safetensors"
    save_file(tensors, path, {"format": "asg_env-snapshot-1", "state": state})
    return make().load(path)


def test_a_whole_one_without_a_checksum_opens(saved, tmp_path):
    tensors, metadata = saved
    assert load(tmp_path, tensors, metadata["state"])[1]["decision"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"windows": [5] * 3},
        {"windows": [10**12] * 4},
        {"steps": 6},
        {"decision": 9},
        {"decision": -1, "steps": 0},
        {"seed": -1},
        {"phi": None},
        {"phi": float("nan")},
        {"observation": [0.0]},
        {"observation": "x"},
        {"scales": [float("inf")] * 6},
        {"history": []},
        {"variant": ["train"]},
        {"variant": "zzz"},
        {"zzz": 1},
    ],
    ids=str,
)
def test_a_ledger_that_none_could_be_is_refused(change, saved, tmp_path):
    tensors, metadata = saved
    state = json.loads(metadata["state"])
    state["episode"] |= change
    with pytest.raises(BadFile, match=r"s\.safetensors"):
        load(tmp_path, tensors, json.dumps(state))


@pytest.mark.parametrize(
    "state",
    ["", "{}", "[]", "[" * 10**5, '{"task": 1}'],
    ids=["none", "empty", "list", "deep", "number"],
)
def test_a_state_that_is_none_is_refused(state, saved, tmp_path):
    with pytest.raises(BadFile, match=r"s\.safetensors"):
        load(tmp_path, saved[0], state)


@pytest.mark.parametrize("key", ["position", "np_random", "problem", "config"])
def test_other_state_is_refused(key, saved, tmp_path):
    tensors, metadata = saved
    for value in (-1, 10**30, "x", {"bit_generator": "zzz"}):
        state = json.loads(metadata["state"]) | {key: value}
        with pytest.raises(BadFile, match=r"s\.safetensors"):
            load(tmp_path, tensors, json.dumps(state))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v * float("nan"),
        lambda v: v.to(torch.int32),
        lambda v: v.flatten()[:-1],
    ],
    ids=["nan", "integers", "shape"],
)
@pytest.mark.parametrize("kind", ["student.", "momentum."])
def test_foreign_tensors_are_refused(kind, change, saved, tmp_path):
    tensors, metadata = saved
    name = next(k for k in tensors if (k.startswith(kind) and "weight" in k) or k == f"{kind}0")
    with pytest.raises(BadFile, match=r"s\.safetensors"):
        load(tmp_path, {**tensors, name: change(tensors[name])}, metadata["state"])


def test_a_failed_load_leaves_the_running_episode(saved, tmp_path):
    env = started(4)
    before = env.student.head_weight.clone()
    path = tmp_path / "s.safetensors"
    env.save(path)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"is damaged: its checksum does not fit.*delete it"):
        env.load(path)
    assert torch.equal(env.student.head_weight, before)
