"""Tables of hidden and wrong learning rates: counted by hand on made-up records."""

import dataclasses

import numpy as np
import pytest

from asg_env.policies.base import Identity
from asg_env.reports.context import (
    CEILING,
    FROZEN,
    best_of,
    compare_rows,
    compare_table,
    played,
    regret_rows,
    regret_table,
    seed_rows,
    seed_table,
)
from asg_env.reports.context_plots import BOUND, LEARNED, SCHEDULE, plot_compare, plot_regret

EPISODES = 8
KINDS = {"mine": LEARNED, "cosine": SCHEDULE, "linear": SCHEDULE, FROZEN: BOUND, CEILING: BOUND}


@pytest.fixture
def make_runs(record):
    def runs(agent, returns, training=None, accuracy=0.5, error=(), context=0.1):
        identity = Identity(agent, training)
        return [
            dataclasses.replace(
                record,
                reset_seed=seed,
                kwargs={"variant": f"test:{seed % 2}"},
                rewards=[*[0.0] * (len(record.rewards) - 1), value],
                final={"accuracy": accuracy + seed / 100, "retention": 0.9, "ce": 1.0},
                error_type="diverged" if seed in error else None,
                context={"base_lr": context},
            ).by(identity)
            for seed, value in enumerate(returns)
        ]

    return runs


@pytest.fixture
def records(make_runs):
    steps = np.arange(EPISODES) / 10
    return [
        *make_runs("mine", 1.2 + steps, 0, 0.6),
        *make_runs("mine", 1.0 + steps, 1, 0.6, error=(3,)),
        *make_runs("cosine", 0.6 + steps, accuracy=0.55),
        *make_runs("linear", [0.1, *[0.5] * (EPISODES - 1)]),
        *make_runs(FROZEN, [0.3] * EPISODES, context=77.0),
    ]


@pytest.fixture
def schedules(make_runs):
    steps = np.arange(EPISODES) / 10
    return [*make_runs("x 1", 1.6 + steps), *make_runs("x 2", 0.2 + steps)]


def cell(rows, name, key="return", **more):
    (row,) = [
        r
        for r in rows
        if (r["name"], r["metric"]) == (name, key) and all(r[k] == v for k, v in more.items())
    ]
    return row


def test_differences_shares_and_failures(records, schedules):
    found = played(records, schedules)
    rows = compare_rows(found, "cosine")
    mine = cell(rows, "mine")
    assert mine["mean"] == pytest.approx(1.1 + 0.35)
    assert mine["difference"] == pytest.approx(0.5)
    low, high = mine["difference_ci95"]
    assert 0.4 - 1e-9 <= low <= 0.5 <= high <= 0.6 + 1e-9  # episodes cancel, trainings do not
    assert mine["share"] == pytest.approx(0.5)
    assert cell(rows, "mine", "accuracy")["difference"] == pytest.approx(0.05)
    assert mine["failed"] == pytest.approx(1 / 16)  # the one that diverged
    assert mine["diverged"] == pytest.approx(1 / 16)
    assert cell(rows, "linear")["failed"] == pytest.approx(1 / 8)  # below the head alone
    assert cell(rows, CEILING)["difference"] == pytest.approx(1.0)
    assert cell(rows, "cosine")["difference"] is None
    text = compare_table(rows, "cosine", "title").markdown()
    assert text.index(CEILING) < text.index("| mine |") < text.index("| cosine |")
    assert "| 50 [" in text
    assert "left out" not in text


def test_episodes_of_other_contexts_are_left_out_and_counted(records):
    changed = [
        dataclasses.replace(r, context={"base_lr": 0.2})
        if (r.policy, r.reset_seed) == ("cosine", 2)
        else r
        for r in records
    ]
    found = played(changed)
    assert found.left_out == 1
    assert found.values("mine", "return").shape == (2, EPISODES - 1)
    rows = compare_rows(found, "cosine")
    assert cell(rows, "mine")["share"] is None
    assert "1 episodes left out" in compare_table(rows, "cosine", "title", 1).markdown()


def test_each_training_stands_by_itself(records):
    rows = seed_rows(played(records))
    assert [r["name"] for r in rows if r["metric"] == "return"] == ["mine #0", "mine #1"]
    assert cell(rows, "mine #1")["failed"] == pytest.approx(1 / 8)
    assert "| mine #0 |" in seed_table(rows).markdown()


def test_the_best_schedule_of_an_episode(schedules):
    assert best_of(schedules, 3).policy == "x 1"


def test_regret_is_what_the_best_schedule_has_more(records, schedules):
    by_error = {-1.0: records, 0.0: records}
    rows = regret_rows(by_error, schedules)
    assert cell(rows, "cosine", "regret", error=-1.0)["mean"] == pytest.approx(1.0)
    assert cell(rows, "mine", "regret", error=0.0)["mean"] == pytest.approx(0.5)
    assert cell(rows, "mine", "diverged", error=0.0)["mean"] == pytest.approx(1 / 16)
    assert cell(rows, "mine", "ce", error=0.0)["mean"] == records[0].losses[-1]["valid_ce"]
    alone = regret_rows(by_error, [])  # the best that anybody had in an episode
    assert cell(alone, "mine", "regret", error=0.0)["mean"] == pytest.approx(0.1)
    text = regret_table(rows, "title").markdown()
    assert "| regret | x0.1 | x1 |" in text
    assert "| diverged, % |" in text


def test_plots_are_drawn(records, schedules, tmp_path):
    rows = compare_rows(played(records, schedules), "cosine")
    plot_compare(rows, KINDS, "cosine", "title", tmp_path / "compare.png")
    wrong = regret_rows({-1.0: records, 0.0: records}, schedules)
    plot_regret(wrong, KINDS, "cosine", "title", tmp_path / "regret.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("compare.png", "regret.png"))
