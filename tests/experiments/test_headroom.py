"""Headroom above the best constant scale."""

import numpy as np
import pytest
from benchmark_support import trial

from experiments import headroom


def test_headroom_is_judged_where_nothing_was_chosen():
    returns = np.zeros((2, 20))
    returns[0, :2], returns[1, -2:] = 1.0, 1.0  # each variant likes others
    accuracy = np.tile(np.linspace(0.0, 0.95, 20), (2, 1))
    found = headroom.outcomes(returns, {"accuracy": accuracy}, np.arange(20))
    assert found[headroom.ALL, "accuracy"] == pytest.approx(0.475)
    first_likes = accuracy[0, :2].mean()  # judged on the second
    assert found[headroom.BY_RETURN, "accuracy"] == pytest.approx(
        (first_likes + accuracy[0, -2:].mean()) / 2
    )
    returns[1] = returns[0]
    found = headroom.outcomes(returns, {"accuracy": accuracy}, np.arange(20))
    assert found[headroom.BY_RETURN, "accuracy"] == pytest.approx(first_likes)
    assert found[headroom.BY_ACCURACY, "accuracy"] == pytest.approx(0.925)


def test_headroom_of_a_task_without_variants_says_that_it_flatters(record):
    accuracy = np.linspace(0.1, 0.9, 20)
    rows = headroom.table_rows([trial(np.zeros(20), accuracy, record)])
    cells = {(row["name"], row["metric"]): row for row in rows}
    oracle = cells[headroom.BY_ACCURACY, "accuracy"]
    assert oracle["mean"] == pytest.approx(accuracy[-2:].mean())
    assert oracle["difference_ci95"][0] > 0
    assert "chosen and judged on the same runs" in headroom.headroom_table(rows, "title").markdown()


def test_headroom_without_records_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="reward_validity"):
        headroom.read_runs(tmp_path)
