"""What the agent sees: two tables from which the space, the vector and the names derive."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from asg_env.control.meter import Probe, WindowStats
from asg_env.registry import Registry


class Measurement(NamedTuple):
    """Everything an observation is made of.

    ``window`` describes the window since the last decision, ``probe`` the weights after it,
    ``progress`` is steps done / budget and ``lr_scale`` (G,) the scales that were in force.

    ``steps``: optimizer steps of the window, 0 if nothing was trained. ``left``: decisions to come.
    ``ce_before``, ``ce_start``: CE of the window before and of the first, nats. ``start_scale``: LR
    scale that the episode started with.
    """

    window: WindowStats
    probe: Probe
    progress: float
    lr_scale: np.ndarray
    steps: int = 1
    left: int = 0
    ce_before: float = math.nan
    ce_start: float = math.nan
    start_scale: float = 1.0


class Signal(NamedTuple):
    """One row of an observation: a number, or one number for each layer group."""

    name: str
    formula: str
    low: float
    high: float
    source: str
    value: Callable[[Measurement], float | np.ndarray]
    per_group: bool = False
    directions: bool = False  # whether the meter has to look at directions for it


def log_ratio(now: Any, before: Any) -> Any:
    """log10 of now / before, clipped to [-1, 1]; 0 where there is nothing before."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.log10(np.asarray(now, dtype=float) / before)
    if not math.isfinite(before):
        return 0.0
    return np.clip(np.nan_to_num(ratio, nan=1.0, posinf=1.0, neginf=-1.0), -1.0, 1.0)


