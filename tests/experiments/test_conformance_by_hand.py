"""Conformance on second sets of vectors, by hand in float64."""

import json

import pytest
from conformance_support import SETS, second_set, write_set

from experiments import conformance
from experiments.conformance import CHECKS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("numbers", SETS)
def test_a_second_set_conforms(numbers, tmp_path, capsys):
    """Other seeds, decisions, groups, levels and hidden sizes."""
    assert conformance.main(write_set(tmp_path, *second_set(*numbers))) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "out/conformance.json").read_text())["rows"]
    assert [row["key"] for row in rows] == list(CHECKS)
    for row in rows:
        assert row["passed"]
        assert 0 <= row["error"] <= 1e-5
        assert f"| {row['key']} | {row['error']:.1e} | ok |" in printed
    assert (tmp_path / "out/conformance.md").read_text() in printed
