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
FACTORS = (0.1, 1 / 3, 1 / 1.5, 1.0, 1.5, 3.0, 10.0)  # of the relative discrete action
LOWEST, HIGHEST = 1e-4, 1e2  # scales that relative actions can reach


class ActionKind(ABC):
    """A kind of action: one number for each layer group, in forward order.

    ``start``: LR scale before the first decision, unless the environment is told another.
    ``highest``: the largest scale that it can set.
    """

    start = 1.0
    highest = 1.0

    def gentlest(self, start: float) -> float:
        """The lowest scale that a first action can set, from ``start``."""
        return 0.0

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


def checked_numbers(action: Any, high: float, groups: Sequence[str], low: float = 0) -> np.ndarray:
    """The numbers (G,) of an action in [low, high]; ValueError for any other."""
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
    if (values < low).any() or (values > high).any():
        raise ValueError(f"action {values} is out of range: expected numbers in [{low}, {high}]")
    return values


def checked_levels(action: Any, levels: int, groups: Sequence[str]) -> np.ndarray:
    """The whole numbers (G,) of an action in 0..levels - 1, int64; ValueError for any other."""
    values = checked_numbers(action, levels - 1, groups)
    if (values != np.floor(values)).any():
        raise ValueError(f"action {values}: a discrete action holds whole numbers 0..{levels - 1}")
    return values.astype(np.int64)


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
        return checked_levels(action, LEVELS, groups) / (LEVELS - 1)


class Continuous(ActionKind):
    """``Box(0, 1, (G,))``: the scales themselves."""

    def space(self, groups: int) -> spaces.Space[Any]:
        """(G,) float32, each in [0, 1]."""
        return spaces.Box(0.0, 1.0, (groups,), np.float32)

    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """As they are."""
        return checked_numbers(action, 1, groups).astype(np.float64)


class _Relative(ActionKind):
    """An action multiplies the scales of the last window, which stay inside LOWEST..HIGHEST.

    It starts low: nothing is known before the first window, and one that is too high cannot be
    taken back. From .1, a policy that was trained over three decades of base learning rates lost
    half of its return in the highest of four.
    """

    start = 0.01
    highest = HIGHEST

    def gentlest(self, start: float) -> float:
        """A tenth."""
        return max(start * FACTORS[0], LOWEST)


class Log(_Relative):
    """``MultiDiscrete([7]*G)``: each LR times 1/10, 1/3, 1/1.5, 1, 1.5, 3, 10; 1e-4..100 x base."""

    def space(self, groups: int) -> spaces.Space[Any]:
        """(G,) int64, each in 0..6."""
        return spaces.MultiDiscrete([len(FACTORS)] * groups)

    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """The last window's times a factor."""
        factors = np.array(FACTORS)[checked_levels(action, len(FACTORS), groups)]
        return np.clip(before * factors, LOWEST, HIGHEST)


class LogContinuous(_Relative):
    """``Box(-1, 1, (G,))``: each learning rate times 10 to this power; 1e-4..100 x base."""

    def space(self, groups: int) -> spaces.Space[Any]:
        """(G,) float32, each in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (groups,), np.float32)

    def scales(self, action: Any, before: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """The last window's times a power of ten."""
        exponents = checked_numbers(action, 1, groups, low=-1).astype(np.float64)
        return np.clip(before * 10.0**exponents, LOWEST, HIGHEST)


ACTIONS: Registry[ActionKind] = Registry(
    "action", ("space", "scales", "start", "highest", "gentlest")
)
"""Every kind of action by name."""
ACTIONS.register("discrete", Discrete())
ACTIONS.register("continuous", Continuous())
ACTIONS.register("log", Log())
ACTIONS.register("log_continuous", LogContinuous())
