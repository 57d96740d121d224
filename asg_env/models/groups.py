"""Layer groups: the units whose learning rates the policy sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asg_env.models.student import BACKBONE, HEAD
from asg_env.registry import load_attribute

BLOCKS = 4  # groups that the blocks of a transformer are put into, as many as a ResNet has stages

GroupsLike = Mapping[str, Sequence[str]] | Callable[[nn.Module], Mapping[str, Sequence[str]]] | str
"""Groups of a network: names -> paths of modules or parameters, a function that makes such a
mapping of the network, or that function's name, ``"module:function"``."""


class LayerGroup(NamedTuple):
    """A named set of submodules and parameters of a :class:`~asg_env.models.student.Student`.

    ``modules`` are dotted paths in forward order; the output of the last module among them is "the
    group's output", on which the per-group feature KL is measured.
    """

    name: str
    modules: tuple[str, ...]

    def parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The group's trainable parameters."""
        found = [p for path in self.modules for p in parameters_at(model, path)]
        return [p for p in found if p.requires_grad]

    def output(self, model: nn.Module) -> nn.Module:
        """The module whose output is the group's."""
        for path in reversed(self.modules):
            found = _resolve(model, path)
            while isinstance(found, nn.ModuleList):  # which itself is never called
                found = found[-1]
            if isinstance(found, nn.Module):
                return found
        raise ValueError(f"group {self.name!r} names parameters only; name a module too")


def _resolve(model: nn.Module, path: str) -> nn.Module | nn.Parameter:
    """The module or parameter at a dotted path; ValueError if there is none."""
    found: object = model
    for name in path.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, (nn.Module, nn.Parameter)):
        children = ", ".join(name for name, _ in model.named_children())
        raise ValueError(
            f"groups: no module or parameter {path!r}; the network's top level has: {children}"
        )
    return found


def parameters_at(model: nn.Module, path: str) -> list[nn.Parameter]:
    """The parameters at a dotted path; ValueError if nothing is there."""
    found = _resolve(model, path)
    return [found] if isinstance(found, nn.Parameter) else list(found.parameters())


def student_groups(
    network: nn.Module, classifier: str, groups: GroupsLike | None, size: int
) -> tuple[LayerGroup, ...]:
    """The groups of a student around ``network``, the new head last.

    Args:
        network: the pretrained classifier.
        classifier: path of its final linear layer, which is in no group: it is frozen.
        groups: the user's own; None: :func:`default_groups`.
        size: side of the images, pixels.

    Raises:
        ValueError: a path that is not there, a parameter in two groups or in none, a group without
            a parameter or without a module.
    """
    table = _table(network, classifier, groups, size)
    for name, paths in table.items():
        listed = isinstance(paths, Sequence) and all(isinstance(p, str) for p in paths)
        if isinstance(paths, str) or not paths or not listed or name == HEAD:
            raise ValueError(
                f"group {name!r}: expected a list of paths, and a name other than {HEAD!r}, got "
                f"{paths!r}"
            )
    own = [LayerGroup(name, tuple(paths)) for name, paths in table.items()]
    frozen = network.get_submodule(classifier)
    for group in own:
        group.output(network)
        if {id(p) for p in group.parameters(network)} & {id(p) for p in frozen.parameters()}:
            raise ValueError(
                f"group {group.name!r} holds the old classifier {classifier!r}, which stays "
                "frozen: leave it out; the new head is a group of its own"
            )
    check_groups(network, own, frozen)
    return _as_groups(table)


def _table(
    network: nn.Module, classifier: str, groups: GroupsLike | None, size: int
) -> Mapping[str, Sequence[str]]:
    return (
        default_groups(network, classifier, size) if groups is None else as_table(network, groups)
    )


def as_table(network: nn.Module, groups: GroupsLike) -> Mapping[str, Sequence[str]]:
    """The groups of a network as a mapping; ValueError if they are none."""
    made = load_attribute(groups, "groups") if isinstance(groups, str) else groups
    table = made(network) if callable(made) else made
    if not isinstance(table, Mapping):
        raise ValueError(f"groups={groups!r}: expected a mapping of names to lists of paths")
    return table


def resnet_groups(network: nn.Module) -> tuple[LayerGroup, ...]:
    """The paper's groups of any ResNet: conv1, bn1, each ``layerN``, and the new head.

    Args:
        network: a module with children ``conv1``, ``bn1``, ``layer1``, ... (torchvision's or ours).
    """
    return _as_groups(_resnet(network))


def _as_groups(groups: Mapping[str, Sequence[str]]) -> tuple[LayerGroup, ...]:
    backbone = [
        LayerGroup(name, tuple(f"{BACKBONE}.{path}" for path in paths))
        for name, paths in groups.items()
    ]
    return (*backbone, LayerGroup(HEAD, (HEAD,)))


