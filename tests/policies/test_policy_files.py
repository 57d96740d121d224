"""A policy's files belong together, hold what they say, and say no more than they hold."""

import json
import time
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file, save_file

from asg_env.files import BadFile
from asg_env.policies import load
from asg_env.policies.families import TunedPolicy
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy

SMALL = PolicyArgs("layerwise", 5, 6, hidden=2)


def rewrite(folder, **change):
    """As by hand, and meant: without the checksum."""
    path = folder / "policy.json"
    fields = json.loads(path.read_text()) | change
    del fields["checksum"]
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 30_000},
        {"groups": 10**6},
        {"groups": 9_000},
        {"levels": 10**12},
        {"head_hidden": 10**6},
        {"signals": 2**63},
        {"hidden": -1},
        {"hidden": 2.0},
        {"greedy": "no"},
    ],
    ids=str,
)
def test_declared_sizes_are_compared_before_anything_is_allocated(change, tmp_path):
    save_policy(RecurrentPolicy(SMALL), tmp_path)
    rewrite(tmp_path, **change)
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(BadFile, match=rf"policy\.json is no policy.*{next(iter(change))} is"):
        load(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    assert time.perf_counter() - began < 2


def test_files_of_two_policies_are_noticed(tmp_path):
    for seed in (0, 1):
        save_policy(RecurrentPolicy(SMALL, seed), tmp_path / str(seed))
    (tmp_path / "0/policy.safetensors").replace(tmp_path / "1/policy.safetensors")
    with pytest.raises(BadFile, match="are not of the same policy: restore both"):
        load(tmp_path / "1")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1])
def test_weights_that_are_no_finite_floats_are_refused(value, tmp_path):
    path = save_policy(RecurrentPolicy(SMALL), tmp_path)
    rewrite(tmp_path, weights=None)
    tensors = load_file(path)
    bias = torch.full((11,), value)
    save_file({**tensors, "heads.0.0.bias": bias}, path)
    with pytest.raises(BadFile, match=r"policy\.safetensors.*heads\.0\.0\.bias holds"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 2**63},
        {"groups": 4},
        {"parameters": {}},
        {"parameters": {"scales": [0.1, float("nan"), 1]}},
        {"parameters": {"scales": [0.1, 7, 1]}},
        {"parameters": {"scales": 0.5}},
        {"family": "zzz"},
        {"family": ["cosine"]},
        {"name": 3},
    ],
    ids=str,
)
def test_a_tuned_schedule_that_none_could_be_is_refused(change, tmp_path):
    TunedPolicy("constant_vector", {"scales": [0.1, 0.2, 1.0]}, 3, "x").save(
        tmp_path / "policy.json"
    )
    rewrite(tmp_path, **change)
    with pytest.raises(BadFile, match=r"policy\.json holds no tuned schedule"):
        load(tmp_path)


def test_a_damaged_description_is_blamed_itself(tmp_path):
    for content in (b"{", b"[" * 10**5, b"\xff", b"[]"):
        (tmp_path / "policy.json").write_bytes(content)
        with pytest.raises(BadFile, match=r"policy\.json is no policy of this version"):
            load(tmp_path)
