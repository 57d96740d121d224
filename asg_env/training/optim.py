"""Optimizers whose learning rate is set per layer group before every window."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asg_env.registry import Registry
from asg_env.training.parameter_free import Hypergradient, LDoG, Prodigy

MOMENTUM = "momentum_buffer"  # how SGD calls it
OPTIMIZER_STATE = ("momentum.", "optimizer.")  # how the names of its tensors begin


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


OPTIMIZERS: Registry[type[torch.optim.Optimizer]] = Registry(
    "optimizer", ("step", "zero_grad", "state_dict", "load_state_dict"), instances=False
)
"""``sgd``: PyTorch's. ``official_sgd``: the paper's code. The others find their learning rates
themselves."""
OPTIMIZERS.register("sgd", torch.optim.SGD)
OPTIMIZERS.register("official_sgd", OfficialSGD)
OPTIMIZERS.register("ldog", LDoG)
OPTIMIZERS.register("prodigy", Prodigy)
OPTIMIZERS.register("hypergradient", Hypergradient)


def make_optimizer(
    kind: type[torch.optim.Optimizer],
    groups: Sequence[list[nn.Parameter]],
    lr: float,
    **options: float,
) -> torch.optim.Optimizer:
    """An optimizer with one parameter group for each layer group, all at ``lr``.

    Args:
        kind: its class.
        groups: the weights of each layer group.
        lr: learning rate.
        options: ``momentum`` and ``weight_decay``; those that the class does not take are left out.
    """
    known = inspect.signature(kind).parameters
    taken: Any = {name: value for name, value in options.items() if name in known}
    return kind([{"params": group} for group in groups], lr=lr, **taken)  # type: ignore[call-arg]


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The state of an optimizer, by name; numbers become tensors of no dimension."""
    named: dict[str, Tensor] = {}
    for index, parameter in enumerate(params):
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                name = f"momentum.{index}" if key == MOMENTUM else f"optimizer.{index}.{key}"
                named[name] = torch.as_tensor(value)
    return named


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Take over what :func:`optimizer_tensors` gave; ValueError if a tensor does not fit."""
    optimizer.state.clear()
    for name, value in tensors.items():
        if not name.startswith(OPTIMIZER_STATE):
            continue
        index, _, key = name.partition(".")[2].partition(".")
        if not index.isdecimal() or int(index) >= len(params):
            raise ValueError(f"{name!r} is of none of the {len(params)} parameters")
        parameter = params[int(index)]
        if not key and (value.shape != parameter.shape or not value.is_floating_point()):
            raise ValueError(f"{name!r} holds {value.dtype} {tuple(value.shape)}, no momentum")
        like = parameter if value.shape == parameter.shape else value
        dtype = value.dtype if key else parameter.dtype
        state: dict[str, Any] = optimizer.state[parameter]
        state[key or MOMENTUM] = torch.empty_like(like, dtype=dtype).copy_(value)
