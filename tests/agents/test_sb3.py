"""SB3's algorithms learn, in copies of the environment; the whole job."""

import dataclasses
import json
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from sb3_support import BANDIT, SHORT, TINY, Bandit, opened, rows_of
from support import DIGITS_ID, make, random_actions

from agents import sb3
from asg_env.learning import ending
from asg_env.learning.sb3_copies import Copy
from asg_env.policies.sb3_algorithms import ALGORITHMS


@pytest.mark.parametrize(
    ("algo", "episodes"),
    [
        *(("ppo", 640), ("ppo_continuous", 640), ("a2c", 480), ("recurrent_ppo", 960)),
        *(("trpo", 640), ("sac", 200), ("td3", 160)),
    ],
)
def test_an_algorithm_learns_a_bandit(algo, episodes, tmp_path):
    """Mean reward of a decision: at random .5, at best 1."""
    args = opened(tmp_path, BANDIT, algo=algo, episodes=episodes, num_envs=8, common_seeds=False)
    policy = sb3.train(args)
    rows = rows_of(tmp_path)
    assert abs(rows[0]["return"] / Bandit.decisions - 0.5) < 0.15
    env = Bandit(ALGORITHMS[algo].action)
    returns = []
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        policy.begin(env.group_names, env.observation_names, seed)
        over, total = False, 0.0
        while not over:
            observation, reward, over, *_ = env.step(policy.act(observation))
            total += reward
        returns.append(total)
    assert np.mean(returns) / Bandit.decisions > 0.85


def test_the_rows_have_reinforces_keys(trained):
    args, _ = trained("ppo")
    row = rows_of(args.out)[-1]
    assert {"update", "return", "return_std", "loss", "entropy", "lr_scale"} <= set(row)
    assert list(row["lr_scale"]) == make(**SHORT).group_names
    assert (row["episodes"], row["env_steps"], row["optimizer_steps"]) == (4, 8, 16)
    assert row["entropy"] == pytest.approx(np.log(11), abs=0.05)  # nats, mean over the groups


def test_each_episode_has_a_seed_of_its_own():
    first, same, other = (Copy(make(**SHORT), key) for key in ((0,), (0,), (0, 1)))
    episodes = [[c.reset(seed=9)[0] for _ in range(2)] for c in (first, same, other)]
    assert np.array_equal(episodes[0], episodes[1])
    assert not np.array_equal(episodes[0][0], episodes[0][1])
    assert not np.array_equal(episodes[0], episodes[2])


def test_a_copy_goes_on_in_the_middle_of_an_episode(tmp_path):
    first, second = (Copy(gym.make(DIGITS_ID, budget=20, window=5), (3,)) for _ in range(2))
    actions = random_actions(first.unwrapped, 4, 0)
    first.reset()
    for action in actions[:2]:
        first.step(action)
    where = first.save_episode(tmp_path / "episode")
    assert where == (0, True)
    second.load_episode(0, tmp_path / "episode")
    for action in actions[2:]:
        expected, got = first.step(action), second.step(action)
        assert np.array_equal(expected[0], got[0])
        assert expected[1:4] == got[1:4]
    assert second.save_episode(tmp_path / "no") == (0, False)
    assert not (tmp_path / "no").exists()
    assert np.array_equal(first.reset()[0], second.reset()[0])


@pytest.mark.parametrize(
    "kwargs",
    [{"budget": 7, "window": 3}, {"budget": 20, "window": 5, "step_limit": 6}, {"window": "paper"}],
    ids=str,
)
def test_the_decisions_of_an_episode(kwargs):
    env = make(**{"budget": 40, **kwargs})
    env.reset(seed=0)
    count, over = 0, False
    while not over:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        count, over = count + 1, terminated or truncated
    assert env.decisions == count


def test_the_best_policy_is_chosen_on_the_training_variants(tmp_path, monkeypatch):
    """By the return on their held-out seeds; what the test variants say is only logged."""
    valid = iter([1.0, 3.0, 2.0])
    test = iter([1.0, 0.0, 9.0])

    def play(self, policy, variant, first):
        value = next(valid if variant == "train" else test)
        return [SimpleNamespace(episode_return=value, final={"accuracy": value})]

    monkeypatch.setattr(sb3.Progress, "_play", play)
    kept = []
    original = sb3.save_sb3_policy

    def save(policy, folder, stem="policy"):
        original(policy, folder, stem)
        if stem == "best":
            kept.extend([stem, (folder / "best.safetensors").read_bytes()])

    monkeypatch.setattr(sb3, "save_sb3_policy", save)
    args = opened(tmp_path, BANDIT, episodes=12, eval_every=4, select="best")
    sb3.train(args)
    assert len(kept) == 4  # after the first and the second evaluation
    assert kept[1] != kept[3]
    assert (tmp_path / "policy.safetensors").read_bytes() == kept[3]
    rows = [row for row in rows_of(tmp_path) if "valid_return" in row]
    assert [row["valid_return"] for row in rows] == [1, 3, 2]
    assert [row["test_return"] for row in rows] == [1, 0, 9]


def test_the_whole_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ending, "COMPARED", ("large",))
    args = dataclasses.replace(TINY, out=tmp_path / "run", eval_seeds=2, eval_every=4)
    args = dataclasses.replace(args, eval_episodes=1)
    sb3.main(args)
    assert "| ppo |" in capsys.readouterr().out
    rows = json.loads((args.out / "table.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"ppo", "ppo_sampled", "large"}
    for name in ("learning_curve.png", "lr_over_time.png", "records.jsonl", "best.json"):
        assert (args.out / name).exists()
    with pytest.raises(SystemExit, match="holds a run with algo='ppo', not 'a2c'"):
        sb3.main(dataclasses.replace(args, algo="a2c"))
