"""Policies, kinds of policy folders and selection rules from outside the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import run_python

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import Entrant, compare, drawn
from asg_env.evaluation.records import read_records
from asg_env.evaluation.replay import replay
from asg_env.evaluation.run import Run
from asg_env.evaluation.selection import SELECTIONS, Last, Selection
from asg_env.policies import POLICY_KINDS, load
from asg_env.policies.base import Identity
from asg_env.policies.families import TunedPolicy
from asg_env.policies.loading import policy_kind
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.policies.schedules import SchedulePolicy

REPO = Path(__file__).resolve().parent.parent.parent
SMALL = EnvSetup("ASG-Digits-v0", {"budget": 4, "window": 2})
OUTSIDE = """
import json

import gymnasium
import numpy as np

from asg_env.evaluation.selection import Selection


gymnasium.register("Outsider-v0", entry_point="asg_env.envs.factories:make_digits")


class Half:
    name, env_kwargs = "half", {"action": "continuous"}

    def __init__(self, scale):
        self.scale, self.digest = scale, f"half-{scale}"

    def begin(self, group_names, observation_names, seed):
        self.groups = len(group_names)

    def act(self, observation):
        return np.full(self.groups, self.scale, np.float32)


def loader(path, greedy, name):
    policy = Half(json.loads((path / "policy.json").read_text())["scale"])
    policy.name = name
    return policy


def no_policy(path, greedy, name):
    return object()


class First(Selection):
    name = "first"

    def choose(self, rows):
        return 0
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with a module and a policy folder that is loaded by it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outsider.py").write_text(OUTSIDE)
    (folder / "mine").mkdir()
    about = {"kind": "outsider:loader", "scale": 0.5}
    (folder / "mine" / "policy.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def _importable(outside, monkeypatch):
    monkeypatch.syspath_prepend(outside)


def finetune(cwd, *words):
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPO / "experiments" / "finetune.py"), "--quick", *words]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.usefixtures("_importable")
def test_an_id_of_ones_own_is_compared_in_spawned_workers_and_replayed(tmp_path):
    setup = EnvSetup("outsider:Outsider-v0", SMALL.kwargs)
    path = tmp_path / "records.jsonl"
    (record,) = compare([SchedulePolicy("large")], setup, drawn(None, [0]), path, processes=1)
    assert record.env_id == "outsider:Outsider-v0"
    with pytest.raises(ValueError, match="env_id 'outsider:Outsider-v0' runs code"):
        replay(record)
    assert replay(record, trust=["outsider"]) == []


def refused(words, error, message):
    with pytest.raises(error, match=message):
        load(words)


# -- policies --------------------------------------------------------------------------------------


def test_a_policy_and_a_rule_of_ones_own_fine_tune_by_command(outside):
    words = (
        "--env",
        "outsider:Outsider-v0",
        "--policy",
        "mine",
        "--select",
        "outsider:First",
        "--out",
        "run",
    )
    done = finetune(outside, *words)
    assert done.returncode == 1
    assert "if you trust it, say so: --trust outsider" in done.stderr
    done = finetune(outside, *words, "--trust", "outsider")
    assert done.returncode == 0, done.stderr
    assert "| outsider:First (saved) | 0.00 | 0 |" in done.stdout
    record = json.loads((outside / "run" / "record.json").read_text())
    assert (record["policy"], record["policy_digest"]) == ("mine", "half-0.5")


@pytest.mark.usefixtures("_importable")
def test_a_policy_of_ones_own_is_compared_in_spawned_workers(outside, tmp_path):
    own = load(outside / "mine", trust=["outsider"])
    entrants = [Entrant(own, Identity("half", 3, 20)), SchedulePolicy("large")]
    path = tmp_path / "records.jsonl"
    records = compare(entrants, SMALL, drawn(None, [0]), path, processes=1)
    assert [r.policy for r in records] == ["half #3 @20", "large"]
    assert records[0].identity == Identity("half", 3, 20)
    assert records[0].lr_scales == [[0.5] * 6] * 2
    assert list(read_records(path)) == records
    assert replay(records[0]) == []
    assert compare(entrants, SMALL, drawn(None, [0]), path) == records


def test_what_is_no_policy_is_refused_with_what_is_missing(tmp_path):
    class NoPolicy:
        name, env_kwargs = "none", {}

        def begin(self, *_):
            pass

    for entrant in (NoPolicy(), Entrant(NoPolicy(), Identity("a"))):
        with pytest.raises(TypeError, match=r"NoPolicy.* lacks digest, act; a policy has name"):
            compare([entrant], SMALL, drawn(None, [0]), tmp_path / "r")
    with pytest.raises(TypeError, match="is a class: pass an object"):
        compare([TunedPolicy], SMALL, drawn(None, [0]), tmp_path / "r")


