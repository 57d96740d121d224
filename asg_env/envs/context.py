"""Hidden contexts: values of arguments that each reset draws and no observation shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DRAWN = {
    "base_lr": float,
    "batch_size": int,
    "budget": int,
    "guidance": float,
    "momentum": float,
    "label_noise": float,
    "shift_at": float,
}
"""What a context may draw, and the type of its values."""
STREAM = 2  # of an episode's seed, beside the seed's own
KINDS = "a number, ('log_uniform', low, high), ('uniform', low, high) or ('choice', a, b, ...)"


def draw_context(context: Mapping[str, Any], seed: int, attempt: int = 0) -> dict[str, Any]:
    """Values for the arguments of a context, from an episode's seed.

    They come from a stream of their own: the same seed plays the same variant, head and batches in
    every context.

    Args:
        context: argument -> how it is drawn, see :func:`check_context`.
        seed: the episode's.
        attempt: another one draws others.
    """
    rng = np.random.default_rng([seed, STREAM, attempt])
    return {name: DRAWN[name](_draw(how, DRAWN[name], rng)) for name, how in context.items()}


def _draw(how: Any, kind: type, rng: np.random.Generator) -> Any:
    if isinstance(how, (int, float)):
        return how
    name, *values = how
    if name == "choice":
        return values[int(rng.integers(len(values)))]
    low, high = values
    share = float(rng.random())
    value = low * (high / low) ** share if name == "log_uniform" else low + (high - low) * share
    return round(value) if kind is int else value


def extremes(how: Any) -> Sequence[Any]:
    """The values between which a draw lies, or all that it can be."""
    return [how] if isinstance(how, (int, float)) else how[1:]


def check_context(context: Any) -> None:
    """Raise TypeError or ValueError, saying what is allowed, unless it is a context: a mapping of
    some of DRAWN to a number, ``("log_uniform", low, high)``, ``("uniform", low, high)`` or
    ``("choice", a, b, ...)``. Whether the values suit the arguments is not looked at."""
    if not isinstance(context, Mapping):
        raise TypeError(f"context={context!r}: expected a mapping from arguments to {KINDS}")
    for name, how in context.items():
        if name not in DRAWN:
            raise ValueError(f"context: {name!r} is not drawn; known: {', '.join(DRAWN)}")
        if not _fine(how):
            raise ValueError(f"context: {name}={how!r}: expected {KINDS}, low < high")


def _fine(how: Any) -> bool:
    if _number(how):
        return True
    if not isinstance(how, Sequence) or isinstance(how, str) or not how:
        return False
    name, *values = how
    if not values or not all(map(_number, values)):
        return False
    if name == "choice":
        return True
    pair = len(values) == 2 and values[0] < values[1]
    return pair and (name == "uniform" or (name == "log_uniform" and values[0] > 0))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
