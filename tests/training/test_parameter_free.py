"""Optimizers without a learning rate: against their packages and closed forms, and in snapshots."""

import contextlib
import io
import sys

import numpy as np
import pytest
import torch
from support import make, play
from torch import nn

from asg_env.policies import load
from asg_env.training.optim import (
    OPTIMIZERS,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from asg_env.training.parameter_free import (
    AVERAGE,
    DISTANCE,
    ESTIMATE,
    Hypergradient,
    LDoG,
    Prodigy,
)

STEPS = 12
NAMES = {"ldog": "dog", "prodigy": "prodigyplus", "hypergradient": "torch"}
KWARGS = {"budget": 8, "window": 2, "action": "continuous", "variant": "train:0"}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 13), nn.Tanh(), nn.Linear(13, 1), nn.Linear(1, 3))


def gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(32, 30, generator=generator)
    net.zero_grad()
    nn.functional.cross_entropy(net(inputs), (inputs[:, 0] > 0).long()).backward()


def groups(net):
    return [[*net[0].parameters()], [*net[2].parameters(), *net[3].parameters()]]


def descend(net, optimizer, steps=range(STEPS)):
    """The weights after each step, as measured and as trained."""
    path = []
    for step in steps:
        getattr(optimizer, "train", lambda: None)()
        gradients(net, step)
        optimizer.step()
        trained = [p.detach().clone() for p in net.parameters()]
        getattr(optimizer, "eval", lambda: None)()
        path.append((trained, [p.detach().clone() for p in net.parameters()]))
    return path


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip([*a[0], *a[1]], [*b[0], *b[1]], strict=True):
            assert torch.equal(x, y)


def test_ldog_and_its_average_are_the_packages():
    dog = pytest.importorskip("dog")
    mine, theirs = network(), network()
    ours = LDoG([{"params": g} for g in groups(mine)], lr=123.0, weight_decay=5e-4)
    reference = dog.LDoG(
        [{"params": g} for g in groups(theirs)], reps_rel=DISTANCE, weight_decay=5e-4
    )
    averager = dog.PolynomialDecayAverager(theirs, gamma=AVERAGE)
    path, expected = descend(mine, ours), []
    for step in range(STEPS):
        gradients(theirs, step)
        reference.step()
        averager.step()
        models = theirs, averager.averaged_model
        expected.append(tuple([p.detach().clone() for p in m.parameters()] for m in models))
    for (trained, measured), (weights, average) in zip(path, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(trained, weights, strict=True))
        for a, b in zip(measured, average, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert not torch.equal(path[-1][0][0], path[-1][1][0])


@pytest.mark.parametrize("schedule_free", [True, False])
def test_prodigy_is_the_packages_with_an_estimate_for_each_group(schedule_free):
    package = pytest.importorskip("prodigyplus")
    mine, theirs = network(), network()
    ours = Prodigy([{"params": g} for g in groups(mine)], 123.0, 5e-4, schedule_free)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = package.ProdigyPlusScheduleFree(
            [{"params": g} for g in groups(theirs)],
            weight_decay=5e-4,
            d0=ESTIMATE,
            factored=False,
            use_schedulefree=schedule_free,
        )
    assert_same(descend(mine, ours, range(40)), descend(theirs, reference, range(40)))
    estimates = {group["d"] for group in reference.param_groups}
    assert len(estimates) == 2
    assert {float(ours.state[g["params"][0]]["group_d"]) for g in ours.param_groups} == estimates


def test_hypergradient_descent_by_hand():
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = Hypergradient([weight], lr=0.1, momentum=0.0, rate=0.5)
    rates = []
    for gradient in ([1.0, 0.0], [2.0, 0.0], [0.0, 5.0], [0.0, -1.0]):  # cosines 0, 1, 0, -1
        before = weight.detach().clone()
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        moved = before - weight.detach()
        rates.append(float(moved.abs().max() / weight.grad.abs().max()))
    assert rates == pytest.approx([0.1, 0.15, 0.15, 0.075])
    optimizer.param_groups[0]["lr"] = 0.01  # a tenth of what it was: so is what it has found
    before, weight.grad = weight.detach().clone(), torch.tensor([1.0, 0.0], dtype=torch.float64)
    optimizer.step()
    assert float((before - weight.detach())[0]) == pytest.approx(0.0075)


def test_hypergradients_momentum_and_decay_are_sgds_while_it_does_not_adapt():
    mine, theirs = network(), network()
    ours = Hypergradient([*mine.parameters()], 0.1, 0.9, 5e-4, rate=0.0)
    sgd = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, weight_decay=5e-4)
    for (one, _), (other, _) in zip(descend(mine, ours), descend(theirs, sgd), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_its_state_goes_through_tensors_and_comes_back_bit_for_bit(name):
    pytest.importorskip(NAMES[name])
    nets = network(), network()
    one, other = (
        make_optimizer(OPTIMIZERS[name], groups(net), 0.1, momentum=0.9, weight_decay=5e-4)
        for net in nets
    )
    descend(nets[0], one, range(5))
    nets[1].load_state_dict(nets[0].state_dict())
    params = [[p for g in groups(net) for p in g] for net in nets]
    tensors = {k: v.clone() for k, v in optimizer_tensors(one, params[0]).items()}
    load_optimizer_tensors(other, params[1], tensors)
    assert_same(descend(nets[0], one, range(5, 25)), descend(nets[1], other, range(5, 25)))


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_with_it_is_saved_and_forked_bit_for_bit(name, tmp_path):
    pytest.importorskip(NAMES[name])
    env = make(**KWARGS, optimizer=name)
    env.reset(seed=1)
    actions = [np.ones(env.action_space.shape, np.float32)] * 2
    play(env, actions)
    env.save(tmp_path / "episode")
    fork, other = env.fork(), make(**KWARGS, optimizer=name)
    other.load(tmp_path / "episode")
    assert play(env, actions) == play(fork, actions) == play(other, actions)


@pytest.mark.parametrize("name", ["ldog", "prodigy"])
def test_the_base_learning_rate_does_not_matter_to_it(name):
    pytest.importorskip(NAMES[name])
    losses = []
    for lr in (0.01, 1.0):
        env = make(**KWARGS, optimizer=name, base_lr=lr)
        env.reset(seed=1)
        policy = load(name)
        policy.begin(env.group_names, env.observation_names, 0)
        observation, _ = env.reset(seed=1)
        for _ in range(4):
            observation, *_, info = env.step(policy.act(observation))
        losses.append(info["losses"])
    assert losses[0] == losses[1]
    assert losses[0]["train_ce"] > 0


def test_hypergradient_starts_at_the_base_learning_rate():
    first = []
    for lr in (0.001, 0.01):
        env = make(**{**KWARGS, "window": 1}, optimizer="hypergradient", base_lr=lr)
        env.reset(seed=1)
        env.step(np.full(env.action_space.shape, 0.5, np.float32))
        first.append(env.similarity()["distance"][env.group_names[-1]])
    assert first[1] == pytest.approx(10 * first[0], rel=1e-3)


@pytest.mark.parametrize("name", ["ldog", "prodigy"])
def test_a_missing_package_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, NAMES[name], None)
    with pytest.raises(ImportError, match=r"optimizer='\w+' needs a package.*asg_env\[rivals\]"):
        make_optimizer(OPTIMIZERS[name], groups(network()), 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_is_refused(name):
    pytest.importorskip(NAMES[name])
    optimizer = make_optimizer(OPTIMIZERS[name], groups(network()), 0.1)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 1.0)
