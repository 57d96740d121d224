"""A recurrent policy survives its files; damaged ones are clear errors."""

import json
import pickle

import pytest
import torch
from reinforce_support import shaken

from asg_env.policies.recurrent import (
    PolicyArgs,
    RecurrentPolicy,
    load_policy,
    save_policy,
)


@pytest.mark.parametrize("heads", ["separate", "shared"])
def test_a_policy_survives_its_files(heads, tmp_path):
    args = PolicyArgs("paper", 1, 6, heads=heads, head_hidden=4, carry_state=False)
    network = shaken(args)
    path = save_policy(network, tmp_path)
    for given in (tmp_path, path, str(path.with_suffix(".json"))):
        loaded = load_policy(given)
        assert loaded.args == network.args
        for name, value in network.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])


def _truncate(folder):
    path = folder / "policy.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _pickle(folder):
    (folder / "policy.safetensors").write_bytes(pickle.dumps(_Explosive()))


def _torch_save(folder):
    torch.save({"a": torch.zeros(3)}, folder / "policy.safetensors")


def _rewrite(folder, **change):
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


class _Explosive:
    """Pickled, it breaks the test of whoever unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _pickle,
        _torch_save,
        lambda folder: (folder / "policy.safetensors").write_bytes(b""),
        lambda folder: (folder / "policy.json").write_text('{"observation": '),
        lambda folder: _rewrite(folder, colour="red"),
        lambda folder: _rewrite(folder, groups=5),
        lambda folder: _rewrite(folder, hidden=10),
        lambda folder: _rewrite(folder, heads="shared"),
    ],
    ids=["cut", "pickle", "torch", "empty", "json-cut", "unknown", "groups", "hidden", "heads"],
)
def test_a_damaged_policy_is_a_clear_error(damage, tmp_path):
    save_policy(RecurrentPolicy(PolicyArgs("layerwise", 5, 6)), tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match="is no policy of this version") as error:
        load_policy(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("missing", ["policy.safetensors", "policy.json"])
def test_a_missing_policy_file_is_named(missing, tmp_path):
    save_policy(RecurrentPolicy(PolicyArgs("layerwise", 5, 6)), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        load_policy(tmp_path)
