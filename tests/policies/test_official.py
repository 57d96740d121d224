"""Published checkpoints: read safely, act as published."""

import io
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from conformance_support import SETS, second_set, write_set
from support import REPO
from torch import nn

from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    load_official_policy,
    load_policy,
    save_policy,
)

DATA = REPO / "tests/data"


POLICY = DATA / "official_policy.pth"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def policy():
    return load_official_policy(POLICY)


def test_a_published_policy_acts_as_published(policy):
    args = PolicyArgs(
        *("paper", 1, 7, 11, 20),
        heads="separate",
        scale="categorical",
        carry_state=False,
        greedy=False,
        critic=True,
    )
    assert policy.args == args
    assert sum(p.numel() for p in policy.parameters()) == 17_762  # paper


@pytest.mark.parametrize(("levels", "kind"), [(11, "discrete"), (5, "continuous")])
def test_other_numbers_of_levels_are_scales(levels, kind, tmp_path):
    """An environment would read level 4 of 5 as .4; it is 1."""
    weights, vectors = second_set(1, 3, 6, levels, 4)
    deployed = LearnedPolicy(load_policy(write_set(tmp_path, weights, vectors).policy))
    assert deployed.env_kwargs["action"] == kind
    env = gym.make("asg_env:ASG-Digits-v0", **deployed.env_kwargs)
    deployed.begin(env.unwrapped.group_names, [], 0)
    observation = np.array(vectors["obs"][0], dtype=np.float32)
    actions = [deployed.act(observation) for _ in range(50)]
    assert all(env.action_space.contains(action) for action in actions)
    top = 10 if kind == "discrete" else 1
    assert len(np.unique(actions)) == levels
    assert np.max(actions) == top


def test_one_entry_reads_both_formats(policy, tmp_path):
    save_policy(policy, tmp_path)
    for path in (POLICY, str(POLICY), tmp_path, tmp_path / "policy.json"):
        loaded = load_policy(path)
        assert loaded.args == policy.args
        for name, value in policy.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])


@pytest.mark.parametrize("numbers", SETS)
def test_sizes_are_inferred(numbers, tmp_path):
    weights, vectors = second_set(*numbers)
    args = load_policy(write_set(tmp_path, weights, vectors).policy).args
    assert (args.groups, args.levels, args.hidden) == numbers[2:]


class _Explosive:
    """Pickled, it breaks the test of whoever unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def saved(loaded):
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    return buffer.getvalue()


def official(**change):
    """The published dict, some entries changed (None: left out)."""
    loaded = torch.load(POLICY, weights_only=True)
    loaded |= {k.replace("__", "."): v for k, v in change.items()}
    return saved({k: v for k, v in loaded.items() if v is not None})


HEAD = "action_distribution__linear__"


WRONG_FILES = {
    "empty": (b"", "truncated"),
    "text": (b"not a checkpoint", "truncated"),
    "json": (b'{"a": 1}', "truncated"),
    "cut": (POLICY.read_bytes()[:40000], "truncated"),
    "cut at the end": (POLICY.read_bytes()[:-1], "truncated"),
    "pickle": (pickle.dumps(_Explosive(), 2), "never loaded"),
    "pickle in torch's format": (saved({"a": _Explosive()}), "never loaded"),
    "list": (saved([torch.ones(2)]), "flat dict of tensors, found a list"),
    "tensor": (saved(torch.ones(2)), "found a Tensor"),
    "nested": (saved({"state_dict": {"a": torch.ones(2)}}), "a dict with 'state_dict': dict"),
    "numbered": (saved({1: torch.ones(2)}), "keys that are no strings"),
    "no keys": (saved({}), r"missing keys: .* and 21 more; unknown keys: none"),
    "another network": (
        saved(nn.Linear(2, 2).state_dict()),
        "missing keys: net.state_encoder.*; unknown keys: weight, bias$",
    ),
    "no critic": (
        official(critic__fc__weight=None, critic__fc__bias=None),
        r"missing keys: critic\.fc\.weight, critic\.fc\.bias; unknown keys: none",
    ),
    "no head 3": (
        official(**{f"{HEAD}3__weight": None, f"{HEAD}3__bias": None}),
        r"missing keys: action_distribution\.linear\.3\..*; unknown keys: action_distribution.*6",
    ),
    "one head less": (
        official(**{f"{HEAD}6__weight": None, f"{HEAD}6__bias": None}),
        r"critic\.fc\.weight has shape \(1, 707\), expected \(1, 606\)",
    ),
    "a sixth encoder": (
        official(net__state_encoder__5__rnn__bias_ih_l0=torch.ones(80)),
        r"unknown keys: net\.state_encoder\.5",
    ),
    "another hidden size": (
        official(net__state_encoder__2__rnn__weight_hh_l0=torch.ones(40, 10)),
        r"encoder\.2\.rnn\.weight_hh_l0 has shape \(40, 10\), expected \(80, 20\)",
    ),
    "other levels": (
        official(**{f"{HEAD}4__bias": torch.ones(5)}),
        r"linear\.4\.bias has shape \(5,\), expected \(11,\)",
    ),
    "a scalar": (
        official(net__state_encoder__0__rnn__weight_ih_l0=torch.tensor(1.0)),
        r"has shape \(\), expected",
    ),
    "NaN": (official(critic__fc__bias=torch.tensor([math.nan])), "critic.*no finite number"),
    "integers": (official(critic__fc__bias=torch.tensor([1])), "critic.*no finite number"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_checkpoint_is_a_clear_error(kind, tmp_path):
    content, message = WRONG_FILES[kind]
    path = tmp_path / "wrong.pth"
    path.write_bytes(content)
    for load in (load_policy, load_official_policy):
        with pytest.raises(
            ValueError, match=f"is no published policy checkpoint: .*{message}"
        ) as e:
            load(path)
        assert str(path) in str(e.value)


def test_cut_anywhere_it_is_refused(tmp_path):
    whole, path = POLICY.read_bytes(), tmp_path / "cut.pth"
    for share in np.linspace(0, 0.999, 40):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match="truncated"):
            load_policy(path)


@pytest.mark.parametrize("name", ["nowhere.pth", "nowhere.pt"])
def test_a_missing_checkpoint_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=name):
        load_policy(tmp_path / name)
