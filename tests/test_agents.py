"""The baselines, the policy network, REINFORCE, its interruptions and its report."""

import dataclasses
import json
import math
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agents import reinforce
from agents.reinforce import Args, Trainer
from asg_env.cli import read_arguments
from asg_env.evaluation.records import Record
from asg_env.learning import reinforce as updates_of
from asg_env.learning.checkpoint import read_checkpoint, write_checkpoint
from asg_env.learning.reinforce import (
    Learner,
    PolicyLoss,
    Rollout,
    advantages,
    discounted,
    reinforce_loss,
)
from asg_env.learning.run_folder import open_run
from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    load_policy,
    save_policy,
)
from asg_env.policies.schedules import SCHEDULES, SchedulePolicy, warmup_poly_factor
from asg_env.reports.comparison import about, comparison_rows, comparison_table, write_report
from asg_env.seeding import cpu_threads

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("conv1", "bn1", "layer1", "layer2", "layer3", "fc_new")


def scales_of(name, progress, groups=7, seed=0):
    return SCHEDULES[name](progress, groups, np.random.default_rng(seed))


# -- baselines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.05, 0.1, 0.5, 0.8, 1.0])
def test_schedules_have_their_closed_form(p):
    small = np.array([0.1] * 6 + [1.0])
    cosine = (1 + math.cos(math.pi * p)) / 2
    poly = min(0.01 + 0.99 * (p / 0.1) ** 2, 1) * (1 - min(p, 0.8)) ** 0.9
    expected = {
        "large": np.ones(7),
        "small_backbone": small,
        "frozen_backbone": np.array([0.0] * 6 + [1.0]),
        "cosine": np.full(7, cosine),
        "small_backbone_cosine": cosine * small,
        "small_backbone_warmup_poly": poly * small,
        "layer_decay": np.array([0.65**k for k in (6, 5, 4, 3, 2, 1, 0)]),
        "large_warmup_poly": np.full(7, poly),
        "frozen_backbone_warmup_poly": np.array([0.0] * 6 + [poly]),
        "small_backbone_poly": (1 - min(p, 0.8)) ** 0.9 * small,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scales_of(name, p), values, rtol=1e-12, err_msg=name)
    assert set(expected) == set(SCHEDULES) - {"random"}


def test_random_draws_each_of_the_eleven_levels_alike():
    rng = np.random.default_rng(0)
    draws = np.concatenate([SCHEDULES["random"](0.5, 7, rng) for _ in range(1100)])
    levels, counts = np.unique(np.round(10 * draws), return_counts=True)
    assert levels.tolist() == list(range(11))
    assert counts.min() > 600  # 700 expected, standard deviation 25
    assert counts.max() < 800
    assert np.array_equal(scales_of("random", 0.1, seed=5), scales_of("random", 0.1, seed=5))


def test_warmup_poly_is_the_official_one():
    data = json.loads((ROOT / "tests/data/official_vectors.json").read_text())
    for iteration, factor in data["lr_warm_poly"].items():
        assert warmup_poly_factor(int(iteration) / 1000) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("groups", [1, 6, 20])
def test_baselines_stay_in_the_action_space(name, groups):
    policy = SchedulePolicy(name)
    policy.begin([f"g{i}" for i in range(groups)], ["ce", "progress"], 0)
    space = spaces.Box(0.0, 1.0, (groups,), np.float32)
    for progress in np.linspace(0, 1, 21):
        assert policy.act(np.array([3.0, progress], dtype=np.float32)) in space


def test_an_unknown_schedule_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'cosin'; known: random, large.*layer_decay"):
        SchedulePolicy("cosin")


# -- the network -----------------------------------------------------------------------------------


