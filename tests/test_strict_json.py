"""What is written is JSON as others read it, and NaN and infinity come back."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from support import started

from asg_env.evaluation.records import Record
from asg_env.files import read_tensors
from asg_env.sealed import line_of, numbers, strict, unsealed
from asg_env.typed import from_fields

ODD = [math.nan, math.inf, -math.inf, 1.5]


def strictly(text):
    """As a parser that knows JSON only."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@dataclasses.dataclass(frozen=True)
class Row:
    losses: dict[str, float]
    values: list[float]
    maybe: float | None = None


def test_a_row_comes_back():
    row = Row({"ce": math.nan}, ODD)
    line = line_of(dataclasses.asdict(row))
    assert strictly(line)["values"] == [None, "Infinity", "-Infinity", 1.5]
    assert repr(from_fields(Row, unsealed(line, "it"))) == repr(row)
    old = json.dumps(dataclasses.asdict(row))  # of older versions
    assert repr(from_fields(Row, unsealed(old, "it"))) == repr(row)


@pytest.mark.parametrize("nan", [None, "NaN"])
def test_any_values_come_back(nan):
    values = {"a": [ODD, {"b": ODD}], "c": "x", "d": True}
    assert repr(numbers(strictly(json.dumps(strict(values, nan))), nan)) == repr(values)


def test_a_record_of_a_run_that_diverged_comes_back(record):
    seen = [{"steps": 2, "test": {"ce": math.nan}}]
    losses = [{name: math.nan for name in row} for row in record.losses]
    odd = dataclasses.replace(record, losses=losses, final={"ce": math.inf}, evaluations=seen)
    line = odd.to_json()
    strictly(line)
    assert repr(Record.from_json(line)) == repr(odd)


def test_a_snapshot_of_a_run_that_diverged_is_strict_and_comes_back(tmp_path):
    env = started(optimizer="sgd")
    env._episode.ledger.losses["train_ce"] = math.nan
    env.save(tmp_path / "s")
    strictly(read_tensors(tmp_path / "s")[1]["state"])
    _, info = env.load(tmp_path / "s")
    assert math.isnan(info["losses"]["train_ce"])
