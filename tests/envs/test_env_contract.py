import contextlib
import itertools
import json
import warnings
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import registry
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RescaleAction
from matplotlib.figure import Figure
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support import SMALL, make, random_actions, run_python

from asg_env.control.actions import ACTIONS
from asg_env.control.observations import OBSERVATIONS
from asg_env.envs import rendering
from asg_env.envs.ledger import Ledger
from asg_env.envs.rewards import REWARDS
from asg_env.registration import ENTRY_POINTS, register_envs

IDS = tuple(ENTRY_POINTS)


OBSERVATION_BY_ACTION = (
    *itertools.product(("paper", "layerwise"), ("discrete", "continuous")),
    *(("loop", "log"), ("relative", "log_continuous"), ("rgn", "continuous")),
)
assert {name for name, _ in OBSERVATION_BY_ACTION} == set(OBSERVATIONS)
assert {name for _, name in OBSERVATION_BY_ACTION} == set(ACTIONS)
NUMBERS = {  # global ones, and those of each group
    **{"paper": (5, 1), "layerwise": (5, 5), "loop": (5, 5), "relative": (5, 6), "rgn": (1, 1)}
}


INFO_KEYS = {
    "skipped",
    "rewards",
    "lr",
    "losses",
    "dataset",
    "variant",
    "steps",
    "decision",
    "context",
}


class Case(NamedTuple):
    """An id, and arguments with which it makes a small environment."""

    env_id: str
    kwargs: dict[str, Any]


@pytest.fixture(params=IDS)
def case(request, id_arguments):
    return Case(request.param, id_arguments[request.param])


@pytest.fixture(params=OBSERVATION_BY_ACTION, ids="-".join)
def spaces(request, case):
    observation, action = request.param
    if "Context" in case.env_id and action != "log":
        pytest.skip("the same environment as without a context, with its own spaces")
    return {"observation": observation, "action": action}


def test_gymnasium_finds_nothing_to_say(case, spaces):
    env = make(case.env_id, **case.kwargs, **spaces, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)


