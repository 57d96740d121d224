"""Data names no code without the caller's word."""

import dataclasses
import json
import sys

import pytest
from script_support import run_script
from support import DIGITS_ID, SMALL, started

from asg_env.deploy import load_student, save_student
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import play
from asg_env.evaluation.records import append_records
from asg_env.evaluation.replay import replay
from asg_env.files import read_tensors, write_tensors
from asg_env.policies import load
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.policies.schedules import SchedulePolicy
from asg_env.trust import check_arguments, check_module

SETUP = EnvSetup(DIGITS_ID, {"budget": 4, "window": 2, "action": "continuous"})
EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a file where it is, if it is ever imported."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("evil_module", None)


@pytest.mark.parametrize(
    "change",
    [
        {"env_id": "evil_module:X-v0"},
        {"kwargs": {**SETUP.kwargs, "reward": "evil_module:f"}},
        {"kwargs": {**SETUP.kwargs, "groups": "evil_module:f"}},
        {"kwargs": {**SETUP.kwargs, "model": "evil_module:f"}},
        {"kwargs": {**SETUP.kwargs, "context": {"optimizer": ["sgd", "evil_module:f"]}}},
        {"kwargs": {**SETUP.kwargs, "model": "asg_env.files:os.getcwd"}},
    ],
    ids=lambda change: str(change)[-40:],
)
def test_a_record_runs_no_code(change, evil, tmp_path):
    record = dataclasses.replace(play(SchedulePolicy("large"), SETUP, 0), **change)
    with pytest.raises(ValueError, match=r"runs code of the module .*--trust "):
        replay(record)
    append_records(tmp_path / "r.jsonl", [record])
    done = run_script("experiments/replay.py", tmp_path / "r.jsonl")
    assert done.returncode == 1
    assert "--trust " in done.stderr
    assert "Traceback" not in done.stderr
    assert "r.jsonl" in done.stderr
    assert not evil.exists()


def test_a_student_runs_no_code(evil, tmp_path):
    save_student(tmp_path / "s", started(), DIGITS_ID, dict(SMALL), {})
    tensors, metadata = read_tensors(tmp_path / "s")
    ((key, text),) = metadata.items()
    facts = json.loads(text) | {"model": "evil_module:f"}
    write_tensors(tmp_path / "s", tensors, {key: json.dumps(facts)})
    with pytest.raises(ValueError, match=r"model 'evil_module:f' runs code .*--trust evil_module"):
        load_student(tmp_path / "s")
    assert not evil.exists()
    with pytest.raises(ValueError, match="does not fit evil_module:f"):
        load_student(tmp_path / "s", trust=["evil_module"])
    assert evil.exists()


def test_a_policy_asks_for_no_code(tmp_path):
    save_policy(RecurrentPolicy(PolicyArgs("evil_module:f", 5, 6)), tmp_path)
    with pytest.raises(ValueError, match=r"policy\.json: env_kwargs: observation 'evil_module:f'"):
        load(tmp_path)
    assert load(tmp_path, trust=["evil_module"]).env_kwargs["observation"] == "evil_module:f"


@pytest.mark.parametrize("value", ["sgd", "resnet18", "asg_env.tasks.digits:make", "pkg.a:f"])
def test_what_may_be_named(value):
    check_module(value, "file: key", ["pkg"])


def test_texts_may_have_a_colon():
    kwargs = {"variant": "train:a", "device": "cuda:1", "data_root": "C:data", "budget": 3}
    check_arguments(kwargs, "file", ())