def test_a_policy_that_cannot_reach_a_worker_is_refused(tmp_path):
    class Local(SchedulePolicy):
        pass

    with pytest.raises(TypeError, match=r"'large' cannot be sent to a process .* top level"):
        compare([Local("large")], SMALL, drawn(None, [0]), tmp_path / "r")


# -- kinds -----------------------------------------------------------------------------------------


def test_every_kind_is_written_and_loaded_by_name(tmp_path):
    save_policy(RecurrentPolicy(PolicyArgs("layerwise", 5, 6)), tmp_path / "network")
    TunedPolicy("cosine", {"peak": 0.5}, 6, "tuned").save(tmp_path / "tuned" / "policy.json")
    (tmp_path / "fixed").mkdir()
    about = {"kind": "schedule", "schedule": "cosine"}
    (tmp_path / "fixed" / "policy.json").write_text(json.dumps(about))
    kinds = {"network": "recurrent", "tuned": "family", "fixed": "schedule"}
    assert {name: policy_kind(tmp_path / name) for name in kinds} == kinds
    assert [load(tmp_path / name).name for name in kinds] == list(kinds)
    assert load(tmp_path / "fixed").digest == load("cosine").digest


@pytest.mark.usefixtures("_importable")
def test_a_registered_kind_loads_and_a_bad_one_is_refused(outside, tmp_path, monkeypatch):
    from outsider import loader

    monkeypatch.setattr(POLICY_KINDS, "_things", dict(POLICY_KINDS))
    (tmp_path / "policy.json").write_text('{"kind": "half", "scale": 0.25}')
    refused(tmp_path, ValueError, r"policy.json: policy kind='half': expected one of recurrent")
    POLICY_KINDS.register("half", loader)
    assert load(tmp_path).scale == 0.25
    with pytest.raises(ValueError, match="policy kind 'half' is taken"):
        POLICY_KINDS.register("half", loader)
    with pytest.raises(TypeError, match="expected a function"):
        POLICY_KINDS.register("other", 3)


@pytest.mark.usefixtures("_importable")
def test_a_file_cannot_choose_code_without_the_callers_word(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{"kind": "outsider:no_policy"}')
    refused(tmp_path, ValueError, r"kind 'outsider:no_policy' runs code .* trust=\('outsider',\)")
    with pytest.raises(TypeError, match="lacks name, env_kwargs, digest, begin, act"):
        load(tmp_path, trust=["outsider"])
    path.write_text('{"kind": "outsider:nothing"}')
    with pytest.raises(ValueError, match="policy kind='outsider:nothing'"):
        load(tmp_path, trust=["outsider"])


def test_what_loads_policies_is_imported_when_it_is_asked_for():
    code = """
import sys
import asg_env.policies
assert "asg_env.policies.loading" not in sys.modules
from asg_env.policies import load
print(load("cosine").name, "stable_baselines3" in sys.modules)
"""
    assert run_python(code).split() == ["cosine", "False"]


# -- selection rules -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_importable")
def test_a_rule_is_a_name_an_attribute_an_object_or_a_class(tmp_path):
    from outsider import First

    env, policy = SMALL.make_unwrapped(), SchedulePolicy("large")
    rules = ["last", "outsider:First", First(), First]
    names = [Run(tmp_path, SMALL, env, policy, select=rule).selection.name for rule in rules]
    assert names == ["last", "first", "first", "first"]
    with pytest.raises(ValueError, match="select='nowhere': expected one of last, inner_valid"):
        Run(tmp_path, SMALL, env, policy, select="nowhere")
    with pytest.raises(TypeError, match="lacks name, oracle, choose"):
        Run(tmp_path, SMALL, env, policy, select=object())
    with pytest.raises(TypeError, match=r"lacks .*act"):
        Run(tmp_path, SMALL, env, object())


def test_a_registered_rule_is_known_by_name_and_a_taken_one_refused(monkeypatch):
    monkeypatch.setattr(SELECTIONS, "_things", dict(SELECTIONS))

    class Mine(Selection):
        name = "mine"

        def choose(self, rows):
            return 0

    assert SELECTIONS.register("mine", Mine()) is SELECTIONS.find("mine")
    with pytest.raises(ValueError, match="select 'last' is taken"):
        SELECTIONS.register("last", Last())
