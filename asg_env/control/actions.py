"""What an action means: each kind owns its space and turns an action into LR scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from asg_env.registry import Registry

LEVELS = 11  # discrete LR scales 0, .1, ..., 1 (paper)


class ActionKind(ABC):
    """A kind of action: one number for each layer group, in forward order."""

    @abstractmethod
    def space(self, groups: int) -> spaces.Space[Any]:
        """The space of actions for that many layer groups."""

    @abstractmethod
    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """The LR scales that an action asks for.

        Args:
            action: what the agent gave.
            before: (G,) float64, the scales of the last window.
            groups: names of the layer groups, (G,), for messages.

        Returns:
            (G,) float64: learning rate / base learning rate.

        Raises:
            ValueError: the action lies outside the space.
        """


def checked_numbers(action: Any, high: float, groups: Sequence[str]) -> np.ndarray:
    """The numbers (G,) of an action in [0, high]; ValueError for any other."""
    try:
        values = np.asarray(_detached(action))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"action {action!r} cannot be read as numbers: {error}") from error
    if values.shape != (len(groups),):
        raise ValueError(
            f"action has shape {values.shape}, expected {(len(groups),)}: one number for each of "
            f"{', '.join(groups)}"
        )
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"action {action!r} holds something that is no finite number")
    if (values < 0).any() or (values > high).any():
        raise ValueError(f"action {values} is out of range: expected numbers in [0, {high}]")
    return values


def _detached(action: Any) -> Any:
    """A tensor, wherever it lies and whatever it depends on, as one that NumPy reads."""
    if not isinstance(action, torch.Tensor):
        return action
    values = action.detach().cpu()
    return values.double() if values.is_floating_point() else values


class Discrete(ActionKind):
    """``MultiDiscrete([11]*G)``: k is k/10 x the base learning rate (paper)."""

    def space(self, groups: int) -> spaces.Space[Any]:
        """(G,) int64, each in 0..10."""
        return spaces.MultiDiscrete([LEVELS] * groups)

    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Tenths."""
        high = LEVELS - 1
        values = checked_numbers(action, high, groups)
        if (values != np.floor(values)).any():
            raise ValueError(f"action {values}: a discrete action holds whole numbers 0..{high}")
        return values.astype(np.float64) / high


class Continuous(ActionKind):
    """``Box(0, 1, (G,))``: the scales themselves."""

    def space(self, groups: int) -> spaces.Space[Any]:
        """(G,) float32, each in [0, 1]."""
        return spaces.Box(0.0, 1.0, (groups,), np.float32)

    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """As they are."""
        return checked_numbers(action, 1, groups).astype(np.float64)


ACTIONS: Registry[ActionKind] = Registry("action", ("space", "scales"))
"""Every kind of action by name."""
ACTIONS.register("discrete", Discrete())
ACTIONS.register("continuous", Continuous())
