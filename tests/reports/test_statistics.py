"""Means and intervals by hand."""

import math

import pytest
from official_support import INF

from asg_env.reports.statistics import mean_ci95


def test_mean_and_interval_by_hand():
    half = 3.182446305 * math.sqrt(5 / 3) / 2  # t(.975, 3) times the standard error of 1, 2, 3, 4
    assert mean_ci95([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    assert mean_ci95([3.0]) == (3.0, -INF, INF)
    assert mean_ci95([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