def default_groups(network: nn.Module, classifier: str, size: int) -> dict[str, list[str]]:
    """Layer groups by architecture.

    - ResNet: conv1, bn1, each ``layerN`` (paper);
    - networks with ``features`` (VGG, MobileNet, EfficientNet, ConvNeXt, ...): one group for each
      resolution (VGG: the paper's conv1..conv5), then what else stands before the final layer
      (VGG: fc6 and fc7);
    - torchvision's vision transformers: patches and positions, then the blocks in four parts;
    - others: one group for each top-level module, or member of a top-level ``ModuleList``.
    """
    children = dict(network.named_children())
    if {"conv1", "bn1", "layer1"} <= set(children):
        return _resnet(network)
    if isinstance(children.get("features"), nn.Sequential):
        return _by_resolution(network, classifier, size)
    if {"conv_proj", "encoder"} <= set(children):
        return _transformer(network)
    return _with_rest(network, classifier, {})


def _resnet(network: nn.Module) -> dict[str, list[str]]:
    stages = [name for name, _ in network.named_children() if name.startswith("layer")]
    return {name: [name] for name in ("conv1", "bn1", *stages)}


def _by_resolution(network: nn.Module, classifier: str, size: int) -> dict[str, list[str]]:
    """``features.N`` grouped by the resolution that they work at."""
    features = network.get_submodule("features")
    sides: dict[str, int] = {}
    handles = [
        block.register_forward_hook(_note_side(sides, f"features.{name}"))
        for name, block in features.named_children()
    ]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    order = list(dict.fromkeys(sides.values()))
    groups: dict[str, list[str]] = {}
    for path, side in sides.items():
        groups.setdefault(f"conv{1 + order.index(side)}", []).append(path)
    return _with_rest(network, classifier, _trainable(network, groups))


def _note_side(sides: dict[str, int], path: str):  # type: ignore[no-untyped-def]
    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        sides[path] = output.shape[-2]  # height, or width of NHWC

    return note


def _trainable(network: nn.Module, groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """The groups without those that have no parameter; their modules go to the group after."""
    kept: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name, paths in groups.items():
        waiting += paths
        if any(parameters_at(network, path) for path in waiting):
            kept[name] = waiting
            waiting = []
    return kept


def _transformer(network: nn.Module) -> dict[str, list[str]]:
    layers = network.get_submodule("encoder.layers").named_children()
    blocks = [f"encoder.layers.{name}" for name, _ in layers]
    parts = torch.arange(len(blocks)).tensor_split(min(BLOCKS, len(blocks)))
    groups = {"embed": ["class_token", "encoder.pos_embedding", "conv_proj"]}
    groups |= {f"blocks{i}": [blocks[b] for b in part.tolist()] for i, part in enumerate(parts, 1)}
    groups[f"blocks{len(parts)}"].append("encoder.ln")
    return _with_rest(network, "heads.head", groups)


def _with_rest(
    network: nn.Module, classifier: str, groups: dict[str, list[str]]
) -> dict[str, list[str]]:
    """The groups, and one for each top-level module with parameters in none of them."""
    taken = {
        id(p) for paths in groups.values() for path in paths for p in parameters_at(network, path)
    }
    taken |= {id(p) for p in network.get_submodule(classifier).parameters()}
    rest = {n: p for n, p in network.named_parameters() if id(p) not in taken}
    for top in dict.fromkeys(_top(network, name) for name in rest):
        inside = [n for n in rest if n == top or n.startswith(f"{top}.")]
        modules = list(dict.fromkeys(n.rpartition(".")[0] or n for n in inside))
        groups[top] = [top] if _covers(network, top, inside) else modules
    return groups


def _top(network: nn.Module, name: str) -> str:
    """The top-level module of a parameter, or the member of a top-level ``ModuleList``."""
    top, _, below = name.partition(".")
    listed = isinstance(getattr(network, top), nn.ModuleList)
    return f"{top}.{below.partition('.')[0]}" if listed else top


def _covers(network: nn.Module, path: str, names: list[str]) -> bool:
    """Whether the parameters below ``path`` are just those named."""
    return len(parameters_at(network, path)) == len(names)


def channel_axis(output: Tensor) -> int:
    """Where the channels of a module's output lie: 3 for the (N, H, W, C) of Swin and alike, else
    1. Square images tell the two apart."""
    _, first, second, third = output.shape
    return 3 if first == second != third else 1


def check_groups(
    model: nn.Module, groups: Sequence[LayerGroup], frozen: nn.Module | None = None
) -> None:
    """Raise ValueError unless every trainable parameter outside ``frozen`` is in just one group."""
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    for parameter in () if frozen is None else frozen.parameters():
        names.pop(id(parameter), None)
    seen: dict[int, str] = {}
    for group in groups:
        for parameter in (p for p in group.parameters(model) if id(p) in names):
            if id(parameter) in seen:
                both = f"{seen[id(parameter)]!r} and {group.name!r}"
                raise ValueError(f"parameter {names[id(parameter)]!r} is in two groups: {both}")
            seen[id(parameter)] = group.name
    missing = [name for key, name in names.items() if key not in seen]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise ValueError(f"trainable parameters in no layer group: {shown}")
    empty = [group.name for group in groups if group.name not in seen.values()]
    if empty:
        raise ValueError(f"layer groups without a trainable parameter: {', '.join(empty)}")
