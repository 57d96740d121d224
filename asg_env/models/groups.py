"""Layer groups: the units whose learning rates the policy sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

HEAD_GROUP = "fc_new"


class LayerGroup(NamedTuple):
    """A named set of submodules of a :class:`~asg_env.models.student.Student`.

    ``modules`` are dotted paths in forward order; the output of the last one is "the group's
    output", on which the per-group feature KL is measured.
    """

    name: str
    modules: tuple[str, ...]

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The group's trainable parameters."""
        found = (p for path in self.modules for p in model.get_submodule(path).parameters())
        return [p for p in found if p.requires_grad]


def resnet_groups(network: nn.Module) -> tuple[LayerGroup, ...]:
    """The paper's groups of any ResNet: conv1, bn1, each ``layerN``, and the new head.

    Args:
        network: a module with children ``conv1``, ``bn1``, ``layer1``, ... (torchvision's or ours).
    """
    stages = [name for name, _ in network.named_children() if name.startswith("layer")]
    names = ["conv1", "bn1", *stages]
    groups = [LayerGroup(name, (f"backbone.{name}",)) for name in names]
    return (*groups, LayerGroup(HEAD_GROUP, (HEAD_GROUP,)))


def check_groups(model: nn.Module, groups: Sequence[LayerGroup]) -> None:
    """Raise ValueError unless every trainable parameter is in exactly one group."""
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    seen: dict[int, str] = {}
    for group in groups:
        for parameter in group.parameters(model):
            if id(parameter) in seen:
                both = f"{seen[id(parameter)]!r} and {group.name!r}"
                raise ValueError(f"parameter {names[id(parameter)]!r} is in two groups: {both}")
            seen[id(parameter)] = group.name
    missing = [name for key, name in names.items() if key not in seen]
    if missing:
        raise ValueError(f"trainable parameters in no layer group: {', '.join(missing)}")
