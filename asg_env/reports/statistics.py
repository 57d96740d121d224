"""Means and confidence intervals, by scipy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and its 95% confidence interval."""

    mean: float
    low: float
    high: float


def mean_ci95(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean with Student's t 95% confidence interval; the interval of a single value is infinite."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, -np.inf, np.inf)
    error = float(stats.sem(array))
    if error == 0:
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(0.95, len(array) - 1, mean, error)
    return Interval(mean, float(low), float(high))
