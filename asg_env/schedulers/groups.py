"""Layer groups as an optimizer's param groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from asg_env.models.groups import GroupsLike, as_table, default_groups, parameters_at


def param_groups(
    model: nn.Module, groups: GroupsLike | None = None, size: int = 224, **options: Any
) -> list[dict[str, Any]]:
    """Param groups for an optimizer, one for each layer group of a classifier, in forward order.

    Args:
        model: a network whose last linear layer is its head; see
            :func:`asg_env.models.groups.default_groups` for the families that have defaults.
        groups: names -> paths of modules or parameters, for any other.
        size: side of the images, pixels: where resolution falls, a group ends.
        options: of each param group, as ``weight_decay``.

    Raises:
        ValueError: a path that is not there; a trainable parameter in no group or in two.
    """
    table = _with_head(model, size) if groups is None else as_table(model, groups)
    found, seen = [], dict[int, str]()
    for name, paths in table.items():
        params = [p for path in paths for p in parameters_at(model, path) if p.requires_grad]
        for p in params:
            if id(p) in seen:
                raise ValueError(f"a parameter is in group {name!r} and in {seen[id(p)]!r}")
            seen[id(p)] = name
        if params:
            found.append({"params": params, "name": name, **options})
    lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in seen]
    if lost:
        raise ValueError(f"parameter {lost[0]!r} is in no group: name its module in groups")
    return found


def _with_head(model: nn.Module, size: int) -> dict[str, list[str]]:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the network has no linear layer: name its layer groups in groups")
    return {**default_groups(model, linear[-1], size), "head": [linear[-1]]}


class Layers(NamedTuple):
    """What a policy sees of an optimizer.

    ``names`` (G): layer groups, in forward order. ``params``: the trainable weights of each.
    ``place``: for each param group its layer group; None: nothing in it is trained. ``base_lrs``:
    of each param group, learning rate at scale 1.
    """

    names: list[str]
    params: list[list[Tensor]]
    place: list[int | None]
    base_lrs: list[float]

    def set_lr(self, optimizer: Optimizer, scales: np.ndarray) -> None:
        """Set each param group's learning rate to its layer group's scale x its base."""
        for group, place, base in zip(
            optimizer.param_groups, self.place, self.base_lrs, strict=True
        ):
            if place is None:
                continue
            lr = float(scales[place]) * base
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def check_same(self, optimizer: Optimizer) -> None:
        """ValueError if param groups were added since."""
        if len(optimizer.param_groups) != len(self.place):
            raise ValueError(
                f"the optimizer has {len(optimizer.param_groups)} param groups, it had "
                f"{len(self.place)}: make a new PolicyLR after add_param_group()"
            )


def layers_of(optimizer: Optimizer, names: Sequence[str] | None) -> Layers:
    """The layer groups that an optimizer's param groups are.

    Args:
        optimizer: whose.
        names: of each param group; see :class:`~asg_env.schedulers.policy_lr.PolicyLR`.

    Raises:
        TypeError: no optimizer, or one that needs a closure.
        ValueError: not a name for each param group; nothing is trained; a negative learning rate.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer={optimizer!r}: expected a torch.optim.Optimizer")
    if isinstance(optimizer, LBFGS):
        raise TypeError(
            f"{type(optimizer).__name__} needs a closure and searches its own step: take SGD, "
            "AdamW or another optimizer that steps without one"
        )
    groups = optimizer.param_groups
    labels = list(names) if names is not None else _names(groups)
    if len(labels) != len(groups):
        raise ValueError(
            f"groups={labels}: expected a name for each of the {len(groups)} param groups"
        )
    for group in groups:
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].clone()  # param groups may share one
    kept, params, place = list[str](), list[list[Tensor]](), list[int | None]()
    for label, group in zip(labels, groups, strict=True):
        trained = [p for p in group["params"] if p.requires_grad]
        if not trained:
            place.append(None)
            continue
        if label not in kept:
            kept.append(label)
            params.append([])
        index = kept.index(label)
        place.append(index)
        params[index] += trained
    if not kept:
        raise ValueError("the optimizer has no trainable parameter: requires_grad is False for all")
    return Layers(kept, params, place, [_base(group) for group in groups])


def _names(groups: Sequence[dict[str, Any]]) -> list[str]:
    if all("name" in group for group in groups):
        return [str(group["name"]) for group in groups]
    return [f"group{k}" for k in range(len(groups))]


def _base(group: dict[str, Any]) -> float:
    lr = float(group["lr"])
    if not lr > 0:
        raise ValueError(f"a param group has lr={lr}: expected > 0, the scale 1 of its policy")
    return lr
