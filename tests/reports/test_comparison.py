"""The table of a comparison, for people and for programs."""

import json
import math

import pytest

from asg_env.evaluation.records import Record
from asg_env.reports.comparison import about, comparison_rows, comparison_table, write_report


def record_of(policy, seed, rewards, final):
    scales, steps = [[0.5, 1.0]] * len(rewards), list(range(0, 5 * len(rewards) + 1, 5))
    return Record(
        *(policy, "ASG-Digits-v0", {"variant": "test"}, seed, ["body", "fc_new"], [], rewards),
        *(scales, steps, final, True, False, None, "cpu", 1, {}, "fonts -> digits", "abc"),
    )


RECORDS = [
    record_of("learned", 0, [1.0, 1.0], {"accuracy": 0.5}),
    record_of("learned", 1, [1.0, 2.0], {"accuracy": 0.7}),
    record_of("learned", 2, [3.0, 4.0], {"accuracy": 0.9}),
    record_of("large", 2, [1.0, 1.0], {"accuracy": 0.5, "retention": 0.25}),  # in another order
    record_of("large", 0, [1.0, 0.0], {"accuracy": 0.5, "retention": 0.75}),
    record_of("large", 1, [1.0, 2.0], {"accuracy": 0.5, "retention": 0.5}),
]


def test_comparison_rows_by_hand():
    rows = {(r["name"], r["metric"]): r for r in comparison_rows(RECORDS, "learned")}
    t = 4.302652729911275  # Student's, two degrees of freedom, two-sided 5%
    returns = rows["learned", "return"]  # 2, 3, 7: mean 4, variance 7
    assert returns["mean"] == pytest.approx(4)
    half = t * math.sqrt(7 / 3)
    assert returns["ci95"] == pytest.approx([4 - half, 4 + half])
    assert (returns["seeds"], returns["difference"], returns["difference_ci95"]) == (3, None, None)
    other = rows["large", "return"]  # 1, 3, 2: learned is 1, 0, 5 above it, mean 2, variance 7
    assert other["mean"] == pytest.approx(2)
    assert other["ci95"] == pytest.approx([2 - t / math.sqrt(3), 2 + t / math.sqrt(3)])
    assert other["difference"] == pytest.approx(2)
    assert other["difference_ci95"] == pytest.approx([2 - half, 2 + half])
    same = rows["large", "accuracy"]
    assert (same["mean"], same["ci95"]) == (0.5, [0.5, 0.5])
    assert same["difference"] == pytest.approx(0.2)
    assert rows["large", "retention"]["mean"] == pytest.approx(0.5)
    assert math.isnan(rows["learned", "retention"]["mean"])


def test_the_report_is_a_table_for_people_and_one_for_programs(tmp_path):
    text = write_report(RECORDS, tmp_path, "learned")
    lines = text.splitlines()
    assert lines[2].startswith("| learned | 4.000 [")  # the best return first
    assert lines[3].startswith("| large | 2.000 [")
    assert "| - |" in lines[2]  # its retention was not measured
    assert (tmp_path / "table.md").read_text().strip() == text.strip()
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert text.strip() == comparison_table(rows, "learned", about(RECORDS)).markdown().strip()
    assert lines[-1].startswith("fonts -> digits; variant 'test'. Means over 3 fresh seeds")
    assert (tmp_path / "lr_over_time.png").read_bytes().startswith(b"\x89PNG")
