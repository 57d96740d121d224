"""The two SGDs against the official weights and each other."""

import pytest
import torch
from official_support import vectors
from torch import nn

from asg_env.training.optim import OPTIMIZERS, OfficialSGD, make_optimizer


def descend(name, lrs, gradients, start, momentum=0.9, weight_decay=5e-4):
    weight = nn.Parameter(torch.tensor(start))
    optimizer = make_optimizer(
        OPTIMIZERS[name], [[weight]], lrs[0], momentum=momentum, weight_decay=weight_decay
    )
    path = []
    for lr, gradient in zip(lrs, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path)


def test_official_sgd_follows_the_official_weights():
    v = vectors("sgd")
    path = descend(
        "official_sgd", v["lrs"], v["grads"], v["start"], v["momentum"], v["weight_decay"]
    )
    torch.testing.assert_close(path, torch.tensor(v["weights"]), rtol=1e-6, atol=1e-6)


def test_the_two_sgds_agree_while_the_learning_rate_is_constant():
    v = vectors("sgd")
    lrs = [0.05] * len(v["grads"])
    paths = [descend(name, lrs, v["grads"], v["start"]) for name in ("sgd", "official_sgd")]
    torch.testing.assert_close(*paths, rtol=1e-6, atol=1e-6)


def test_at_learning_rate_zero_sgd_stands_still_and_official_sgd_coasts():
    lrs, gradients = [0.1, 0.0, 0.0], [[1.0], [1.0], [1.0]]
    still = descend("sgd", lrs, gradients, [1.0], weight_decay=0.0)
    coasting = descend("official_sgd", lrs, gradients, [1.0], weight_decay=0.0)
    assert still.flatten().tolist() == pytest.approx([0.9, 0.9, 0.9])
    assert coasting.flatten().tolist() == pytest.approx([0.9, 0.81, 0.729])


def test_official_sgd_refuses_a_closure():
    with pytest.raises(ValueError, match="closure"):
        OfficialSGD([nn.Parameter(torch.ones(1))], 0.1, 0.9, 0.0).step(lambda: 1.0)
