"""The benchmark's tables: decisions until a level, scores."""

import dataclasses

import numpy as np

from asg_env.reports.benchmark import (
    reached,
    reached_table,
    score_tables,
)


def test_the_decisions_until_a_level_are_those_of_the_first_snapshot_above_it():
    line = [[[10.0, 0.1], [20.0, 0.5], [30.0, 0.4]], [[10.0, 0.1], [20.0, 0.2], [30.0, 0.3]]]
    rows = reached({"a": {"env_steps": np.array(line)}}, 0.4)
    assert rows[0]["env_steps"][0] == 20
    assert np.isnan(rows[0]["env_steps"][1])
    assert "| a | 1 of 2 | 20 (20 to 20) |" in reached_table(rows, "x").markdown()
    assert (
        "| a | 0 of 2 | - |"
        in reached_table(reached({"a": {"env_steps": np.array(line)}}, 9), "x").markdown()
    )


def test_score_tables_have_a_row_for_each_training_and_a_column_for_each_episode(record):
    records = [
        dataclasses.replace(
            record, agent="a", training_seed=seed, reset_seed=e, rewards=[10.0 * seed + e]
        )
        for e in (1, 0)
        for seed in (1, 0)
    ]
    assert score_tables(records, "return")["a"].tolist() == [[0, 1], [10, 11]]
