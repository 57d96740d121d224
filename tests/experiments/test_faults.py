"""The campaign of faults finds nothing, and would find something."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from asg_env.envs.finetune import FinetuneEnv
from asg_env.evaluation import random_calls
from asg_env.evaluation.endings import contents, judged
from asg_env.evaluation.processes import End
from asg_env.evaluation.tally import FINE, HANG, LEFT, SILENT, TRACEBACK, Hang, Tally, in_time
from experiments import faults


def test_a_quick_campaign_is_fine(tmp_path, capsys):
    args = faults.Args(kinds=("calls", "lines", "writers"), out=tmp_path, quick=True)
    assert faults.main(args) == 0, capsys.readouterr().out
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert [(row["kind"], row["tried"], row["fine"]) for row in rows] == [
        ("calls of an environment", 60, 60),
        ("command lines", 60, 60),
        ("two writers of a folder", 1, 1),
    ]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["faults.json", "faults.md"]


def test_what_is_counted_already_is_not_tried_again(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        faults, "random_lines", lambda count, seed, folder, tally: tried.append(count)
    )
    for lines in (5, 5, 6):
        faults.main(faults.Args(kinds=("lines",), lines=lines, out=tmp_path))
    faults.main(faults.Args(kinds=("lines",), lines=6, seed=1, out=tmp_path))
    assert tried == [5, 6, 6]


def calls(folder):
    tally = Tally()
    random_calls.random_calls(40, 0, folder, tally, random_calls.DIGITS[:1])
    return tally


def test_other_bits_and_other_errors_are_found(tmp_path, monkeypatch):
    step = FinetuneEnv.step

    def drifting(self, action):
        observation, *rest = step(self, action)
        return observation + np.float32(np.random.random() * 1e-6), *rest

    def wordless(self, path):
        raise KeyError(path)

    assert calls(tmp_path).row()["fine"] == 40
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneEnv, "step", drifting)
        assert calls(tmp_path).counts[SILENT]
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneEnv, "save", wordless)
        assert calls(tmp_path).counts[TRACEBACK]


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [(ValueError("x"), FINE), (ValueError(" "), TRACEBACK), (Hang(), HANG), (None, FINE)],
)
def test_how_a_call_ends(raised, outcome):
    def call():
        if raised is not None:
            raise raised

    assert random_calls.outcome_of(call)[0] == outcome


def test_what_takes_too_long_is_a_hang():
    with pytest.raises(Hang), in_time(0.05):
        time.sleep(5)


def test_folders_are_compared_without_what_varies(tmp_path):
    def write(name, **fields):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(json.dumps(fields) + "\n")
        return tmp_path / name

    first = write("first", value=1, seconds=2.0)
    again, other = write("again", value=1, seconds=3.0), write("other", value=2)
    expected = contents(first)
    assert judged(End(0, 1.0, [], []), again, expected) == (FINE, "")
    assert judged(End(0, 1.0, [], []), other, expected) == (SILENT, "other a.jsonl")
    assert judged(End(0, 1.0, [], [".lock"]), again, expected) == (LEFT, ".lock")
    assert judged(End(1, 1.0, ["oh"], []), again, expected) == (TRACEBACK, "oh")


def test_an_unknown_script_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="--scripts"):
        faults.main(faults.Args(scripts=("zzz",), out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