def log_unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """log10 of non-negative values, mapped so that 10**low is 0 and 10**high is 1, clipped."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scaled = (np.log10(values) - low) / (high - low)
    return np.clip(np.nan_to_num(scaled, nan=1.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


@dataclass(frozen=True)
class Part:
    """A part of a measurement, by its dotted path; unlike a lambda, it can be pickled."""

    path: str

    def __call__(self, measurement: Measurement) -> Any:
        """Of one measurement."""
        return attrgetter(self.path)(measurement)


@dataclass(frozen=True)
class LogUnit:
    """:func:`log_unit` of a part of a measurement."""

    path: str
    low: float
    high: float

    def __call__(self, measurement: Measurement) -> np.ndarray:
        """Of one measurement."""
        return log_unit(attrgetter(self.path)(measurement), self.low, self.high)


GLOBAL = (
    Signal("ce", "mean CE of the window, nats", 0, 20, "paper", Part("window.ce")),
    Signal("kl", "mean KL of the window, nats", 0, 20, "paper", Part("window.kl")),
    Signal("progress", "steps done / budget", 0, 1, "paper", Part("progress")),
    Signal(
        name="head_mean",
        formula="mean of the head's last weight",
        low=-10,
        high=10,
        source="paper",
        value=Part("probe.head_mean"),
    ),
    Signal(
        name="head_std",
        formula="std of the head's last weight",
        low=0,
        high=10,
        source="paper",
        value=Part("probe.head_std"),
    ),
)
LR_SCALE = Signal("lr_scale", "LR / base LR", 0, 1, "paper", Part("lr_scale"), True)
LAYERWISE = (
    Signal(
        name="grad_norm",
        formula="log10 of the mean gradient norm, 1e-4..1e2 -> 0..1",
        low=0,
        high=1,
        source="LARS, 2017",
        value=LogUnit("window.grad_norm", -4, 2),
        per_group=True,
    ),
    Signal(
        name="update_ratio",
        formula="log10 |w - w_before| / |w_before|, 1e-6..1 -> 0..1",
        low=0,
        high=1,
        source="LARS, 2017",
        value=LogUnit("window.update_ratio", -6, 0),
        per_group=True,
    ),
    Signal(
        name="drift",
        formula="log10 |w - w_start| / |w_start|, 1e-5..10 -> 0..1",
        low=0,
        high=1,
        source="L2-SP, 2018",
        value=LogUnit("probe.drift", -5, 1),
        per_group=True,
    ),
    Signal(
        name="feature_kl",
        formula="log10 KL(features at the start || now), 1e-8..1e2 -> 0..1",
        low=0,
        high=1,
        source="ours, after the paper's KL",
        value=LogUnit("probe.feature_kl", -8, 2),
        per_group=True,
    ),
)


# -- values that take more than a look; functions, so that signals can be pickled ------------------


STEP_DECADES = 7  # of ``step_ratio``: 1e-7..1 are 0..1
HEALTHY = 0.01  # relative weight change of a step of a run that goes well, about


def loss_change(m: Measurement) -> Any:
    """The signal of this name, as each below."""
    return log_ratio(m.window.ce, m.ce_before)


def loss_since_start(m: Measurement) -> Any:
    """A number."""
    return log_ratio(m.window.ce, m.ce_start)


def left(m: Measurement) -> float:
    """A number."""
    return math.log10(1 + m.left) / 3


def kl_share(m: Measurement) -> float:
    """A number."""
    return m.window.kl / max(m.window.ce + m.window.kl, 1e-12)


def step_ratio(m: Measurement) -> np.ndarray:
    """(G,); that of HEALTHY before any step, which asks a policy to wait and see."""
    ratio = m.window.update_ratio / m.steps if m.steps else HEALTHY + 0 * m.window.update_ratio
    return log_unit(ratio, -STEP_DECADES, 0)


def alignment(m: Measurement) -> np.ndarray:
    """(G,); ValueError if the meter did not look at directions."""
    return _of_meter(m.window.alignment)


def gradient_noise(m: Measurement) -> np.ndarray:
    """(G,); ValueError if the meter did not look at directions."""
    return _of_meter(m.window.gradient_noise)


def relative_gradient(m: Measurement) -> np.ndarray:
    """(G,); 0 where the norm of the weights is not known."""
    window = m.window
    if window.weight_norm is None:
        return np.zeros_like(window.grad_norm)
    return log_unit(window.grad_norm / window.weight_norm, -5, 3)


def log_lr(m: Measurement) -> np.ndarray:
    """(G,)."""
    return np.log10(np.maximum(m.lr_scale, 1e-12) / m.start_scale) / 3


def _of_meter(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        raise ValueError("the meter was made without directions=True")
    return values


RELATIVE_GLOBAL = (
    Signal(
        name="loss_change",
        formula="log10 of the mean CE over the window before's",
        low=-1,
        high=1,
        source="GreedyLR, 2025",
        value=loss_change,
    ),
    Signal(
        name="loss_since_start",
        formula="log10 of the mean CE over the first window's",
        low=-1,
        high=1,
        source="ours",
        value=loss_since_start,
    ),
    Signal("progress", "steps done / budget", 0, 1, "paper", Part("progress")),
    Signal(
        name="left",
        formula="log10(1 + decisions to come) / 3",
        low=0,
        high=1,
        source="ours",
        value=left,
    ),
)
KL_SHARE = Signal(
    name="kl_share",
    formula="mean KL / (mean CE + mean KL)",
    low=0,
    high=1,
    source="ours, after the paper's KL",
    value=kl_share,
)
LOSS_SPREAD = Signal(
    name="loss_spread",
    formula="standard deviation over mean of the steps' CE",
    low=0,
    high=1,
    source="ours",
    value=Part("window.loss_spread"),
)
STEP_RATIO = Signal(
    name="step_ratio",
    formula="log10 |w - w_before| / (|w_before| steps), 1e-7..1 -> 0..1; 1e-2 before any step",
    low=0,
    high=1,
    source="LARS, 2017",
    value=step_ratio,
    per_group=True,
)
DIRECTIONS = (
    Signal(
        name="alignment",
        formula="cosine of the weights' changes in this window and in the one before",
        low=-1,
        high=1,
        source="hypergradient descent, 2018",
        value=alignment,
        per_group=True,
        directions=True,
    ),
    Signal(
        name="gradient_noise",
        formula="1 - |mean gradient|^2 / mean |gradient|^2",
        low=0,
        high=1,
        source="gradient noise scale, McCandlish et al., 2018",
        value=gradient_noise,
        per_group=True,
        directions=True,
    ),
)


RELATIVE_GRADIENT = Signal(
    name="relative_gradient",
    formula="log10 of the mean gradient norm over |w_before|, 1e-5..1e3 -> 0..1",
    low=0,
    high=1,
    source="Auto-RGN, Lee et al., 2023",
    value=relative_gradient,
    per_group=True,
)
LOG_LR = Signal(
    name="log_lr",
    formula="log10(LR / LR at the start) / 3",
    low=-2,
    high=2,
    source="ours",
    value=log_lr,
    per_group=True,
)


def reaching(signals: Sequence[Signal], highest: float) -> Sequence[Signal]:
    """The same where LR scales reach ``highest``, so that none is cut off."""
    return tuple(s._replace(high=max(s.high, highest)) if s is LR_SCALE else s for s in signals)


def _check_signals(signals: Any) -> None:
    """Raise TypeError unless it is a sequence of signals, each name once."""
    fine = isinstance(signals, Sequence) and signals and not isinstance(signals, str)
    if not fine or not all(isinstance(s, Signal) for s in signals):
        raise TypeError(f"observation={signals!r}: expected a sequence of Signal")
    names = [s.name for s in signals]
    if len(set(names)) < len(names):
        raise TypeError(f"observation: signals {', '.join(names)}: expected each name once")


OBSERVATIONS: Registry[Sequence[Signal]] = Registry("observation", (), check=_check_signals)
"""``paper``: the paper's 5 + G raw numbers. ``layerwise``: the same and four more per group.
``relative``: what does not depend on the size of learning rates and weights, and so tells nothing
of the base learning rate. ``loop``: the same as far as any training loop has it, without a teacher
and without features. ``rgn``: what Auto-RGN sets relative learning rates by."""
OBSERVATIONS.register("paper", (*GLOBAL, LR_SCALE))
OBSERVATIONS.register("layerwise", (*GLOBAL, *LAYERWISE, LR_SCALE))
_DRIFT, _FEATURE_KL = LAYERWISE[2:]
OBSERVATIONS.register(
    "relative",
    (*RELATIVE_GLOBAL, KL_SHARE, STEP_RATIO, *DIRECTIONS, _DRIFT, _FEATURE_KL, LOG_LR),
)
OBSERVATIONS.register(
    "loop", (*RELATIVE_GLOBAL, LOSS_SPREAD, STEP_RATIO, *DIRECTIONS, _DRIFT, LOG_LR)
)
OBSERVATIONS.register("rgn", (RELATIVE_GLOBAL[2], RELATIVE_GRADIENT))


class Observer:
    """Turns measurements into observation vectors.

    The vector holds the global signals, then each per-group signal for all groups in order.

    Args:
        signals: what is observed.
        groups: names of the layer groups.
    """

    def __init__(self, signals: Sequence[Signal], groups: Sequence[str]) -> None:
        self.signals = signals
        self.directions = any(s.directions for s in signals)
        width = [len(groups) if s.per_group else 1 for s in self.signals]
        self.names = [
            label
            for s in self.signals
            for label in ([f"{s.name}/{g}" for g in groups] if s.per_group else [s.name])
        ]
        low = np.repeat([s.low for s in self.signals], width).astype(np.float32)
        high = np.repeat([s.high for s in self.signals], width).astype(np.float32)
        self.space = spaces.Box(low, high, dtype=np.float32)

    def observe(self, measurement: Measurement) -> np.ndarray:
        """The observation, float32, finite and inside the space's bounds whatever was measured."""
        raw = np.concatenate([np.atleast_1d(s.value(measurement)) for s in self.signals])
        with np.errstate(over="ignore"):
            vector = raw.astype(np.float32)
        high, low = self.space.high, self.space.low
        vector = np.where(np.isnan(vector), high, vector)
        return np.clip(vector, low, high)
