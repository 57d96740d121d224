"""Rules that choose the student to keep."""

import dataclasses

import numpy as np
import pytest
from finetune_support import NAN

from asg_env.evaluation.selection import SELECTIONS, EarlyStopping, Evaluation, FixedFraction
from asg_env.reports.comparison import selection_rows, selection_table

pytestmark = pytest.mark.usefixtures("one_thread")


def evaluation(step, accuracy, ce, target):
    valid = {"accuracy": accuracy, "ce": ce}
    return Evaluation(step, step / 10, step / 100, valid, {"accuracy": target, "ce": 1.0})


ROWS = [
    evaluation(0, 0.2, 1.6, 0.3),
    evaluation(10, 0.9, 0.5, 0.8),
    evaluation(20, 1.0, 0.3, 0.6),
    evaluation(30, 1.0, 0.1, 0.8),
    evaluation(40, 1.0, 0.1, 0.5),
    evaluation(50, NAN, NAN, NAN),
]


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("last", [0, 1, 2, 3, 4, 5]),
        ("inner_valid", [0, 1, 2, 3, 3, 3]),
        ("early_stopping", [0, 1, 2, 3, 3, 3]),
        ("half", [0, 1, 2, 3, 4, 5]),
        ("oracle", [0] + [1] * 5),
    ],
)
def test_rules_by_hand(rule, chosen):
    found = [SELECTIONS[rule].choose(ROWS[: i + 1]) for i in range(len(ROWS))]
    assert found == chosen


def test_early_stopping_gives_up_after_its_patience():
    values = (0.5, 0.6, 0.4, 0.4, 0.9, 0.3, 0.3, 0.3, 1.0)
    rows = [evaluation(10 * i, value, 1.0, 0.0) for i, value in enumerate(values)]
    assert [EarlyStopping(patience).choose(rows) for patience in (1, 2, 3, 4)] == [1, 1, 4, 8]
    assert [EarlyStopping(3).choose(rows[:n]) for n in (1, 4, 5)] == [0, 1, 4]
    with pytest.raises(ValueError, match="patience=0: expected >= 1"):
        EarlyStopping(0)


def test_a_fixed_fraction_is_the_first_evaluation_after_it():
    rows = [evaluation(20 * i, 0.5, 1.0, 0.0) for i in range(6)]
    assert [FixedFraction("x", share).choose(rows) for share in (0.1, 0.2, 0.5, 1.0)] == [
        1,
        1,
        3,
        5,
    ]
    assert FixedFraction("x", 0.5).choose(rows[:2]) == 1
    with pytest.raises(ValueError, match=r"share=0: expected a number in \(0, 1\]"):
        FixedFraction("x", 0)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_rule_never_goes_back_and_an_oracle_says_that_it_is_one(name):
    rule = SELECTIONS[name]
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.integers(0, 4, (6, 3)) / 3
        rows = [evaluation(10 * i, *row) for i, row in enumerate(values)]
        chosen = rule.choose(rows)
        assert rule.choose(rows[: chosen + 1]) == chosen
    assert (rule.name, rule.oracle) == (name, "oracle" in name)
    blind = [dataclasses.replace(row, test={}) for row in ROWS]
    if not rule.oracle:
        assert rule.choose(blind) == rule.choose(ROWS)


def test_the_table_of_rules_shows_what_was_not_measured_as_a_dash():
    lines = selection_table(selection_rows(ROWS, "last")).markdown().splitlines()
    assert lines[2] == "| last (saved) | 5.00 | 50 | - | - | - |"
    assert lines[3] == "| inner_valid | 3.00 | 30 | 80.0 | - | 100.0 |"
    assert "bound and not a result" in lines[-1]
