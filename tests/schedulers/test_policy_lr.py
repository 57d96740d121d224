"""PolicyLR sets the environment's learning rates, resumes, and refuses what it cannot do."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import make
from torch import nn
from torchvision.models import resnet18

from asg_env.data.order import BatchOrder
from asg_env.policies.cautious import start_cautious
from asg_env.policies.recurrent import LearnedPolicy, PolicyArgs, RecurrentPolicy
from asg_env.schedulers import PolicyLR, param_groups

GROUPS = 6
STEPS = {"total_steps": 20, "window": 5}


@pytest.fixture
def policy():
    names = make("ASG-DigitsContext-v0").observation_names
    network = RecurrentPolicy(
        PolicyArgs("loop", 5, GROUPS, levels=7, heads="shared", scale="ordinal", skip=True)
    )
    start_cautious(network, names)
    return LearnedPolicy(network)


class Net(nn.Module):
    """Two layers and a head, for data of eight numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def data(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, 16, 8, generator=generator)
    return [(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()) for x in inputs]


def train(net, optimizer, scheduler, batches):
    """The learning rates that were in force."""
    rates = []
    for inputs, labels in batches:
        rates.append(scheduler.get_last_lr())
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    return rates


def own(net, optimizer=torch.optim.SGD, **options):
    groups = {"first": ["first"], "second": ["second"], "head": ["head"]}
    return optimizer(param_groups(net, groups), **{"lr": 0.3, **options})


@pytest.mark.parametrize("clip", [None, 5.0])
def test_the_learning_rates_are_the_environments_bit_for_bit(policy, clip):
    about = {"context": None, "guidance": 0.0, "clip_norm": clip or float("inf"), "threads": 1}
    env = make("ASG-DigitsContext-v0", variant="test:1", base_lr=0.3, **about)
    observation, _ = env.reset(seed=4)
    net, seed = copy.deepcopy(env.student), env._episode.ledger.seed
    optimizer = torch.optim.SGD(
        [{"params": g.parameters(net), "name": g.name} for g in env.problem.groups],
        lr=0.3,
        momentum=0.9,
        weight_decay=5e-4,
    )
    split, batches = env.problem.splits["train"], BatchOrder(1600, 32, seed).upcoming()
    scheduler, mine = PolicyLR(optimizer, policy, **STEPS), []
    for step in range(20):
        if step % 5 == 0:
            mine.append(scheduler.get_last_lr())
        batch = split.batch(next(batches))
        loss = F.cross_entropy(net(batch.images).new.float(), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            scheduler.gradients()
            params = [p for g in optimizer.param_groups for p in g["params"]]
            torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        scheduler.step(loss)
    policy.begin(env.group_names, env.observation_names, 0)
    theirs = []
    for _ in range(4):
        observation, *_, info = env.step(policy.act(observation))
        theirs.append(info["lr"].tolist())
    assert mine == theirs
    assert len({tuple(row) for row in mine}) == 4


@pytest.mark.parametrize("stop", [3, 5, 12])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_saved_scheduler_goes_on_exactly(policy, optimizer, stop, tmp_path):
    batches = data(20)
    net = Net()
    opt = own(net, optimizer)
    scheduler = PolicyLR(opt, policy, **STEPS)
    train(net, opt, scheduler, batches[:stop])
    parts = net.state_dict(), opt.state_dict(), scheduler.state_dict()
    torch.save(parts, tmp_path / "checkpoint.pt")
    whole = train(net, opt, scheduler, batches[stop:])

    weights, moments, state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    net = Net()
    opt = own(net, optimizer)
    scheduler = PolicyLR(opt, policy, **STEPS)
    net.load_state_dict(weights)
    opt.load_state_dict(moments)
    scheduler.load_state_dict(state)
    assert train(net, opt, scheduler, batches[stop:]) == whole
    other = PolicyLR(own(Net()), policy, total_steps=21, window=5)
    with pytest.raises(ValueError, match="total_steps was 20, is 21"):
        other.load_state_dict(state)


def test_accumulated_gradients_count_when_the_optimizer_steps(policy):
    net = Net()
    opt = own(net)
    scheduler = PolicyLR(opt, policy, **STEPS)
    with pytest.warns(UserWarning, match="do not count"):
        scheduler.step(1.0)
    for k, (inputs, labels) in enumerate(data(12)):
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        if k % 2:
            opt.step()
            opt.zero_grad()
        scheduler.step(loss)
    assert scheduler.last_epoch == 6
    assert scheduler.decision == 2


def test_a_step_that_a_grad_scaler_skipped_does_not_count(policy):
    net = Net()
    opt = own(net)
    scheduler = PolicyLR(opt, policy, **STEPS)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    for k, (inputs, labels) in enumerate(data(6)):
        opt.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        scaler.scale(loss * (float("inf") if k == 2 else 1.0)).backward()
        scaler.step(opt)
        scaler.update()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scheduler.step(loss)
    assert scheduler.last_epoch == 5
    assert all(np.isfinite(lr) for lr in scheduler.get_last_lr())


def test_after_the_run_the_last_learning_rates_stay(policy):
    net = Net()
    opt = own(net)
    rates = train(net, opt, scheduler := PolicyLR(opt, policy, **STEPS), data(25))
    assert rates[20:] == [rates[19]] * 5
    assert scheduler.last_epoch == 20


def test_tensor_learning_rates_frozen_weights_and_compiled_networks(policy):
    net = Net()
    net.first.requires_grad_(False)
    opt = torch.optim.AdamW(
        [
            {"params": net.first.parameters(), "name": "first"},
            {"params": net.second.parameters(), "name": "second"},
            {"params": net.head.parameters(), "name": "head"},
        ],
        lr=torch.tensor(0.01),
    )
    scheduler = PolicyLR(opt, policy, **STEPS)
    kept = [group["lr"] for group in opt.param_groups]
    assert scheduler.layers.names == ["second", "head"]
    train(torch.compile(net, backend="eager"), opt, scheduler, data(6))
    assert all(group["lr"] is lr for group, lr in zip(opt.param_groups, kept, strict=True))
    assert opt.param_groups[0]["lr"] == pytest.approx(0.01)
    assert opt.param_groups[1]["lr"] != pytest.approx(0.01)


def test_param_groups_of_a_torchvision_network_are_its_layer_groups(policy):
    net = resnet18(num_classes=3)
    groups = param_groups(net, weight_decay=1e-4)
    names = [group["name"] for group in groups]
    assert names == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "head"]
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    scheduler = PolicyLR(torch.optim.SGD(groups, lr=0.1), policy, total_steps=100)
    assert scheduler.layers.names == names
    assert scheduler.windows == [5] * 20


