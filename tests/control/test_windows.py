"""Windows: the official ones, and those that fill a budget."""

import pytest
from official_support import vectors

from asg_env.control.windows import fixed_windows, paper_windows


@pytest.mark.parametrize(
    ("key", "epoch_length", "epochs", "shortest"),
    [
        ("visda_4763x30_min10", 4763, 30, 10),
        ("gta5_2000x50_min20", 2000, 50, 20),
        ("small_37x4_min3", 37, 4, 3),
    ],
)
def test_paper_windows_are_the_official_ones(key, epoch_length, epochs, shortest):
    official = [length for _, length in vectors("windows")[key]]
    assert paper_windows(epoch_length, epoch_length * epochs, shortest) == official


def test_windows_fill_the_budget_exactly():
    for budget in (1, 9, 10, 11, 119, 120):
        assert sum(paper_windows(50, budget, 10)) == budget
        assert sum(fixed_windows(10, budget)) == budget
    assert fixed_windows(7, 20) == [7, 7, 6]
