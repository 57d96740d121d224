"""Comparing agents over training seeds and evaluation seeds, after Agarwal et al. (NeurIPS 2021).

Interquartile means are scipy's ``trim_mean``. Intervals are percentiles of a stratified bootstrap:
each evaluation seed (it fixes variant, new head and batch order) is a stratum, whose training seeds
are drawn anew; unlike in rliable, the strata are drawn anew too, because we speak about other
episodes than these. All agents share the draws of the strata, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import trim_mean

DRAWS = 2000
Statistic = Callable[[np.ndarray], np.ndarray]


class Estimate(NamedTuple):
    """A value and its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half of each row: (B, N) -> (B,)."""
    return np.asarray(trim_mean(values, 0.25, axis=1))


def resample(scores: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Bootstrap draws.

    Args:
        scores: by agent, (training seeds, evaluation seeds); the latter are the same for all.
        seed: of the draws.

    Returns:
        By agent, (DRAWS, training seeds, evaluation seeds).
    """
    rng = np.random.default_rng(seed)
    count = next(iter(scores.values())).shape[1]
    strata = rng.integers(0, count, (DRAWS, 1, count))
    drawn = {}
    for name, table in scores.items():
        rows = rng.integers(0, len(table), (DRAWS, *table.shape))
        drawn[name] = table[rows, np.broadcast_to(strata, rows.shape)]
    return drawn


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.nanpercentile(draws, [2.5, 97.5]) if len(draws) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))


def iqm(table: np.ndarray, draws: np.ndarray) -> Estimate:
    """Interquartile mean of (training seeds, evaluation seeds); ``draws``: of :func:`resample`."""
    value = float(interquartile_mean(table.reshape(1, -1))[0])
    return _estimate(value, interquartile_mean(draws.reshape(len(draws), -1)))


def mean_difference(
    one: np.ndarray, other: np.ndarray, draws: np.ndarray, other_draws: np.ndarray
) -> Estimate:
    """Mean of ``one`` less mean of ``other``, paired by evaluation seed."""
    gaps = draws.mean((1, 2)) - other_draws.mean((1, 2))
    return _estimate(float(one.mean() - other.mean()), gaps)


def _better(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(B, S, E) and (B, T, E) -> (B,): how often a score is above another of the same episode."""
    above = (one[:, :, None] > other[:, None]).mean((1, 2, 3))
    return above + 0.5 * (one[:, :, None] == other[:, None]).mean((1, 2, 3))


def improvement(
    one: np.ndarray, other: np.ndarray, draws: np.ndarray, other_draws: np.ndarray
) -> Estimate:
    """Probability that a run of ``one`` scores above a run of ``other`` on the same episode."""
    return _estimate(float(_better(one[None], other[None])[0]), _better(draws, other_draws))
