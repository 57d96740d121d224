"""A table's cells, for people and for programs; intervals."""

from __future__ import annotations

import json
import math

import pytest

from asg_env.reports.statistics import Interval, mean_ci95, no_interval
from asg_env.reports.table import Cell, Column, Table, named

ENTRIES = [
    {"name": "a", "metric": "return", **Interval(1.0, 0.5, 1.5).entry(), "seeds": 3},
    {"name": "a", "metric": "accuracy", **Interval(0.5, 0.25, 0.75).entry(), "seeds": 3},
    {
        "name": "b",
        "metric": "return",
        **Interval(math.nan, -math.inf, math.inf).entry(),
        "seeds": 1,
    },
    {"name": "b", "metric": "accuracy", **Interval(1.0, -math.inf, math.inf).entry(), "seeds": 1},
]


RETURN = Column("return", {"metric": "return"})


ACCURACY = Column("accuracy, %", {"metric": "accuracy"}, unit="%", digits=1)


def test_a_table_for_people_is_a_row_for_each_name():
    table = Table(ENTRIES, [named("who"), RETURN, ACCURACY], note="words")
    assert table.markdown().splitlines() == [
        "| who | return | accuracy, % |",
        "| --- | --- | --- |",
        "| a | 1.000 [0.500, 1.500] | 50.0 [25.0, 75.0] |",
        "| b | - | 100.0 [-inf, inf] |",
        "",
        "words",
    ]


def test_a_cell_knows_its_interval_unit_and_seeds():
    cell = Table(ENTRIES, [named("who"), ACCURACY]).cells()[0][1]
    assert cell == Cell("50.0 [25.0, 75.0]", Interval(0.5, 0.25, 0.75), "%", 1, 3)


def test_rows_come_in_the_order_that_is_asked_for():
    lines = Table(ENTRIES, [named("who")], [("b",), ("a",)]).markdown().splitlines()
    assert lines[2:] == ["| b |", "| a |"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ends": "never"}, "0.50"),
        ({"ends": "finite"}, "0.50 [0.25, 0.75]"),
        ({"signed": True}, "+0.50 [0.25, 0.75]"),
        (
            {"mark": lambda entry, text: f"**{text}** of {entry['seeds']}"},
            "**0.50 [0.25, 0.75]** of 3",
        ),
        ({"text": lambda entry: entry["metric"]}, "accuracy"),
        ({"where": {"metric": "other"}}, ""),
    ],
)
def test_a_column_says_how_a_number_is_shown(change, text):
    arguments = {"where": {"metric": "accuracy"}, "digits": 2, **change}
    assert Column("x", **arguments).cell(ENTRIES[:2]).text == text


def test_an_interval_that_is_not_finite_may_be_left_out():
    column = Column("x", {"metric": "accuracy"}, digits=1, ends="finite")
    assert column.cell(ENTRIES[2:]).text == "1.0"


def test_a_missing_difference_is_nothing_and_a_missing_mean_a_dash():
    entry = {"name": "a", **no_interval("mean"), **no_interval("difference")}
    assert Column("x").cell([entry]).text == "-"
    assert Column("x", key="difference").cell([entry]).text == ""


def test_parts_have_the_same_rows_and_stand_one_below_the_other():
    table = Table(ENTRIES, [[named("x"), RETURN], [named("y"), ACCURACY]], heading="h", note="n")
    blocks = table.markdown().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "h",
        "| x | return |",
        "| y | accuracy, % |",
        "n",
    ]


def test_what_is_no_number_is_null_for_programs(tmp_path):
    text = Table(ENTRIES, [named("who")], head={"title": "t"}).write(tmp_path, "some")
    assert (tmp_path / "some.md").read_text() == text + "\n"
    found = json.loads((tmp_path / "some.json").read_text())
    assert found["title"] == "t"
    assert found["rows"][1] == {
        "name": "a",
        "metric": "accuracy",
        "mean": 0.5,
        "ci95": [0.25, 0.75],
        "seeds": 3,
    }
    assert (found["rows"][2]["mean"], found["rows"][2]["ci95"]) == (None, [None, None])


def test_an_interval_comes_back_from_an_entry():
    interval = Interval(1.0, 0.5, 1.5)
    assert Interval.of(interval.entry()) == interval
    assert Interval.of(interval.entry("gain"), "gain") == interval
    assert Interval.of(no_interval("gain"), "gain") is None
    assert math.isnan(Interval.of({"mean": 1.0, "ci95": None}).low)


def test_zero_is_outside_an_interval_that_lies_on_one_side_of_it():
    assert Interval(1.0, 0.5, 1.5).excludes_zero
    assert Interval(-1.0, -1.5, -0.5).excludes_zero
    assert not Interval(0.1, -0.5, 0.5).excludes_zero
    assert not mean_ci95([1.0]).excludes_zero


def test_a_name_cannot_break_a_table():
    """Policies and data sets are called after folders, which may be called anything."""
    name = "a|b\n| c \x1b[2J<script>x</script> <= 3 <0.5"
    table = Table([{"name": name, "mean": 1.0}], [named(name)], heading="<b>h", note="p < 1 <i>")
    head, title, line, row, note = filter(None, table.markdown().split("\n"))
    expected = r"| a\|b \| c \x1b[2J&lt;script>x&lt;/script> <= 3 <0.5 |"
    assert (head, title, line, row, note) == (
        *("&lt;b>h", expected),
        *("| --- |", expected, "p < 1 &lt;i>"),
    )
