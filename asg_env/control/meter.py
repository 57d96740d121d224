"""The meter: what a window of optimizer steps did to each layer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

    ``loss_spread``: standard deviation of the steps' CE over their mean. Of a meter that looks at
    directions, else None: ``alignment`` (G,), the cosine of this window's weight change and the
    last one's, 0 where there is none; ``gradient_noise`` (G,) in [0, 1], one less the squared norm
    of the mean gradient over the mean squared norm of a step's (0: all steps agree).
    ``weight_norm`` (G,): norm of the weights before the window; None: not known.
    """

    ce: float
    kl: float
    grad_norm: np.ndarray
    update_ratio: np.ndarray
    finite: bool
    penalty: float | None = None
    loss_spread: float = 0.0
    alignment: np.ndarray | None = None
    gradient_noise: np.ndarray | None = None
    weight_norm: np.ndarray | None = None


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
        directions: whether it also looks at directions, which takes two more copies of the weights.
    """

    def __init__(self, groups: Sequence[Sequence[Tensor]], directions: bool = False) -> None:
        self.directions = directions
        self.moves: list[Tensor] = []  # the last window's weight changes
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
        self._sum: list[Tensor] = []

    def found(self) -> list[Tensor]:
        """The weights' gradients as they are now; zeros where there is none."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.params]

    def gradients(self, found: list[Tensor] | None = None) -> Tensor:
        """Note each group's gradient norm, and return them, (G,); of :meth:`found`, if given."""
        found = self.found() if found is None else found
        self._gradients.append(self._norms(found))
        if self.directions:
            self._add(found)
        return self._gradients[-1]

    @torch.no_grad()
    def _add(self, gradients: list[Tensor]) -> None:
        if self._sum:
            torch._foreach_add_(self._sum, gradients)
        else:
            self._sum = [g.detach().clone() for g in gradients]

    def losses(self, values: Tensor) -> None:
        """Note a step's losses: CE, KL and, if there is one, the penalty; detached."""
        self._losses.append(values)

    @torch.no_grad()
    def end(self) -> WindowStats:
        """What the window did."""
        moves = list(torch._foreach_sub(self.params, self._before))
        moved, before = self._norms(moves), self._norms(self._before).clamp_min(NEARLY_ZERO)
        ratio = moved / before
        losses, norms = torch.stack(self._losses), torch.stack(self._gradients)
        ce, kl, *penalty = losses.mean(0).tolist()
        ends = torch.stack([end for p in self.params for end in p.aminmax()])  # NaN if one is
        finite = bool(torch.isfinite(ends).all()) and bool(torch.isfinite(losses).all())
        spread = losses[:, 0].std(correction=0) / losses[:, 0].mean().clamp_min(NEARLY_ZERO)
        stats = WindowStats(ce, kl, _array(norms.mean(0)), _array(ratio), finite, *penalty)
        stats = stats._replace(loss_spread=float(spread), weight_norm=_array(before))
        if not self.directions:
            return stats
        alignment, noise = self._alignment(moves, moved), self._noise(norms)
        return stats._replace(alignment=alignment, gradient_noise=noise)

    def _alignment(self, moves: list[Tensor], moved: Tensor) -> np.ndarray:
        """The cosine of this window's weight change and the last one's; keeps this one's."""
        last, self.moves = self.moves, moves
        if not last:
            return np.zeros(self._membership.shape[1])
        dots = torch.stack([(a * b).sum().float() for a, b in zip(moves, last, strict=True)])
        sizes = (moved * self._norms(last)).clamp_min(NEARLY_ZERO)
        return _array(dots @ self._membership / sizes)

    def _noise(self, norms: Tensor) -> np.ndarray:
        mean = self._norms(self._sum) / len(norms)
        return _array(1 - mean.square() / norms.square().mean(0).clamp_min(NEARLY_ZERO))

    def distance(self) -> np.ndarray:
        """Norm of (weights - start) of each group, (G,)."""
        return _array(self._moved(self._start))

    def drift(self) -> np.ndarray:
        """The same over the norm of start, (G,)."""
        return _array(self._moved(self._start) / self._start_norm.clamp_min(NEARLY_ZERO))

    def load_moves(self, moves: Sequence[Tensor]) -> None:
        """Take over another meter's ``moves``; ValueError if they do not fit the weights."""
        shapes = [p.shape for p in self.params] if moves else []
        if [m.shape for m in moves] != shapes:
            raise ValueError(f"{len(moves)} weight changes do not fit {len(self.params)} weights")
        self.moves = [m.clone() for m in moves]

    def state_dict(self) -> dict[str, Any]:
        """All that its future depends on but the weights: tensors, and lists of them."""
        names = "_start", "_before", "moves", "_losses", "_gradients", "_sum"
        return {name: [t.clone() for t in getattr(self, name)] for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, of a meter of the same groups."""
        device = self.params[0].device
        for name, tensors in state.items():
            setattr(self, name, [t.to(device).clone() for t in tensors])
        self._start_norm = self._norms(self._start)

    def _copy(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.params]

    def _moved(self, before: list[Tensor]) -> Tensor:
        return self._norms(list(torch._foreach_sub(self.params, before)))

    @torch.no_grad()
    def _norms(self, tensors: list[Tensor]) -> Tensor:
        squares = torch.stack([n.float() for n in torch._foreach_norm(tensors)]).square()
        return (squares @ self._membership).sqrt()


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
