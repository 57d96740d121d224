"""Intervals: a mean and its 95% interval, one type for every table; Student's t by scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean, or another estimate, and its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    def entry(self, key: str = "mean") -> dict[str, Any]:
        """Two fields of a table's entry: ``mean`` and ``ci95``, or KEY and ``KEY_ci95``."""
        return {key: self.mean, ends_of(key): [self.low, self.high]}

    @staticmethod
    def of(entry: Mapping[str, Any], key: str = "mean") -> Interval | None:
        """The same back from an entry; None where it has no value, NaN ends where it has none."""
        value, ends = entry[key], entry[ends_of(key)]
        if value is None:
            return None
        low, high = (np.nan if end is None else end for end in ends or (None, None))
        return Interval(value, low, high)


def ends_of(key: str) -> str:
    """In which field of an entry the interval of a value is."""
    return "ci95" if key == "mean" else f"{key}_ci95"


def no_interval(key: str) -> dict[str, None]:
    """The two fields of an entry that has no such value."""
    return {key: None, ends_of(key): None}


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