def test_stable_baselines3_finds_nothing_to_say(case, spaces):
    env = make(case.env_id, **case.kwargs, **spaces)
    if spaces["action"] == "continuous":  # SB3 asks for -1..1, the contract for 0..1
        env = RescaleAction(env, np.float32(-1), np.float32(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(env)


def test_spaces_are_the_contracts(case, spaces):
    env = make(case.env_id, **case.kwargs, **spaces)
    groups = len(env.group_names)
    expected = {
        "discrete": gym.spaces.MultiDiscrete([11] * groups),
        "continuous": gym.spaces.Box(0.0, 1.0, (groups,), np.float32),
        "log": gym.spaces.MultiDiscrete([7] * groups),
        "log_continuous": gym.spaces.Box(-1.0, 1.0, (groups,), np.float32),
    }
    assert env.action_space == expected[spaces["action"]]
    assert env.observation_space.dtype == np.float32
    assert env.observation_space.is_bounded()
    overall, per_group = NUMBERS[spaces["observation"]]
    count = overall + per_group * groups
    assert env.observation_space.shape == (count,) == (len(env.observation_names),)


def test_episodes_stay_in_bounds_and_end_with_the_budget(case, spaces):
    env = gym.make(
        case.env_id, **case.kwargs, **SMALL, **spaces
    )  # with Gymnasium's passive checker
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        for action in random_actions(env.unwrapped, 4, seed):
            assert env.observation_space.contains(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            assert isinstance(reward, float)
            assert np.isfinite(reward)
        assert (terminated, truncated) == (True, False)
        assert info["steps"] == SMALL["budget"]


def test_info_holds_the_contracts_keys(case):
    env = make(case.env_id, **case.kwargs)
    _, info = env.reset(seed=0)
    assert set(info) == INFO_KEYS
    *_, info = env.step(env.action_space.sample())
    assert set(info) == INFO_KEYS
    assert set(info["rewards"]) == {name for name, term in REWARDS.items() if not term.oracle}
    assert set(info["losses"]) == {"train_ce", "train_kl", "valid_ce", "valid_kl", "phi"}
    assert info["lr"].shape == (len(env.group_names),)
    assert info["dataset"] == env.dataset_name
    assert isinstance(info["dataset"], str)
    assert info["dataset"]


def vector_trajectory(vector, actions):
    with contextlib.closing(vector):
        frames = [vector.reset(seed=[3, 4])[0]]
        for action in actions:
            observation, reward, terminated, _, _ = vector.step(action)
            frames += [observation, reward, terminated]
    return frames


def test_vector_envs_agree_and_reset_themselves(case, spaces):
    env = make(case.env_id, **case.kwargs, **spaces)
    actions = [np.stack([a, a]) for a in random_actions(env, 7, seed=0)]
    runs = [
        vector_trajectory(
            gym.make_vec(case.env_id, 2, vectorization_mode=mode, **case.kwargs, **SMALL, **spaces),
            actions,
        )
        for mode in ("sync", "async")
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
    assert runs[0][12].all()  # terminated at the fourth decision
    assert not runs[0][18].any()  # and running again after the reset


def test_ppo_runs(case, spaces):
    env = gym.make(case.env_id, **case.kwargs, **SMALL, **spaces)
    threads = torch.get_num_threads()
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0)
    model.learn(16)
    assert model.num_timesteps == 16
    assert torch.get_num_threads() == threads


def test_the_module_prefix_makes_the_env_in_a_fresh_process(case, tmp_path):
    code = (
        "import gymnasium, json, sys;"
        "env = gymnasium.make(sys.argv[1], **json.loads(sys.argv[2]));"
        "print(env.unwrapped.group_names)"
    )
    arguments = f"asg_env:{case.env_id}", json.dumps(case.kwargs)
    assert "fc_new" in run_python(code, *arguments, cwd=tmp_path)


def test_importing_the_package_is_enough_in_a_fresh_process(case, tmp_path):
    code = (
        "import json, sys, gymnasium, asg_env; gymnasium.register_envs(asg_env);"
        "assert 'torch' not in sys.modules;"
        "env = gymnasium.make(sys.argv[1], **json.loads(sys.argv[2]));"
        "print(env.unwrapped.group_names)"
    )
    assert "fc_new" in run_python(code, case.env_id, json.dumps(case.kwargs), cwd=tmp_path)


def test_registering_twice_is_harmless():
    before = dict(registry)
    register_envs()
    assert dict(registry) == before


def test_a_frame_is_an_image_that_changes(case):
    env = make(case.env_id, **case.kwargs, render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    for action in random_actions(env, 4, seed=0):
        env.step(action)
        frames.append(env.render())
    assert {(f.shape, f.dtype) for f in frames} == {((540, 960, 3), np.dtype(np.uint8))}
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


def test_a_table_names_the_groups_and_grows(case):
    env = make(case.env_id, **case.kwargs, render_mode="ansi")
    env.reset(seed=0)
    first = env.render()
    assert all(name in first for name in env.group_names)
    assert env.dataset_name in first
    env.step(env.action_space.sample())
    assert len(env.render().splitlines()) == len(first.splitlines()) + 1


def test_an_env_without_a_render_mode_draws_nothing(case):
    env = make(case.env_id, **case.kwargs)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@pytest.mark.parametrize("decisions", [1, 2, 6, 300])
def test_the_map_of_scales_numbers_its_decisions(decisions):
    axes = Figure().add_subplot()
    rows = [{"steps": 5 * k, "scales": [0.5, 1.0]} for k in range(decisions + 1)]
    episode = Ledger(None, 0, [5] * decisions, history=rows)
    mesh = rendering._draw_decisions(axes, ["body", "fc_new"], episode)
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert axes.get_xlabel() == "decision"
    assert shown
    assert all(tick == int(tick) for tick in shown)
    assert mesh.get_array().shape == (2, decisions)
