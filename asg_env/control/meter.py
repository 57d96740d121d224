"""The meter: what a window of optimizer steps did to each layer group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NEARLY_ZERO = 1e-12  # norms of weights below it count as it


class WindowStats(NamedTuple):
    """What one window did.

    ``ce``, ``kl``: means over the window's batches, nats. ``grad_norm`` (G,): mean norm of each
    group's gradient, before clipping. ``update_ratio`` (G,): norm of the window's weight change
    over the norm of the weights before it. ``finite``: no loss and no weight is NaN or infinite.
    ``penalty``: mean of the added regulariser's penalty, without its strength; None: there is none.
    """

    ce: float
    kl: float
    grad_norm: np.ndarray
    update_ratio: np.ndarray
    finite: bool
    penalty: float | None = None


class Probe(NamedTuple):
    """What the weights look like now.

    ``head_mean``, ``head_std``: of the head's last weight. ``drift`` (G,): norm of
    (weights - start) over the norm of start. ``feature_kl`` (G,): KL between the features at the
    start and now.
    """

    head_mean: float
    head_std: float
    drift: np.ndarray
    feature_kl: np.ndarray


class Meter:
    """Measures a training loop, which calls it at four moments.

    ``begin`` a window; ``gradients`` when a step's gradients are there and not clipped yet;
    ``losses`` after the step; ``end`` of the window. It keeps a copy of the weights it was made
    with, from which drift is measured.

    Args:
        groups: the trainable weights of each layer group, in forward order.
    """

    def __init__(self, groups: Sequence[Sequence[Tensor]]) -> None:
        self.params: list[Tensor] = [p for group in groups for p in group]
        device = self.params[0].device
        self._membership = torch.zeros(len(self.params), len(groups), device=device)
        row = 0
        for column, group in enumerate(groups):
            self._membership[row : row + len(group), column] = 1
            row += len(group)
        self._start = self._copy()
        self._start_norm = self._norms(self._start)

    def begin(self) -> None:
        """A window begins with the weights as they are."""
        self._before = self._copy()
        self._losses: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def gradients(self) -> Tensor:
        """Note each group's gradient norm, and return them, (G,)."""
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]
        self._gradients.append(self._norms(found))
        return self._gradients[-1]

    def losses(self, values: Tensor) -> None:
        """Note a step's losses: CE, KL and, if there is one, the penalty; detached."""
        self._losses.append(values)

    def end(self) -> WindowStats:
        """What the window did."""
        ratio = self._moved(self._before) / self._norms(self._before).clamp_min(NEARLY_ZERO)
        losses, norms = torch.stack(self._losses), torch.stack(self._gradients)
        ce, kl, *penalty = losses.mean(0).tolist()
        largest = torch.stack(torch._foreach_norm(self.params, ord=float("inf"))).max()
        finite = bool(torch.isfinite(largest)) and bool(torch.isfinite(losses).all())
        return WindowStats(ce, kl, _array(norms.mean(0)), _array(ratio), finite, *penalty)

    def distance(self) -> np.ndarray:
        """Norm of (weights - start) of each group, (G,)."""
        return _array(self._moved(self._start))

    def drift(self) -> np.ndarray:
        """The same over the norm of start, (G,)."""
        return _array(self._moved(self._start) / self._start_norm.clamp_min(NEARLY_ZERO))

    def _copy(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.params]

    def _moved(self, before: list[Tensor]) -> Tensor:
        return self._norms(list(torch._foreach_sub(self.params, before)))

    @torch.no_grad()
    def _norms(self, tensors: list[Tensor]) -> Tensor:
        squares = torch.stack(torch._foreach_norm(tensors)).square()
        return (squares @ self._membership).sqrt()


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
