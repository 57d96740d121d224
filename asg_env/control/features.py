"""Features at the layer groups' outputs, and how far they are from a reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asg_env.models.groups import LayerGroup, channel_axis


def group_features(model: nn.Module, groups: Sequence[LayerGroup], images: Tensor) -> list[Tensor]:
    """Each group's output, averaged over positions.

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
    return output.float()


def feature_kl(reference: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """KL(softmax over channels of reference || that of features), mean over images, nats: (G,)."""
    values = []
    for before, now in zip(reference, features, strict=True):
        p, q = F.log_softmax(before, dim=1), F.log_softmax(now, dim=1)
        values.append(F.kl_div(q, p, reduction="batchmean", log_target=True))
    return torch.stack(values)


def linear_cka(reference: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """Linear centred kernel alignment of each group (Kornblith et al., 2019): (G,) in [0, 1].

    ``|Y'X|^2 / (|X'X| |Y'Y|)`` of the centred features, Frobenius norms: 1 if the one is the other
    but for a rotation and a scale; NaN where one does not differ between the images.
    """
    values = []
    for before, now in zip(reference, features, strict=True):
        x, y = (f.double() - f.double().mean(0) for f in (before, now))
        sizes = torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y)
        values.append(torch.linalg.norm(y.T @ x).square() / sizes)
    return torch.stack(values)