def shaken(args, seed=0):
    """A network whose outputs are far from uniform."""
    network = RecurrentPolicy(args, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network


def observations_for(args, steps=4, copies=3, groups=None):
    width = 5 + args.signals * (groups or args.groups)
    return torch.randn(steps, copies, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("heads", ["separate", "shared"])
@pytest.mark.parametrize("scale", ["categorical", "ordinal"])
@pytest.mark.parametrize("head_hidden", [0, 8])
def test_unrolled_is_step_by_step_with_the_state_carried(heads, scale, head_hidden):
    args = PolicyArgs("layerwise", 5, 6, heads=heads, scale=scale, head_hidden=head_hidden)
    network = shaken(args)
    seen = observations_for(network.args)
    unrolled, last = network(seen, network.initial_state(3))
    assert unrolled.shape == (4, 3, 6, 11)
    state, fresh = network.initial_state(3), network.initial_state(3)
    for t in range(4):
        logits, state = network(seen[t : t + 1], state)
        torch.testing.assert_close(logits[0], unrolled[t], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last)
    forgetful, _ = network(seen[3:], fresh)
    assert (forgetful[0] - unrolled[3]).abs().max() > 1e-3


def test_a_group_is_decided_from_its_own_signals():
    network = shaken(PolicyArgs("layerwise", 5, 6))
    seen = observations_for(network.args, 1, 1)
    before, _ = network(seen, network.initial_state(1))
    changed = seen.clone()
    changed[0, 0, 5 + 2 * 6 + 4] += 1  # the third signal of the fifth group
    after, _ = network(changed, network.initial_state(1))
    differs = (before - after).abs().amax(-1)[0, 0] > 1e-6
    assert differs.tolist() == [False] * 4 + [True, False]


def test_carry_state_false_decides_each_time_from_zero():
    args = PolicyArgs("layerwise", 1, 6, carry_state=False)
    policy = LearnedPolicy(shaken(args), greedy=False)
    observation = observations_for(args, 1, 1)[0, 0].numpy()
    logits, _ = policy.network(torch.from_numpy(observation)[None, None], _zeros(args))
    policy.begin(GROUPS, [], 0)
    policy.act(observation)
    again, _ = policy.network(torch.from_numpy(observation)[None, None], policy._state)
    assert torch.equal(logits, again)


def _zeros(args, copies=1):
    return RecurrentPolicy(args).initial_state(copies)


def test_shared_heads_fit_any_number_of_groups():
    policy = LearnedPolicy(shaken(PolicyArgs("layerwise", 5, 6, heads="shared")))
    for groups in (2, 6, 9):
        policy.begin([f"g{i}" for i in range(groups)], [], 0)
        seen = observations_for(policy.network.args, 1, 1, groups)[0, 0].numpy()
        action = policy.act(seen)
        assert action in spaces.MultiDiscrete([11] * groups)


@pytest.mark.parametrize("groups", [5, 7])
@pytest.mark.parametrize("signals", [1, 5])
def test_separate_heads_refuse_observations_of_another_number_of_groups(groups, signals):
    """Of more groups than heads, the last ones were silently left without a decision."""
    args = PolicyArgs("layerwise", signals, 6, critic=True)
    network, seen = RecurrentPolicy(args), observations_for(args, groups=groups)
    for read in (network, network.values):
        with pytest.raises(ValueError, match=f"each of 6 layer groups.* of {groups}"):
            read(seen, network.initial_state(3))


def test_a_critic_changes_nothing_else():
    """Its initialisation is drawn last: the numbers of networks without one stay what they were."""
    args = PolicyArgs("layerwise", 5, 6)
    with_critic = RecurrentPolicy(dataclasses.replace(args, critic=True), 3)
    for name, value in RecurrentPolicy(args, 3).state_dict().items():
        assert torch.equal(value, with_critic.state_dict()[name])
    assert with_critic.critic.weight.shape == (1, 6 * 105)
    seen = observations_for(args)
    values = with_critic.values(seen, with_critic.initial_state(3))
    assert values.shape == (4, 3)
    assert values.std() > 0.01
    with pytest.raises(ValueError, match="no critic"):
        RecurrentPolicy(args).values(seen, with_critic.initial_state(3))
    with pytest.raises(ValueError, match="separate heads"):
        RecurrentPolicy(dataclasses.replace(args, critic=True, heads="shared"))


def test_a_policy_is_deployed_as_it_says():
    network = RecurrentPolicy(PolicyArgs("layerwise", 5, 6, greedy=False))
    assert not LearnedPolicy(network).greedy
    assert LearnedPolicy(network, True).greedy
    assert LearnedPolicy(RecurrentPolicy(PolicyArgs("layerwise", 5, 6))).greedy


def test_separate_heads_refuse_another_number_of_groups():
    policy = LearnedPolicy(RecurrentPolicy(PolicyArgs("layerwise", 5, 7)), name="mine")
    with pytest.raises(ValueError, match=r"'mine' has one head for each of 7 .* has 6 .*--heads s"):
        policy.begin(GROUPS, [], 0)


@pytest.mark.parametrize(("scale", "apart"), [("categorical", 0.02), ("ordinal", 0.04)])
def test_the_start_is_nearly_uniform_and_a_function_of_the_seed(scale, apart):
    args = PolicyArgs("layerwise", 5, 6, scale=scale)
    seen = observations_for(args)
    zeros = _zeros(args, 3)
    logits, _ = RecurrentPolicy(args, 3)(seen, zeros)
    assert logits.softmax(-1).sub(1 / 11).abs().max() < apart
    assert torch.equal(logits, RecurrentPolicy(args, 3)(seen, zeros)[0])
    assert not torch.equal(logits, RecurrentPolicy(args, 4)(seen, zeros)[0])


# -- policy files ----------------------------------------------------------------------------------


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


# -- REINFORCE's arithmetic ------------------------------------------------------------------------


def rollout_of(rewards, actions, alive=None):
    """A rollout of one group; the observations are zeros."""
    rewards = torch.tensor(rewards)
    alive = torch.ones_like(rewards) if alive is None else torch.tensor(alive)
    return Rollout(torch.zeros(*rewards.shape, 1), torch.tensor(actions), rewards, alive)


class Fixed(nn.Module):
    """A policy whose log-probabilities are given: (T, N, G, levels)."""

    def __init__(self, probabilities):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, observations, state):
        return self.logits, state


PLAIN = Args(gamma=0.0, baseline="none", normalise=False, per_step_credit=True, entropy=0.0)
OFFICIAL = dataclasses.replace(PLAIN, per_step_credit=False)


def test_discounted():
    rewards = torch.tensor([[1.0, 0.0], [2.0, 4.0], [3.0, -1.0]])
    expected = torch.tensor([[2.75, 1.75], [3.5, 3.5], [3.0, -1.0]])
    assert torch.equal(discounted(rewards, 0.5), expected)
    assert torch.equal(discounted(rewards, 0.0), rewards)


def test_advantages_by_hand():
    rollout = rollout_of([[1.0, 2.0, 6.0], [3.0, 3.0, 0.0]], [[[0]] * 3] * 2)
    args = dataclasses.replace(PLAIN, gamma=1.0)
    assert advantages(rollout, args).tolist() == [[4, 5, 6], [3, 3, 0]]
    args = dataclasses.replace(args, baseline="copies")  # each less the mean of the two others
    np.testing.assert_allclose(
        advantages(rollout, args), [[-1.5, 0, 1.5], [1.5, 1.5, -3]], 1e-5, 1e-6
    )
    args = dataclasses.replace(args, normalise=True)  # each decision by its own spread
    expected = [np.array(v) / np.std(v) for v in ([-1.5, 0, 1.5], [1.5, 1.5, -3])]
    np.testing.assert_allclose(advantages(rollout, args), expected, rtol=1e-6)


def test_state_baseline_is_the_other_copies_regression_line():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(2, 7))
    rollout = rollout_of(rewards.tolist(), [[[0]] * 7] * 2)
    args = dataclasses.replace(PLAIN, gamma=1.0, baseline="state")
    got = advantages(rollout, args).numpy()
    past, to_come = rewards[0], rewards[1]
    for copy in range(7):
        others = np.arange(7) != copy
        line = np.polyfit(past[others], to_come[others], 1)
        assert got[1, copy] == pytest.approx(to_come[copy] - np.polyval(line, past[copy]), rel=1e-4)
    first = rewards.sum(0)  # nothing has happened yet: the others' mean
    np.testing.assert_allclose(got[0], first - (first.sum() - first) / 6, rtol=1e-5)


