"""Layer groups of networks that are one chain of blocks, as transformers are."""

from __future__ import annotations

import torch
from torch import nn

PARTS = 4  # groups that the blocks are put into, as many as a ResNet has stages


def chain_groups(model: nn.Module, head: str) -> dict[str, list[str]]:
    """Names -> paths: what stands before the blocks, the blocks in at most four parts.

    What follows the blocks, but for the head, is in the last part. A chain is the one
    ``ModuleList`` or ``Sequential`` of blocks of one class (of timm's and transformers' ViT, Swin,
    ConvNeXt, BERT, ...). Empty: the network has none, or several, as a ResNet.

    Args:
        model: whose.
        head: path of its last linear layer, which is left out.
    """
    chains = _chains(model)
    if len(chains) != 1:
        return {}
    (path, blocks), groups = chains[0], dict[str, list[str]]()
    names = [n for n, _ in model.named_parameters() if not n.startswith(f"{head}.")]
    inside = [k for k, name in enumerate(names) if name.startswith(f"{path}.")]
    if before := names[: inside[0]]:
        groups["embed"] = before
    parts = torch.arange(len(blocks)).tensor_split(min(PARTS, len(blocks)))
    for i, part in enumerate(parts, 1):
        groups[f"blocks{i}"] = [f"{path}.{blocks[b]}" for b in part.tolist()]
    groups[f"blocks{len(parts)}"] += [n for n in names[inside[0] :] if not n.startswith(f"{path}.")]
    return groups


def _chains(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Paths of the outermost containers of equal blocks, with their members' names."""
    found: list[tuple[str, list[str]]] = []
    for path, module in model.named_modules():
        if not path or any(path.startswith(f"{outer}.") for outer, _ in found):
            continue
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and _equal_blocks(module):
            found.append((path, [name for name, _ in module.named_children()]))
    return found


def _equal_blocks(container: nn.Module) -> bool:
    blocks = list(container.children())
    one_class = len({type(block) for block in blocks}) == 1
    deep = all(list(block.children()) and list(block.parameters()) for block in blocks)
    return len(blocks) > 1 and one_class and deep
