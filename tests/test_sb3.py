"""Stable-Baselines3's algorithms: they learn, resume, and are deployed as they were trained."""

import dataclasses
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from support import DIGITS_ID, make, random_actions

from agents import reinforce, sb3
from agents.sb3 import make_envs, make_model, make_plan, policy_of
from asg_env.learning import ending
from asg_env.learning.run_folder import open_run
from asg_env.learning.sb3_copies import Copy
from asg_env.learning.sb3_updates import Linear
from asg_env.policies import load
from asg_env.policies.recurrent import LearnedPolicy
from asg_env.policies.sb3 import SB3Policy, load_sb3_policy, save_sb3_policy
from asg_env.policies.sb3_algorithms import ALGORITHMS
from experiments import finetune

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"budget": 4, "window": 2}  # two decisions


class Bandit(gym.Env):
    """Each group's signal says whether it wants the highest scale (1) or the lowest (-1).

    The reward is the mean over groups of how near the scale is, in [0, 1]; at random it is .5.
    ``ragged``: episodes last two to four decisions, so that copies are soon out of step.
    """

    group_names = ["a", "b", "head"]
    observation_names = ["progress", "wanted/a", "wanted/b", "wanted/head"]
    config, problem = SimpleNamespace(base_lr=1.0), SimpleNamespace(fingerprint="")
    dataset_name = "bandit"
    decisions, device, threads = 3, torch.device("cpu"), 1

    def __init__(self, action, observation="paper", variant=None, ragged=False):
        self.discrete, self.ragged = action == "discrete", ragged
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = (
            spaces.MultiDiscrete([11] * 3)
            if self.discrete
            else spaces.Box(0.0, 1.0, (3,), np.float32)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.done = 0
        self.length = int(self.np_random.integers(2, 5)) if self.ragged else self.decisions
        return self._observe(), self._info(np.zeros(3))

    def _observe(self):
        self.wanted = self.np_random.choice([-1.0, 1.0], 3)
        return np.array([self.done / 4, *self.wanted], dtype=np.float32)

    def _info(self, scale):
        return {"lr": scale, "steps": 10 * self.done, "losses": {}}

    def step(self, action):
        assert self.action_space.contains(action)
        scale = np.asarray(action) / (10 if self.discrete else 1)
        reward = float(np.where(self.wanted > 0, scale, 1 - scale).mean())
        self.done += 1
        return self._observe(), reward, self.done == self.length, False, self._info(scale)

    def evaluate(self, split):
        return {"accuracy": 0.5}

    def save(self, path):
        rng = self.np_random.bit_generator.state
        state = [self.done, self.length, self.wanted.tolist(), rng]
        Path(path).write_text(json.dumps(state))

    def load(self, path):
        self.done, self.length, wanted, rng = json.loads(Path(path).read_text())
        self.wanted, self.np_random.bit_generator.state = np.array(wanted), rng


gym.register("SB3Bandit-v0", Bandit, disable_env_checker=True)

TINY = sb3.Args(
    *("ppo",), env_kwargs=SHORT, workers="none", num_envs=2, episodes=4, eval_every=0, seed=1
)
BANDIT = dataclasses.replace(TINY, env="SB3Bandit-v0", env_kwargs={}, episodes=24)


def small(algo):
    """Hyperparameters with which an algorithm learns within a few episodes at all."""
    return {"warmup": 2, "batch_size": 8} if "warmup" in ALGORITHMS[algo].run else {}


def opened(folder, args, **change):
    args = dataclasses.replace(args, out=folder, **change)
    open_run(folder, dataclasses.asdict(args))
    return args


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A little training on the digits with an algorithm, once: its arguments and its policy."""
    done = {}

    def of(algo):
        if algo not in done:
            folder = tmp_path_factory.mktemp("runs") / f"my_{algo}"
            args = opened(folder, TINY, algo=algo, hyperparameters=small(algo))
            done[algo] = args, sb3.train(args)
        return done[algo]

    return of


def seen_of(env, count=3):
    """Observations of an episode."""
    observation, _ = env.reset(seed=5)
    rows = [observation, *(env.step(a)[0] for a in random_actions(env, count - 1, 0))]
    return np.stack(rows)


def actions_of(policy, env, observations, seed=7):
    policy.begin(env.group_names, env.observation_names, seed)
    return [policy.act(observation) for observation in observations]


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_each_hyperparameter_exists_and_is_explained(algo):
    row = ALGORITHMS[algo]
    known = set(inspect.signature(row.load()).parameters)
    assert set(row.model) <= known
    network = {n for c in row.policy_class().__mro__[:3] for n in inspect.signature(c).parameters}
    assert set(row.network) <= network
    for part in (row.run, row.model, row.network):
        assert all(len(setting.why) > 3 for setting in part.values())
    assert row.model["gamma"].value == 1


def test_hyperparameters_are_replaced_by_name():
    values = ALGORITHMS["ppo"].values({"n_epochs": 3, "linear": "False", "learning_rate": 1})
    assert (values.model["n_epochs"], values.run["linear"]) == (3, False)
    assert values.model["learning_rate"] == 1.0
    assert values.run["episodes"] == ALGORITHMS["ppo"].run["episodes"].value


def test_the_learning_rate_falls_from_the_first_update_to_the_last():
    rate = Linear(0.5, 4)
    left = [0.75, 0.5, 0.25, 0.0]  # SB3's share, after each rollout
    assert [rate(x) for x in left] == [0.5, 0.375, 0.25, 0.125]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"algo": "dqn"},
            f"--algo='dqn': expected one of {', '.join(ALGORITHMS)}",
        ),
        (
            {"hyperparameters": {"n_step": 3}},
            "--hyperparameters='n_step': expected one of episodes",
        ),
        ({"hyperparameters": {"n_epochs": 2.5}}, "n_epochs 2.5: expected a whole number"),
        ({"hyperparameters": {"gamma": "high"}}, "gamma 'high': expected a number"),
        ({"hyperparameters": {"linear": 3}}, "linear='3': expected one of True, False"),
        ({"episodes": 0}, "--episodes 0: expected >= 1"),
        ({"num_envs": 0}, "--num-envs 0: expected >= 1"),
        ({"seed": -1}, "--seed -1: expected >= 0"),
        ({"select": "best"}, "--select best needs evaluations"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(change, message, tmp_path):
    args = dataclasses.replace(TINY, out=tmp_path / "run", **change)
    with pytest.raises(SystemExit, match=message):
        sb3.main(args)
    assert not args.out.exists()


# -- deployment ------------------------------------------------------------------------------------


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_policy_is_deployed_as_it_was_trained(algo, greedy, trained):
    """Its files say all: what load reads acts as the trained object, and is an action."""
    args, policy = trained(algo)
    loaded = load(str(args.out), greedy)
    assert isinstance(loaded, SB3Policy)
    assert loaded.name == f"my_{algo}" + ("" if greedy else "_sampled")
    env = make(**{**SHORT, "budget": 40}, **loaded.env_kwargs)
    policy.greedy, seen = greedy, seen_of(env)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (actions_of(p, env, seen) for p in (policy, loaded))
    assert np.array_equal(first, second)
    assert all(action in env.action_space for action in second)
    other = actions_of(loaded, env, seen, seed=8)
    assert np.array_equal(second, other) == greedy  # sampled by begin's seed
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_nothing_that_is_written_is_a_pickle(algo, trained):
    args, _ = trained(algo)
    for path in (p for p in args.out.rglob("*") if p.is_file()):
        assert path.suffix in (".safetensors", ".json", ".jsonl") or "tfevents" in path.name
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x04", b"\x80\x05")


def test_the_statistics_are_the_trainings_and_stay_frozen(tmp_path):
    args = dataclasses.replace(TINY, out=tmp_path)
    algorithm, values = sb3.check(args)
    envs = make_envs(args, algorithm, values)
    model = make_model(args, algorithm, values, envs, make_plan(args, values, envs))
    model.learn(8)
    policy = policy_of(model, args, values)
    save_sb3_policy(policy, tmp_path)
    loaded = load_sb3_policy(tmp_path / "policy.safetensors")
    original = envs.get_original_obs()[0]
    expected = envs.normalize_obs(original)
    assert np.array_equal(loaded.normalise(original), expected)
    assert np.abs(expected - original).max() > 0.1
    mean = loaded.mean.copy()
    env = make(**SHORT)
    actions_of(loaded, env, seen_of(env, 2))
    assert np.array_equal(loaded.mean, mean)
    envs.close()


def test_the_memory_starts_afresh_with_each_episode(trained):
    args, _ = trained("recurrent_ppo")
    policy = load_sb3_policy(args.out / "policy.safetensors")
    env = make(**{**SHORT, "budget": 40})
    seen = seen_of(env)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.mul_(5)
    policy.begin(env.group_names, env.observation_names, 0)
    states = []
    for observation in (*seen, None, seen[0]):
        if observation is None:
            policy.begin(env.group_names, env.observation_names, 0)
            continue
        policy.act(observation)
        states.append(policy._state[0].copy())
    assert np.array_equal(states[0], states[-1])
    assert not np.allclose(states[0], states[1])


def test_another_environment_is_refused(trained):
    _, policy = trained("ppo")
    names = list(policy.description.group_names), list(policy.description.observation_names)
    with pytest.raises(ValueError, match=r"trained on 6 layer groups .* the environment has 5"):
        policy.begin(names[0][:5], names[1], 0)
    with pytest.raises(ValueError, match=r"reads 35 numbers \(layerwise\), .* 11 observations"):
        policy.begin(names[0], make(observation="paper").observation_names, 0)


def test_finetune_takes_it(trained, tmp_path):
    args, _ = trained("sac")
    run = finetune.Args(policy=str(args.out), quick=True, out=tmp_path / "run")
    finetune.main(run)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["policy"], record["kwargs"]["action"]) == ("my_sac", "continuous")
    other = dataclasses.replace(run, out=tmp_path / "other", env_kwargs={"observation": "paper"})
    with pytest.raises(SystemExit, match="policy 'my_sac' needs 'layerwise'"):
        finetune.main(other)


def _rewrite(path, **change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "policy.safetensors").write_bytes(b"\x80\x04 no tensors"),
        lambda f: _rewrite(f / "policy.json", algorithm="os:system"),
        lambda f: _rewrite(f / "policy.json", algorithm="a2c", network={"net_arch": [3]}),
        lambda f: _rewrite(f / "policy.json", colour="red"),
        lambda f: _rewrite(f / "policy.json", group_names=["a"]),
    ],
    ids=["pickle", "algorithm", "network", "unknown", "groups"],
)
def test_a_damaged_policy_is_a_clear_error(damage, trained, tmp_path):
    save_sb3_policy(trained("ppo")[1], tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match="is no policy of this version") as error:
        load(str(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_the_two_kinds_of_policies_are_told_apart(trained, tmp_path):
    args = dataclasses.replace(
        reinforce.Args(), env_kwargs=SHORT, workers="none", num_envs=2, updates=1, out=tmp_path
    )
    reinforce.train(args)
    assert isinstance(load(str(tmp_path)), LearnedPolicy)
    assert isinstance(load(str(trained("ppo")[0].out / "policy.json")), SB3Policy)


# -- learning --------------------------------------------------------------------------------------


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


def rows_of(folder):
    """The logged rows, less their wall-clock time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_the_rows_have_reinforces_keys(trained):
    args, _ = trained("ppo")
    row = rows_of(args.out)[-1]
    assert {"update", "return", "return_std", "loss", "entropy", "lr_scale"} <= set(row)
    assert list(row["lr_scale"]) == make(**SHORT).group_names
    assert (row["episodes"], row["env_steps"], row["optimizer_steps"]) == (4, 8, 16)
    assert row["entropy"] == pytest.approx(np.log(11), abs=0.05)  # nats, mean over the groups


# -- the environment copies ------------------------------------------------------------------------


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


# -- interruptions ---------------------------------------------------------------------------------


class Killed(BaseException):
    """Stops a training where a kill might."""


def stop_after(monkeypatch, updates):
    """Let a training end after some updates' checkpoint."""
    original = sb3.write_state

    def write_and_stop(model, folder, update, notes):
        original(model, folder, update, notes)
        if update == updates:
            raise Killed

    monkeypatch.setattr(sb3, "write_state", write_and_stop)


@pytest.mark.parametrize("ragged", [False, True], ids=["in step", "out of step"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_stopped_training_resumes_to_the_same_policy(algo, ragged, tmp_path, monkeypatch):
    """Bit for bit, copies in the middle of an episode and noise, memory and buffer included."""
    change = {
        **{"algo": algo, "hyperparameters": small(algo), "eval_every": 12, "eval_episodes": 2},
        **{"env_kwargs": {"ragged": int(ragged)}, "common_seeds": False},
    }
    whole = opened(tmp_path / "whole", BANDIT, **change)
    sb3.train(whole)
    args, under_way = opened(tmp_path / "stopped", BANDIT, **change), False
    for updates in (1, 4):
        with monkeypatch.context() as patch:
            stop_after(patch, updates)
            with pytest.raises(Killed):
                sb3.train(args)
        under_way = under_way or any(args.out.glob("copy_*"))
        torch.rand(3), np.random.rand(3)  # the generators need not be as they were
    assert under_way == ragged
    sb3.train(args)
    for name in ("policy.safetensors", "policy.json", "best.safetensors"):
        assert (whole.out / name).read_bytes() == (args.out / name).read_bytes()
    assert rows_of(whole.out) == rows_of(args.out)
    assert len(rows_of(whole.out)) == 24 / 2 / ALGORITHMS[algo].run["episodes"].value


TRAIN = """
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_sb3 import TINY, opened
from agents import sb3
sb3.train(opened(Path(sys.argv[1]), TINY, episodes=8))
"""


def start_training(folder):
    """A training in a process of its own."""
    command = [sys.executable, "-c", TRAIN, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_a_killed_training_resumes_to_the_same_policy(tmp_path):
    """SIGKILL in the middle of an update on the digits, then the same command: the same bytes."""
    whole, killed = start_training(tmp_path / "whole"), start_training(tmp_path / "killed")
    while killed.poll() is None and count_rows(tmp_path / "killed") < 2:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert count_rows(tmp_path / "killed") < 4
    assert start_training(tmp_path / "killed").wait(300) == whole.wait(300) == 0
    first, second = (tmp_path / n / "policy.safetensors" for n in ("killed", "whole"))
    assert first.read_bytes() == second.read_bytes()
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def count_rows(folder):
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_processes_change_nothing(trained, tmp_path):
    args, _ = trained("ppo")
    sb3.train(opened(tmp_path, args, workers="processes"))
    for name in ("policy.safetensors", "policy.json"):
        assert (tmp_path / name).read_bytes() == (args.out / name).read_bytes()


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path):
    args = opened(tmp_path, BANDIT)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x80\x04 no checkpoint")
    with pytest.raises(ValueError, match=r"is no whole checkpoint .*delete .* to start over"):
        sb3.train(args)


# -- the job ---------------------------------------------------------------------------------------


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
