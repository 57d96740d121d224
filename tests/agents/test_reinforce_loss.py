"""REINFORCE's arithmetic: discounts, advantages and the loss, by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from agents import reinforce
from agents.reinforce import Args
from asg_env.learning.reinforce import (
    Learner,
    Rollout,
    advantages,
    discounted,
    reinforce_loss,
)
from asg_env.policies.recurrent import (
    PolicyArgs,
    RecurrentPolicy,
)


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


PLAIN = Args(
    floor=-math.inf, gamma=0.0, baseline="none", normalise=False, per_step_credit=True, entropy=0.0
)


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
    learner = Learner(network, Args(updates=updates, lr=None))
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
