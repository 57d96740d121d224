"""The recurrent network: what it decides, from what, and how it starts."""

import dataclasses

import pytest
import torch
from gymnasium import spaces
from reinforce_support import shaken

from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
)

GROUPS = ("conv1", "bn1", "layer1", "layer2", "layer3", "fc_new")


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