def test_param_groups_of_one_name_are_one_layer_group(policy):
    net = Net()
    opt = torch.optim.SGD(
        [
            {"params": [net.head.weight], "weight_decay": 0.1},
            {"params": [net.head.bias], "lr": 0.2},
        ],
        lr=0.1,
    )
    scheduler = PolicyLR(opt, policy, groups=["head", "head"], **STEPS)
    assert scheduler.layers.names == ["head"]
    first, second = scheduler.get_last_lr()
    assert second == pytest.approx(2 * first)


def test_what_cannot_work_is_refused(policy):
    net = Net()
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer"):
        PolicyLR(net, policy, 10)
    with pytest.raises(TypeError, match="needs a closure"):
        PolicyLR(torch.optim.LBFGS(net.parameters()), policy, 10)
    with pytest.raises(ValueError, match="total_steps=0: expected an int >= 1"):
        PolicyLR(own(net), policy, 0)
    with pytest.raises(ValueError, match="window=-1"):
        PolicyLR(own(net), policy, 10, window=-1)
    with pytest.raises(ValueError, match="a name for each of the 3 param groups"):
        PolicyLR(own(net), policy, 10, groups=["a"])
    with pytest.raises(ValueError, match="lr=0"):
        PolicyLR(own(net, lr=0.0), policy, 10)
    with pytest.raises(TypeError, match="lacks name"):
        PolicyLR(own(net), object(), 10)
    with pytest.raises(ValueError, match="no schedule and no file"):
        PolicyLR(own(net), "nowhere", 10)
    with pytest.raises(ValueError, match="sees head_mean, head_std, feature_kl"):
        PolicyLR(own(net), LearnedPolicy(RecurrentPolicy(PolicyArgs("layerwise", 5, 3))), 10)
    frozen = Net().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        PolicyLR(torch.optim.SGD(frozen.parameters(), lr=0.1), policy, 10)
    with pytest.raises(ValueError, match=r"'head\.weight' is in no group"):
        param_groups(net, {"first": ["first"], "second": ["second"]})
    with pytest.raises(ValueError, match="is in group 'again' and in 'first'"):
        param_groups(net, {"first": ["first"], "again": ["first"], "rest": ["second", "head"]})


def test_what_changes_on_the_way_is_refused(policy):
    net = Net()
    opt = own(net)
    scheduler = PolicyLR(opt, policy, **STEPS)
    opt.add_param_group({"params": nn.Linear(2, 2).parameters()})
    F.cross_entropy(net(data(1)[0][0]), data(1)[0][1]).backward()
    with pytest.raises(ValueError, match=r"make a new PolicyLR after add_param_group\(\)"):
        opt.step()
    scheduler.close()
    opt.step()
    opt = own(net)
    PolicyLR(opt, policy, **STEPS)
    with pytest.raises(TypeError, match="got a closure"):
        opt.step(lambda: 1.0)


def test_a_schedule_is_a_policy_too():
    net = Net()
    opt = own(net)
    scheduler = PolicyLR(opt, "cosine", start_scale=1.0, **STEPS)
    rates = train(net, opt, scheduler, data(20))
    assert rates[0] == [0.3] * 3
    assert rates[10] == pytest.approx([0.15] * 3)
