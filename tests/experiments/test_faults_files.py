"""No damaged file is taken for a whole one, and every error names the file."""

import pytest

from experiments import faults_files
from experiments.faults_files import KINDS, Args, Lines, same


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_do_no_harm(kind, capsys):
    assert faults_files.main(Args(mutations=16, kinds=(kind,))) == 0, capsys.readouterr().out


def test_an_unknown_kind_is_an_error():
    with pytest.raises(SystemExit, match="--kinds zzz: expected some of snapshot"):
        faults_files.main(Args(kinds=("zzz",)))


def test_what_counts_as_the_same():
    nan = float("nan")
    assert same([1, {"a": nan}], [1, {"a": nan}])
    assert not same([1, {"a": 1}], [1, {"a": 1.0}])
    assert not same({"a": 1, "b": 2}, {"a": 1})
    assert same(Lines([1, 2]), Lines([2]))
    assert not same(Lines([1, 2]), Lines([3]))
