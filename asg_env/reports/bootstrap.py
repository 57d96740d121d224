"""Comparing agents over training seeds and evaluation episodes, after Agarwal et al. (2021).

Interquartile means are scipy's ``trim_mean``. Intervals are percentiles of a stratified bootstrap:
training seeds are drawn anew, each with all its episodes; so are the episodes within each held-out
variant, which are the strata, as we speak about other seeds of these variants. All agents share
the draws of the episodes, so that differences are paired. Of n there are n - 1 drawn (Rao and Wu,
1988): drawing n of so few would understate a mean's variance by a factor of (n - 1) / n.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from scipy.stats import trim_mean

from asg_env.reports.statistics import Interval

DRAWS = 2000
PERCENT = (2.5, 97.5)
POLICY_DRAWS = 1000


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half of each row: (B, N) -> (B,)."""
    return np.asarray(trim_mean(values, 0.25, axis=1))


def resample(
    scores: Mapping[str, np.ndarray], strata: Sequence[Hashable], seed: int = 0
) -> dict[str, np.ndarray]:
    """Bootstrap draws.

    Args:
        scores: by agent, (training seeds, episodes); the latter are the same for all.
        strata: of each episode, what it is drawn anew within; those that are alone in theirs make
            up one together.
        seed: of the draws.

    Returns:
        By agent, (DRAWS, S, E'): of each stratum and of the training seeds one less than there
        are, but at least one.
    """
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[int]] = {}
    for place, name in enumerate(strata):
        members.setdefault(name, []).append(place)
    alone = [own[0] for own in members.values() if len(own) == 1]
    groups = [own for own in (*members.values(), alone) if len(own) > 1 or (own is alone and own)]
    parts = [np.array(own)[_drawn(rng, len(own))] for own in groups]
    episodes = np.concatenate(parts, axis=1)[:, None]
    return {
        name: table[_drawn(rng, len(table))[..., None], episodes] for name, table in scores.items()
    }


def _drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Indices below ``count``, (DRAWS, count - 1), or one column if there is but one."""
    return rng.integers(0, count, (DRAWS, max(1, count - 1)))


def _estimate(value: float, draws: np.ndarray) -> Interval:
    """Without an interval (NaN) where nothing could be drawn anew."""
    low, high = np.nanpercentile(draws, PERCENT) if np.ptp(draws) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def _iqms(tables: np.ndarray) -> np.ndarray:
    """(B, S, E) -> (B,)."""
    return interquartile_mean(tables.reshape(len(tables), -1))


def iqm(table: np.ndarray, draws: np.ndarray) -> Interval:
    """Interquartile mean of (training seeds, episodes); ``draws``: of :func:`resample`."""
    return _estimate(float(_iqms(table[None])[0]), _iqms(draws))


def iqm_difference(
    one: np.ndarray, other: np.ndarray, draws: np.ndarray, other_draws: np.ndarray
) -> Interval:
    """Interquartile mean of ``one`` less that of ``other``, paired by episode."""
    value = _iqms(one[None]) - _iqms(other[None])
    return _estimate(float(value[0]), _iqms(draws) - _iqms(other_draws))


def _better(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(B, S, E) and (B, T, E) -> (B,): how often a score is above another of the same episode."""
    above = (one[:, :, None] > other[:, None]).mean((1, 2, 3))
    return above + 0.5 * (one[:, :, None] == other[:, None]).mean((1, 2, 3))


def improvement(
    one: np.ndarray, other: np.ndarray, draws: np.ndarray, other_draws: np.ndarray
) -> Interval:
    """Probability that a run of ``one`` scores above a run of ``other`` on the same episode."""
    return _estimate(float(_better(one[None], other[None])[0]), _better(draws, other_draws))


# -- draws of policies -----------------------------------------------------------------------------


def draw_policies(count: int) -> np.ndarray:
    """All policies, then POLICY_DRAWS times as many drawn anew: (1 + POLICY_DRAWS, count)."""
    drawn = np.random.default_rng(0).integers(0, count, (POLICY_DRAWS, count))
    return np.concatenate([np.arange(count)[None], drawn])


def of_draws(values: np.ndarray) -> Interval:
    """A statistic of all policies and of each draw, (1 + draws,); NaN where nothing was measured,
    or nothing varies."""
    ends = (np.nan, np.nan) if np.isnan(values[1:]).all() else np.nanpercentile(values[1:], PERCENT)
    return Interval(float(values[0]), *(float(end) for end in ends))
