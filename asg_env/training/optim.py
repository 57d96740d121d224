"""Optimizers whose learning rate is set per layer group before every window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


class OfficialSGD(torch.optim.Optimizer):
    """SGD with the learning rate *inside* the momentum buffer (official quirk).

    ``v = momentum * v + lr * (gradient + weight_decay * w)``, ``w = w - v``. With ``lr`` 0 a group
    coasts on its momentum instead of standing still, which PyTorch's SGD makes it do.
    """

    def __init__(self, params: Any, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update. ``closure`` is not supported."""
        if closure is not None:
            raise ValueError("OfficialSGD takes no closure: compute the gradients before step()")
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            gradients = [p.grad for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            decayed = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
            torch._foreach_add_(buffers, decayed, alpha=group["lr"])
            torch._foreach_sub_(params, buffers)


OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "official_sgd": OfficialSGD,
}
"""``sgd``: PyTorch's. ``official_sgd``: the paper's code."""


def make_optimizer(
    name: str,
    groups: Sequence[list[nn.Parameter]],
    lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """An optimizer with one parameter group for each layer group, all at ``lr``."""
    params = [{"params": group} for group in groups]
    return OPTIMIZERS[name](params, lr=lr, momentum=momentum, weight_decay=weight_decay)  # type: ignore[call-arg]
