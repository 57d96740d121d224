"""Features at the layer groups' outputs, and how far they are from a reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asg_env.models.groups import LayerGroup, channel_axis


def group_features(model: nn.Module, groups: Sequence[LayerGroup], images: Tensor) -> list[Tensor]:
    """Log-softmax over channels of each group's output, averaged over positions.

    Args:
        images: (N, C, H, W).

    Returns:
        One (N, channels) tensor for each group, without gradient.
    """
    taken: dict[int, Tensor] = {}

    def keep(index: int):  # type: ignore[no-untyped-def]
        return lambda _module, _inputs, output: taken.__setitem__(index, _pooled(output))

    taps = [group.output(model) for group in groups]
    handles = [tap.register_forward_hook(keep(i)) for i, tap in enumerate(taps)]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    unused = [group.name for i, group in enumerate(groups) if i not in taken]
    if unused:
        raise ValueError(f"the network does not run the last module of group {unused[0]!r}")
    return [taken[i] for i in range(len(groups))]


def _pooled(output: Tensor) -> Tensor:
    if output.dim() == 4:
        output = output.movedim(channel_axis(output), 1).mean(dim=(2, 3))
    elif output.dim() == 3:  # (N, tokens, channels)
        output = output.mean(dim=1)
    return F.log_softmax(output, dim=1)


def feature_kl(reference: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """KL(reference || features) of each group, mean over images, nats: (G,) float32."""
    values = [
        F.kl_div(now, before, reduction="batchmean", log_target=True)
        for before, now in zip(reference, features, strict=True)
    ]
    return torch.stack(values)
