"""What other libraries read of an environment: its spec, its namespace, and infos of one form."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from support import DIGITS_ID, make, random_actions, started

from asg_env.envs.plain import plain_values
from asg_env.envs.rewards import REWARDS, RewardTerm
from asg_env.methods.regularizers import REGULARIZERS
from asg_env.registration import ENTRY_POINTS

TERM = RewardTerm("-Phi", lambda t: -t.phi, lambda n: -20.0 * n)


def form(value):
    """The keys, types, shapes and dtypes of an info."""
    if isinstance(value, dict):
        return {name: form(item) for name, item in sorted(value.items())}
    return type(value), getattr(value, "shape", None), getattr(value, "dtype", None)


@pytest.mark.parametrize("regularizer", ["none", *REGULARIZERS])
def test_infos_have_one_form_from_the_reset_to_the_end(regularizer):
    env = make(regularizer=regularizer, budget=4, window=2)
    _, first = env.reset(seed=0)
    assert {form(first)["rewards"][name][0] for name in first["rewards"]} == {float}
    for action in random_actions(env, 2, seed=0):
        *_, info = env.step(action)
        assert form(info) == form(first)


@pytest.mark.filterwarnings("ignore:reward=.* reads the labels")
@pytest.mark.parametrize("reward", [*REWARDS, TERM])
def test_every_reward_is_told_from_the_reset_on(reward):
    env = make(reward=reward)
    _, first = env.reset(seed=0)
    assert set(first["rewards"].values()) == {0.0}
    *_, info = env.step([5] * 6)
    assert list(info["rewards"]) == list(first["rewards"])


def test_a_spec_is_json_and_makes_the_same_environment():
    given = {"base_lr": np.float32(0.5), "budget": np.int64(4), "window": np.array(2)}
    spec = gym.make(DIGITS_ID, regularizer=REGULARIZERS["si"], **given).spec
    again = gym.make(EnvSpec.from_json(spec.to_json())).unwrapped
    assert (again.config.base_lr, again.config.budget, again.config.window) == (0.5, 4, 2)
    noted = json.loads(spec.to_json())["kwargs"]
    assert noted["regularizer"] == "asg_env.methods.regularizers:SynapticIntelligence"


def test_a_spec_keeps_what_has_no_name():
    term = RewardTerm("-Phi", lambda t: -t.phi, lambda n: -20.0 * n)
    assert gym.make(DIGITS_ID, reward=term).unwrapped.spec.kwargs["reward"] is term


def test_a_fork_has_the_spec_of_its_environment():
    env = gym.make(DIGITS_ID, budget=4, window=2)
    env.reset(seed=0)
    assert env.unwrapped.fork().spec == env.unwrapped.spec
    assert started().fork().spec.id == DIGITS_ID


def test_the_ids_are_listed_under_the_package():
    listed = gym.pprint_registry(disable_print=True)
    ours = listed.partition("===== asg_env =====")[2].partition("=====")[0]
    assert set(ENTRY_POINTS) <= set(ours.split())
    assert "factories" not in listed


def test_an_array_is_no_value():
    assert plain_values({"a": np.float64(2), "b": np.array(3), "c": "x"}) == {
        "a": 2,
        "b": 3,
        "c": "x",
    }
    with pytest.raises(ValueError, match=r"optimizer=array.*not an array"):
        plain_values({"optimizer": np.array(["sgd", "sgd"])})


def test_an_unknown_argument_is_refused_in_pythons_words_too():
    """TorchRL tries ``frameskip`` and looks for them."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
        make(frameskip=1)
