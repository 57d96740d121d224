import warnings

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from support import SMALL, constant, frame, make, play, random_actions, started, student, trajectory

from asg_env.envs.rewards import REWARDS

PLACES = ("backbone.conv1.weight", "backbone.bn1.weight", "fc_new.2.weight", "fc_new.2.bias")


FROZEN_PLACES = ("fc_old.weight", "backbone.layer3.0.bn2.running_var")


NAN, INF = float("nan"), float("inf")


DECISIONS = SMALL["budget"] // SMALL["window"]


def rewarded(reward, **kwargs):
    if not REWARDS[reward].oracle:
        return make(reward=reward, **kwargs)
    with pytest.warns(UserWarning, match="oracle"):
        return make(reward=reward, **kwargs)


def episode(env, actions, seed=0):
    env.reset(seed=seed)
    total = 0.0
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        total += reward
        if terminated or truncated:
            break
    return total, info.get("error_type")


def poison(env, place=PLACES[0], value=NAN):
    student(env).state_dict()[place].view(-1)[-1] = value


@pytest.mark.parametrize("observation", ["layerwise", "paper"])
@pytest.mark.parametrize("optimizer", ["sgd", "official_sgd"])
@pytest.mark.parametrize("base_lr", [1e6, 1e30])
def test_a_divergence_is_observed_finitely_and_ends_the_episode(base_lr, optimizer, observation):
    env = make(base_lr=base_lr, optimizer=optimizer, observation=observation)
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    terminated = False
    while not terminated:
        seen, reward, terminated, truncated, info = env.step(constant(env, 1.0))
        assert env.observation_space.contains(seen)
        assert np.isfinite(seen).all()
        assert np.isfinite([reward, *info["rewards"].values()]).all()
        assert not truncated
    assert info["error_type"] == "diverged"
    assert info["steps"] < SMALL["budget"]


def test_an_honest_episode_reports_no_error():
    env = started()
    for action in random_actions(env, DECISIONS, seed=0):
        *_, terminated, _, info = env.step(action)
        assert "error_type" not in info
    assert terminated


@pytest.mark.parametrize("reward", REWARDS)
def test_a_crash_returns_less_than_any_honest_episode(reward):
    crashed, error = episode(env := rewarded(reward, base_lr=1e6), [constant(env, 1.0)] * DECISIONS)
    assert error == "diverged"
    assert crashed < REWARDS[reward].lowest(DECISIONS)
    honest = []
    for base_lr in (0.2, 2.0, 20.0):
        env = rewarded(reward, base_lr=base_lr)
        for seed in range(3):
            total, error = episode(env, random_actions(env, DECISIONS, seed), seed)
            honest += [] if error else [total]
    assert len(honest) > 3
    assert min(honest) >= REWARDS[reward].lowest(DECISIONS) > crashed


@pytest.mark.parametrize("reward", [name for name in REWARDS if not REWARDS[name].oracle])
def test_the_return_of_a_crash_does_not_depend_on_its_time(reward):
    totals = []
    for crash_at in range(DECISIONS):
        env = started(reward=reward)
        actions = random_actions(env, DECISIONS, seed=1)
        total = sum(env.step(action)[1] for action in actions[:crash_at])
        poison(env)
        _, last, terminated, _, info = env.step(actions[crash_at])
        assert terminated
        assert info["error_type"] == "diverged"
        totals.append(total + last)
    expected = REWARDS[reward].lowest(DECISIONS) - 1.0
    assert totals == pytest.approx([expected] * DECISIONS, abs=1e-9)


@pytest.mark.parametrize(
    ("place", "value"),
    [(p, v) for p in PLACES for v in (NAN, INF, -INF)] + [(p, NAN) for p in FROZEN_PLACES],
)
def test_one_bad_element_anywhere_is_a_divergence_even_if_nothing_trains(place, value):
    env = started()
    play(env, random_actions(env, 2, seed=0))
    poison(env, place, value)
    observation, reward, terminated, _, info = env.step(constant(env, 0.0))
    assert terminated
    assert info["error_type"] == "diverged"
    assert env.observation_space.contains(observation)
    assert np.isfinite(reward)


def test_the_reward_of_a_crash_is_told_like_any_other():
    env = started(base_lr=1e6)
    _, reward, *_, info = env.step(constant(env, 1.0))
    assert info["error_type"] == "diverged"
    assert info["rewards"][env.config.reward] == reward


def test_a_finite_explosion_is_honest_and_bounded():
    env = started(budget=1, window=1)
    student(env).fc_new[-1].weight.data.mul_(1e6)
    observation, reward, terminated, _, info = env.step(constant(env, 0.0))
    assert terminated
    assert "error_type" not in info
    assert info["losses"]["phi"] > 20
    assert -20 <= reward < 0
    assert env.observation_space.contains(observation)


def test_a_divergence_before_the_first_decision_ends_at_the_first_step():
    env = make(window="paper", budget=40, base_lr=1e30)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    total, terminated = 0.0, False
    while not terminated:
        observation, reward, terminated, _, info = env.step(constant(env, 0.0))
        assert env.observation_space.contains(observation)
        total += reward
    assert info["decision"] == 1
    assert total == pytest.approx(REWARDS["proxy_valid"].lowest(3) - 1.0)


def test_after_a_divergence_only_reset_helps_and_leaves_no_trace():
    env, fresh = make(), make()
    env.reset(seed=3)
    poison(env)
    env.step(constant(env, 1.0))
    with pytest.raises(ResetNeeded):
        env.step(constant(env, 1.0))
    actions = random_actions(env, DECISIONS, seed=3)
    assert trajectory(env, 4, actions) == trajectory(fresh, 4, actions)


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_a_diverged_episode_can_still_be_drawn(mode):
    env = started(render_mode=mode)
    poison(env)
    env.step(constant(env, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = env.render()
    assert "diverged" in drawn if mode == "ansi" else drawn.dtype == np.uint8


def test_a_diverged_episode_can_be_saved_and_forked(tmp_path):
    env, other = started(), make()
    poison(env)
    observation, *_, info = env.step(constant(env, 1.0))
    env.save(tmp_path / "diverged")
    assert frame(*other.load(tmp_path / "diverged")) == frame(observation, info)
    for again in (other, env.fork()):
        assert torch.isnan(student(again).state_dict()[PLACES[0]]).any()
        with pytest.raises(ResetNeeded):
            again.step(constant(again, 1.0))


@pytest.mark.parametrize("action", ["discrete", "continuous"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_action_is_refused_and_leaves_the_episode_untouched(action, value):
    env, untouched = started(action=action), started(action=action)
    actions = random_actions(env, DECISIONS, seed=0)
    assert play(env, actions[:2]) == play(untouched, actions[:2])
    bad = constant(env, 0.5).astype(np.float64)
    bad[-1] = value
    with pytest.raises(ValueError, match="finite"):
        env.step(bad)
    assert play(env, actions[2:]) == play(untouched, actions[2:])