def test_a_copy_that_is_alone_keeps_its_return():
    rollout = rollout_of([[1.0], [3.0]], [[[0]]] * 2)
    args = dataclasses.replace(PLAIN, gamma=1.0, baseline="state")
    assert advantages(rollout, args).tolist() == [[4], [3]]


def test_advantages_after_a_copy_is_over():
    """What a vector env hands out after a copy's end counts for nothing."""
    alive = [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    rollout = rollout_of([[1.0, 2.0, 6.0], [3.0, 4.0, 99.0]], [[[0]] * 3] * 2, alive)
    args = dataclasses.replace(PLAIN, gamma=1.0)
    assert advantages(rollout, args).tolist() == [[4, 6, 6], [3, 4, 0]]
    args = dataclasses.replace(args, baseline="copies")
    np.testing.assert_allclose(advantages(rollout, args), [[-2, 1, 1], [-1, 1, 0]], rtol=1e-5)


@pytest.mark.parametrize(("updates", "lr"), [(260, 4e-3), (16, 2.132e-2)])
def test_fewer_updates_have_a_larger_learning_rate(updates, lr):
    network = RecurrentPolicy(PolicyArgs("layerwise", 1, 1))
    learner = Learner(network, Args(updates=updates))
    rollout = rollout_of([[1.0, 1.0]], [[[0], [0]]])._replace(observations=torch.zeros(1, 2, 6))
    learner.learn(rollout, network.initial_state(2), left=0.5)
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(lr / 2, rel=1e-3)
    assert Learner(network, Args(updates=updates, lr=0.5)).lr == 0.5


def test_a_training_has_updates():
    with pytest.raises(SystemExit, match="--updates 0: expected >= 1"):
        reinforce.main(Args(updates=0))


def test_loss_with_credit_for_each_decision():
    network = Fixed([[[[0.5, 0.5]]], [[[0.8, 0.2]]]])
    rollout = rollout_of([[1.0], [3.0]], [[[0]], [[1]]])
    expected = -(1 * math.log(0.5) + 3 * math.log(0.2)) / 2
    assert reinforce_loss(network, rollout, [], PLAIN, 0.0).loss.item() == pytest.approx(expected)


def test_log_probabilities_are_summed_over_groups():
    network = Fixed([[[[0.5, 0.5], [0.8, 0.2]]]])
    rollout = rollout_of([[2.0]], [[[0, 1]]])
    expected = -2 * (math.log(0.5) + math.log(0.2))
    assert reinforce_loss(network, rollout, [], PLAIN, 0.0).loss.item() == pytest.approx(expected)


def test_the_official_broadcast_gives_no_credit_to_single_decisions():
    """Official quirk: loss = -mean(return) * mean(log_prob)."""
    network = Fixed([[[[0.5, 0.5]]], [[[0.8, 0.2]]]])
    rollout = rollout_of([[1.0], [3.0]], [[[0]], [[1]]])
    expected = -2 * (math.log(0.5) + math.log(0.2)) / 2
    swapped = rollout_of([[3.0], [1.0]], [[[0]], [[1]]])
    for given in (rollout, swapped):
        loss, _ = reinforce_loss(network, given, [], OFFICIAL, 0.0)
        assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("args", [PLAIN, OFFICIAL])
def test_decisions_after_the_end_do_not_teach(args):
    network = Fixed([[[[0.5, 0.5]], [[0.7, 0.3]]], [[[0.8, 0.2]], [[0.6, 0.4]]]])
    actions, alive = [[[0], [1]], [[1], [0]]], [[1.0, 1.0], [1.0, 0.0]]
    rollout = rollout_of([[1.0, 2], [3, 99]], actions, alive)
    loss, logged = reinforce_loss(network, rollout, [], args, 0.1)
    log = [math.log(0.5), math.log(0.3), math.log(0.2)]
    entropy = sum(-sum(p * math.log(p) for p in (q, 1 - q)) for q in (0.5, 0.7, 0.8)) / 3
    credit = log[0] + 2 * log[1] + 3 * log[2] if args.per_step_credit else 2 * sum(log)
    assert loss.item() == pytest.approx(-credit / 3 - 0.1 * entropy)
    assert logged.item() == pytest.approx(entropy)
    loss.backward()
    assert network.logits.grad[1, 1].abs().max() == 0
    assert network.logits.grad[1, 0].abs().max() > 0


# -- REINFORCE learns ------------------------------------------------------------------------------


class Bandits(gym.vector.VectorEnv):
    """Each group's signal says whether it wants the highest level (1) or the lowest (-1).

    Three decisions; the reward is the mean over groups of how near the level is, in [0, 1].
    """

    groups, decisions = 3, 3

    def __init__(self, copies):
        self.num_envs = copies
        self.single_observation_space = spaces.Box(-1, 1, (5 + self.groups,), np.float32)

    def call(self, name):
        return ([f"g{i}" for i in range(self.groups)],) * self.num_envs

    def reset(self, *, seed=None, options=None):
        self.rng, self.done = np.random.default_rng(seed), 0
        return self._observe(), {}

    def _observe(self):
        self.wanted = self.rng.choice([-1.0, 1.0], (self.num_envs, self.groups))
        zeros = np.zeros((self.num_envs, 5))
        return np.concatenate([zeros, self.wanted], 1).astype(np.float32)

    def step(self, actions):
        scale = actions / 10
        reward = np.where(self.wanted > 0, scale, 1 - scale).mean(1)
        self.done += 1
        over = np.full(self.num_envs, self.done == self.decisions)
        info = {"steps": np.full(self.num_envs, self.done)}
        return self._observe(), reward, over, np.zeros(self.num_envs, dtype=bool), info


def learned(**change):
    """Mean reward of a decision in the last ten updates; at random it is .5, at best 1."""
    plain = {"updates": 200, "lr": 1e-2, "observation": "paper", "entropy": 0.0, "anneal": False}
    args = Args(**{**plain, **change})
    trainer = Trainer(args, Bandits(args.num_envs))
    with cpu_threads(1):
        returns = [trainer.run_update()["return"] for _ in range(args.updates)]
    assert abs(np.mean(returns[:3]) / Bandits.decisions - 0.5) < 0.15
    return np.mean(returns[-10:]) / Bandits.decisions


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("heads", ["separate", "shared"])
def test_reinforce_learns_a_bandit(heads, seed):
    assert learned(heads=heads, scale="categorical", seed=seed) > 0.85


def test_reinforce_follows_the_sign_of_its_loss(monkeypatch):
    """The test above would see a flipped gradient."""
    original = updates_of.reinforce_loss

    def flipped(*arguments):
        loss, entropy = original(*arguments)
        return PolicyLoss(-loss, entropy)

    monkeypatch.setattr(updates_of, "reinforce_loss", flipped)
    assert learned(scale="categorical") < 0.15


# -- interruptions ---------------------------------------------------------------------------------

TINY = Args(
    env_kwargs={"budget": 10, "window": 5},
    workers="none",
    num_envs=2,
    updates=3,
    seed=1,
    heads="shared",
)
TRAIN = """
import sys
from pathlib import Path
import torch
import torch.utils.tensorboard
from agents import reinforce
from asg_env.learning.run_folder import open_run
import dataclasses
import asg_env.tasks.digits
from tests.test_agents import TINY
args = dataclasses.replace(TINY, out=Path(sys.argv[1]))
print("ready", flush=True)
open_run(args.out, dataclasses.asdict(args))
reinforce.train(args)
print("done", flush=True)
"""


def start_training(folder):
    """A training process that is about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def rows_of(folder):
    """The logged rows, less their wall-clock time."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_killed_training_resumes_to_the_same_policy(tmp_path):
    """SIGKILL at five random moments, resuming each time: the same bytes."""
    process = start_training(tmp_path / "whole")
    began = time.perf_counter()
    assert process.stdout.readline().strip() == "done"
    whole = time.perf_counter() - began  # less the interpreter's start and end
    process.communicate(timeout=300)
    moments = random.Random(0)
    for _ in range(5):
        process = start_training(tmp_path / "killed")
        time.sleep(moments.uniform(0, whole))
        process.kill()
        process.communicate()
    process = start_training(tmp_path / "killed")
    assert process.communicate(timeout=300)[0].strip() == "done"
    first, second = ((tmp_path / n / "policy.safetensors") for n in ("whole", "killed"))
    assert first.read_bytes() == second.read_bytes()
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")


@pytest.mark.parametrize("updates", [1, 2])
def test_resuming_after_each_update_gives_the_same_policy(updates, tmp_path):
    """The same, without processes: stop after an update, start again from the files."""
    whole = reinforce.train(_opened(tmp_path / "whole"))
    args = _opened(tmp_path / "stopped")
    envs = reinforce.make_envs(args)
    trainer = Trainer(args, envs)
    for _ in range(updates):
        trainer.run_update()
        write_checkpoint(args.out, trainer.checkpoint())
    envs.close()
    assert read_checkpoint(args.out).update == updates
    resumed = reinforce.train(args)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def _opened(folder):
    args = dataclasses.replace(TINY, out=folder)
    open_run(folder, dataclasses.asdict(args))
    return args


def test_a_damaged_checkpoint_is_a_clear_error(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x80\x04 no checkpoint")
    with pytest.raises(ValueError, match="delete it to start over") as error:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert read_checkpoint(tmp_path / "nowhere") is None


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    args = _opened(tmp_path)
    open_run(tmp_path, dataclasses.asdict(args))  # the same again is no other
    other = dataclasses.replace(args, lr=0.5)
    with pytest.raises(
        SystemExit, match=rf"holds a run with lr={args.lr}, not 0.5: choose another"
    ) as e:
        reinforce.main(other)
    assert str(tmp_path) in str(e.value)


def test_an_unwritable_out_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    args = dataclasses.replace(TINY, out=tmp_path / "file" / "run")
    with pytest.raises(SystemExit, match="cannot be written") as error:
        reinforce.main(args)
    assert str(args.out) in str(error.value)


def test_the_paper_presets_facts():
    """Its window, restart and run length are the environment's, whatever its epochs are."""
    paper = reinforce.PRESETS["paper"]
    assert (paper.lr, paper.optimizer, paper.anneal, paper.gamma) == (7e-4, "sgd", False, 0.0)
    assert (paper.rollout, paper.early_stop_epochs, paper.budget_epochs) == (5, 2, 30)
    assert (paper.baseline, paper.entropy, paper.clip) == ("none", 0.0, math.inf)
    off = (paper.normalise, paper.per_step_credit, paper.carry_state, paper.greedy)
    assert not any(off)
    assert (paper.heads, paper.scale, paper.skip, paper.head_hidden) == (
        *("separate", "categorical"),
        *(False, 0),
    )
    assert (paper.observation, paper.num_envs) == ("paper", 1)
    assert paper.env_kwargs == {"window": "paper", "optimizer": "official_sgd"}


@pytest.mark.parametrize("batch_size", [32, 50])
def test_what_is_given_in_epochs_follows_the_environment(batch_size):
    kwargs = {"batch_size": batch_size, **reinforce.PRESETS["paper"].env_kwargs}
    args = dataclasses.replace(reinforce.PRESETS["paper"], env_kwargs=kwargs, workers="none")
    u = gym.make("ASG-Digits-v0", batch_size=batch_size).unwrapped
    epoch = math.ceil(len(u.problem.splits["train"]) / batch_size)
    assert reinforce.run_setup(args).kwargs == {**kwargs, "budget": 30 * epoch}
    envs = reinforce.make_envs(args)
    config = envs.get_attr("unwrapped")[0].config
    assert (config.budget, config.step_limit) == (30 * epoch, 2 * epoch)
    trainer = Trainer(args, envs)
    assert isinstance(trainer.learner.optimizer, torch.optim.SGD)
    assert trainer.learner.optimizer.defaults["momentum"] == 0.9
    assert not trainer.network.args.greedy
    envs.close()


def test_steps_that_are_given_come_before_epochs():
    given = {"budget": 20, "step_limit": 10}
    args = dataclasses.replace(reinforce.PRESETS["paper"], env_kwargs=given, workers="none")
    assert reinforce.run_setup(args).kwargs == given
    envs = reinforce.make_envs(args)
    assert envs.get_attr("unwrapped")[0].config.step_limit == 10
    envs.close()


def test_env_kwargs_add_to_the_presets():
    args = read_arguments(
        reinforce.PRESETS, ["--preset", "paper", "--env-kwargs", "base_lr", "0.05", "window", "7"]
    )
    assert args.env_kwargs == {"window": 7, "optimizer": "official_sgd", "base_lr": 0.05}
    assert reinforce.PRESETS["paper"].env_kwargs["window"] == "paper"


def test_presets_choose_the_defaults():
    assert read_arguments(reinforce.PRESETS, []) == Args()
    paper = read_arguments(reinforce.PRESETS, ["--preset", "paper", "--updates", "7"])
    assert (paper.gamma, paper.rollout, paper.per_step_credit, paper.updates) == (0.0, 5, False, 7)
    assert read_arguments(reinforce.PRESETS, ["--preset=paper"]).optimizer == "sgd"


# -- the report ------------------------------------------------------------------------------------


def record_of(policy, seed, rewards, final):
    scales, steps = [[0.5, 1.0]] * len(rewards), list(range(0, 5 * len(rewards) + 1, 5))
    return Record(
        *(policy, "ASG-Digits-v0", {"variant": "test"}, seed, ["body", "fc_new"], [], rewards),
        *(scales, steps, final, True, False, None, "cpu", 1, {}, "fonts -> digits", "abc"),
    )


RECORDS = [
    record_of("learned", 0, [1.0, 1.0], {"accuracy": 0.5}),
    record_of("learned", 1, [1.0, 2.0], {"accuracy": 0.7}),
    record_of("learned", 2, [3.0, 4.0], {"accuracy": 0.9}),
    record_of("large", 2, [1.0, 1.0], {"accuracy": 0.5, "retention": 0.25}),  # in another order
    record_of("large", 0, [1.0, 0.0], {"accuracy": 0.5, "retention": 0.75}),
    record_of("large", 1, [1.0, 2.0], {"accuracy": 0.5, "retention": 0.5}),
]


def test_comparison_rows_by_hand():
    rows = {(r["name"], r["metric"]): r for r in comparison_rows(RECORDS, "learned")}
    t = 4.302652729911275  # Student's, two degrees of freedom, two-sided 5%
    returns = rows["learned", "return"]  # 2, 3, 7: mean 4, variance 7
    assert returns["mean"] == pytest.approx(4)
    half = t * math.sqrt(7 / 3)
    assert returns["ci95"] == pytest.approx([4 - half, 4 + half])
    assert (returns["seeds"], returns["difference"], returns["difference_ci95"]) == (3, None, None)
    other = rows["large", "return"]  # 1, 3, 2: learned is 1, 0, 5 above it, mean 2, variance 7
    assert other["mean"] == pytest.approx(2)
    assert other["ci95"] == pytest.approx([2 - t / math.sqrt(3), 2 + t / math.sqrt(3)])
    assert other["difference"] == pytest.approx(2)
    assert other["difference_ci95"] == pytest.approx([2 - half, 2 + half])
    same = rows["large", "accuracy"]
    assert (same["mean"], same["ci95"]) == (0.5, [0.5, 0.5])
    assert same["difference"] == pytest.approx(0.2)
    assert rows["large", "retention"]["mean"] == pytest.approx(0.5)
    assert math.isnan(rows["learned", "retention"]["mean"])


def test_the_report_is_a_table_for_people_and_one_for_programs(tmp_path):
    text = write_report(RECORDS, tmp_path, "learned")
    lines = text.splitlines()
    assert lines[2].startswith("| learned | 4.000 [")  # the best return first
    assert lines[3].startswith("| large | 2.000 [")
    assert "| - |" in lines[2]  # its retention was not measured
    assert (tmp_path / "table.md").read_text().strip() == text.strip()
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert text.strip() == comparison_table(rows, "learned", about(RECORDS)).markdown().strip()
    assert lines[-1].startswith("fonts -> digits; variant 'test'. Means over 3 fresh seeds")
    assert (tmp_path / "lr_over_time.png").read_bytes().startswith(b"\x89PNG")
