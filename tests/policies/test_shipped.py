"""The policies that come with the package: small, described, playable anywhere."""

import json

import numpy as np
import pytest
import torch
from support import make
from torchvision.models import resnet18

from asg_env.policies import load
from asg_env.policies.loading import SHIPPED, shipped
from asg_env.schedulers import PolicyLR, param_groups

FACTS = {"trained_on", "command", "seed", "updates", "episodes", "measured", "good_at", "bad_at"}


def test_there_is_one():
    assert "asg-lr-1" in shipped()


@pytest.mark.parametrize("name", shipped())
def test_each_is_small_and_has_a_card(name):
    folder = SHIPPED / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
    card = json.loads((folder / "card.json").read_text())
    assert set(card) >= FACTS
    text = (folder / "README.md").read_text()
    assert all(str(card[key]) in text for key in ("command", "seed"))


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("env_id", ["ASG-DigitsContext-v0", "ASG-VisDAContext-v0"])
def test_each_plays_networks_of_any_number_of_groups(name, env_id):
    policy = load(name)
    env = make(env_id, variant="test:0", **policy.env_kwargs)
    observation, _ = env.reset(seed=0)
    policy.begin(env.group_names, env.observation_names, 0)
    for _ in range(2):
        observation, *_ = env.step(policy.act(observation))
    assert np.isfinite(observation).all()


@pytest.mark.parametrize("name", shipped())
def test_each_sets_learning_rates_by_name(name):
    torch.manual_seed(0)
    model = resnet18(num_classes=3)
    optimizer = torch.optim.SGD(param_groups(model), lr=0.1)
    scheduler = PolicyLR(optimizer, name, total_steps=4, window=1)
    rates = []
    for _ in range(4):
        rates.append(scheduler.get_last_lr())
        loss = model(torch.randn(4, 3, 32, 32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    assert len({tuple(row) for row in rates}) > 1
