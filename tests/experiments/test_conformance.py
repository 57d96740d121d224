"""Conformance with the official code, by the functions that the agents use."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from support import REPO

from agents.reinforce import PRESETS
from asg_env.learning.reinforce import (
    Learner,
    Rollout,
    discounted,
    evaluate_actions,
    reinforce_loss,
)
from asg_env.policies.recurrent import (
    LearnedPolicy,
    load_official_policy,
)
from experiments import conformance
from experiments.conformance import CHECKS, INPUTS

DATA = REPO / "tests/data"


POLICY = DATA / "official_policy.pth"


VECTORS = json.loads((DATA / "official_vectors.json").read_text())


NAMES = [f"g{i}" for i in range(7)]


pytestmark = pytest.mark.usefixtures("one_thread")


def close(computed, key):
    np.testing.assert_allclose(computed, VECTORS[key], rtol=0, atol=1e-5)


@pytest.fixture
def policy():
    return load_official_policy(POLICY)


@pytest.fixture
def rollout():
    return rollout_of(VECTORS)


def rollout_of(vectors):
    actions = torch.tensor(vectors["actions"])[:, None]
    seen = torch.tensor(vectors["obs"])[: len(actions), None]
    rewards = torch.tensor(vectors["rewards"])[:, None]
    return Rollout(seen, actions, rewards, torch.ones_like(rewards))


def test_acting_starts_from_a_zero_state_each_time(policy):
    deployed = LearnedPolicy(policy)
    deployed.begin(NAMES, [], 0)
    seen = np.array(VECTORS["obs"], dtype=np.float32)[:6]
    logits = [deployed.logits(observation).log_softmax(-1).numpy() for observation in seen]
    close(logits, "act_logits")
    carried = np.array(VECTORS["unrolled_logits"])
    assert np.abs(logits[0] - carried[0]).max() < 1e-5  # the first decision knows no past
    assert np.abs(np.array(logits) - carried)[1:].max() > 0.01


def test_a_loaded_policy_samples_from_these_logits(policy):
    deployed = LearnedPolicy(policy)
    assert not deployed.greedy
    assert deployed.env_kwargs == {"observation": "paper", "action": "discrete"}
    deployed.begin(NAMES, [], 0)
    observation = np.array(VECTORS["obs"], dtype=np.float32)[0]
    drawn = np.stack([deployed.act(observation) for _ in range(1000)])
    expected = np.exp(VECTORS["act_logits"][0])
    for g in range(7):
        frequency = np.bincount(drawn[:, g], minlength=11) / len(drawn)
        assert np.abs(frequency - expected[g]).max() < 0.08  # five standard deviations


@pytest.mark.parametrize("key", ["act_values", "unrolled_values"])
def test_the_critic_reads_each_groups_inputs_one_after_the_other(policy, rollout, key):
    seen = rollout.observations
    seen = seen.transpose(0, 1) if key == "act_values" else seen
    values = policy.values(seen, policy.initial_state(seen.shape[1])).detach().flatten()
    close(values, key)
    assert policy.critic.weight.shape == (1, 707)
    by_number = policy.critic.weight.data.view(7, 101).T.flatten()  # the other order
    policy.critic.weight.data.copy_(by_number[None])
    others = policy.values(seen, policy.initial_state(seen.shape[1])).detach().flatten()
    assert np.abs(others.numpy() - VECTORS[key]).max() > 0.01


def test_evaluating_actions_unrolls_the_lstm(policy, rollout):
    evaluation = evaluate_actions(policy, rollout, policy.initial_state(1))
    close(evaluation.log_probs.detach()[:, 0], "unrolled_logits")
    close(evaluation.chosen.detach()[:, 0], "unrolled_log_prob")
    close(float(evaluation.entropy.detach().mean()), "unrolled_entropy_mean")


def test_returns(rollout):
    gamma = PRESETS["paper"].gamma
    close([*discounted(rollout.rewards, gamma)[:, 0], 0.0], "returns_gamma0")


def test_the_paper_presets_update_is_the_official_one(policy, rollout):
    before = policy.heads[0][0].bias.detach().clone()
    learner = Learner(policy, dataclasses.replace(PRESETS["paper"], lr=VECTORS["lr_meta"]))
    result = learner.learn(rollout, policy.initial_state(1))
    close(float(result.loss), "reinforce_loss")
    close(float(result.entropy), "unrolled_entropy_mean")
    after = policy.heads[0][0].bias.detach()
    close(after, "after_update_head0_bias")
    assert (after - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change", [{"per_step_credit": True}, {"gamma": 1.0}, {"entropy": 0.1}, {"normalise": True}]
)
def test_each_switch_of_the_paper_presets_loss_counts(policy, rollout, change):
    args = dataclasses.replace(PRESETS["paper"], **change)
    loss, _ = reinforce_loss(policy, rollout, policy.initial_state(1), args, args.entropy)
    assert abs(float(loss.detach()) - VECTORS["reinforce_loss"]) > 1e-3


@pytest.mark.parametrize("change", [{"optimizer": "adam"}, {"clip": 0.01}])
def test_each_switch_of_the_paper_presets_step_counts(policy, rollout, change):
    args = dataclasses.replace(PRESETS["paper"], lr=VECTORS["lr_meta"], **change)
    Learner(policy, args).learn(rollout, policy.initial_state(1))
    after = policy.heads[0][0].bias.detach().numpy()
    assert np.abs(after - VECTORS["after_update_head0_bias"]).max() > 3e-5


@pytest.mark.parametrize("key", CHECKS)
def test_every_key_conforms(policy, key):
    row = conformance.check(key, conformance.Case(VECTORS, policy))
    assert row.error <= 1e-5, row
    assert (row.passed, row.note) == (True, "")


def test_every_key_of_the_file_is_an_input_or_compared():
    assert set(VECTORS) == {*CHECKS, *INPUTS}
    assert conformance.TOLERANCE == 1e-5
