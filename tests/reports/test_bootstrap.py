"""Statistics of a benchmark, by hand and against simulations."""

import numpy as np
import pytest

from asg_env.reports.benchmark import (
    verdict,
)
from asg_env.reports.bootstrap import improvement, interquartile_mean, iqm, iqm_difference, resample


def test_an_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean(np.array([[100.0, 1, 2, 3, 4, 5, 6, -50]])).tolist() == [3.5]


def test_statistics_of_agents_that_differ_and_of_agents_that_do_not():
    rng = np.random.default_rng(0)
    episodes = rng.normal(0, 1, 12)  # some evaluation seeds are harder, for all
    noise = rng.normal(0, 0.1, (3, 5, 12))
    scores = dict(zip("abc", episodes + noise + np.array([0.5, 0, 0])[:, None, None], strict=True))
    draws = resample(scores, [0] * 6 + [1] * 6)
    assert draws["a"].shape == (2000, 4, 10)

    def of(function, one, other):
        return function(scores[one], scores[other], draws[one], draws[other])

    gap = of(iqm_difference, "a", "b")
    assert gap.excludes_zero
    assert 0.4 < gap.low < gap.mean < gap.high < 0.6  # paired: the episodes' spread drops out
    assert not of(iqm_difference, "b", "c").excludes_zero
    assert of(improvement, "a", "b").mean > 0.99
    assert of(improvement, "b", "c").mean + of(improvement, "c", "b").mean == pytest.approx(1)
    value = iqm(scores["a"], draws["a"])
    assert value.low < value.mean < value.high
    assert value.high - value.low > 0.5  # unpaired: it does not


def test_draws_keep_a_trainings_episodes_together_and_episodes_within_their_variant():
    table = np.arange(12.0).reshape(3, 4)  # training seed: number // 4, episode: number % 4
    drawn = resample({"a": table, "b": table + 100}, ["x", "y", "x", "y"])
    trainings, episodes = drawn["a"] // 4, drawn["a"] % 4
    assert drawn["a"].shape == (2000, 2, 2)
    assert (trainings == trainings[..., :1]).all()
    assert (episodes == episodes[:, :1]).all()
    assert set(np.unique(episodes[..., 0] % 2)) == {0}  # one of x, then one of y
    assert set(np.unique(episodes[..., 1] % 2)) == {1}
    assert ((drawn["b"] - 100) % 4 == episodes).all()  # the same episodes for all agents
    assert len(np.unique(drawn["a"])) == 12


def test_episodes_that_are_alone_in_their_variant_are_drawn_together():
    drawn = resample({"a": np.arange(3.0)[None]}, ["x", "y", "z"])["a"]
    assert drawn.shape == (2000, 1, 2)
    assert set(np.unique(drawn)) == {0, 1, 2}
    one = resample({"a": np.array([[5.0]])}, ["x"])["a"]
    assert np.isnan(iqm(np.array([[5.0]]), one).low)  # nothing to draw: no interval


def test_intervals_miss_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    wrong, trials = 0, 200
    for trial in range(trials):
        episodes = rng.normal(0, 1, 12)
        scores = {  # the same agent twice; its training seeds differ, and its episodes
            name: episodes + rng.normal(0, 0.2, (5, 1)) + rng.normal(0, 0.2, (5, 12))
            for name in "ab"
        }
        draws = resample(scores, [k % 6 for k in range(12)], trial)
        gap = iqm_difference(scores["a"], scores["b"], draws["a"], draws["b"])
        wrong += gap.excludes_zero
    assert 0.01 < wrong / trials < 0.11


def test_a_difference_is_claimed_only_where_its_interval_excludes_zero():
    row = {"difference": 0.2, "difference_ci95": [0.1, 0.3]}
    assert verdict(row) == "above"
    assert verdict({**row, "difference_ci95": [-0.1, 0.3]}) == "equal"
    assert verdict({"difference": -0.2, "difference_ci95": [-0.3, -0.1]}) == "below"
    assert verdict({"difference": None}) == ""
    assert verdict({**row, "difference_ci95": [np.nan, np.nan]}) == "(no interval)"
