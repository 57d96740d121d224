"""Records: any argument that the environment takes is noted, or refused before the first step;
those of other settings or other data never get into one table."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from support import make

from asg_env.arguments import json_arguments
from asg_env.deploy import load_student, save_student
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import Episode, check_one_problem, compare, drawn, spread
from asg_env.evaluation.play import play, run_episode
from asg_env.evaluation.records import Record, append_records
from asg_env.evaluation.replay import replay
from asg_env.evaluation.run import Run
from asg_env.policies.families import TunedPolicy
from asg_env.policies.recurrent import LearnedPolicy, PolicyArgs, RecurrentPolicy
from asg_env.policies.schedules import SchedulePolicy

DIGITS = "ASG-Digits-v0"


SMALL = {"budget": 10, "window": 5, "action": "continuous"}


FOLDERS = "ASG-ImageFolder-v0"


POLICY = SchedulePolicy("random")


def own_groups(network):
    return {"stem": ["conv1", "bn1"], "body": ["layer1", "layer2", "layer3"]}


def no_step(*_, **__):
    pytest.fail("a step was taken")


def test_arguments_become_json_values():
    given = {
        **{"budget": np.int64(3), "lr": np.float32(0.5), "flag": np.bool_(True), "none": None},
        **{"root": Path("a/b"), "groups": {"a": ("x", "y")}, "inf": float("inf")},
        "function": own_groups,
    }
    noted = json_arguments(given)
    assert noted == {
        **{"budget": 3, "lr": 0.5, "flag": True, "none": None, "root": "a/b"},
        **{"groups": {"a": ["x", "y"]}, "inf": float("inf")},
        "function": f"{__name__}:own_groups",
    }
    assert json.loads(json.dumps(noted)) == noted
    assert [type(noted[name]) for name in ("budget", "lr", "flag")] == [int, float, bool]


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, np.zeros(2), {1: "a"}, torch.zeros(1), functools.partial(int)]
)
def test_what_json_lacks_is_named(value):
    with pytest.raises(TypeError, match=r"^groups=.* cannot be noted"):
        json_arguments({"budget": 3, "groups": value})


def test_a_record_of_such_arguments_replays(folders):
    kwargs = {**folders, **SMALL, "budget": np.int64(10), "groups": own_groups}
    kwargs["source_root"] = Path(folders["source_root"])
    record = run_episode(gym.make(FOLDERS, **kwargs), POLICY, EnvSetup(FOLDERS, kwargs), seed=1)
    again = Record.from_json(record.to_json())
    assert again == record
    assert again.kwargs["groups"] == f"{__name__}:own_groups"
    with pytest.raises(ValueError, match=f"groups '{__name__}:own_groups' .*--trust {__name__}"):
        replay(again)
    assert replay(again, trust=[__name__]) == []


def test_a_student_of_such_arguments_is_written(folders, tmp_path):
    kwargs = {**folders, **SMALL, "budget": np.int64(10), "groups": own_groups}
    kwargs["source_root"] = Path(folders["source_root"])
    env = gym.make(FOLDERS, **kwargs).unwrapped
    env.reset(seed=0)
    save_student(tmp_path / "student", env, FOLDERS, kwargs, {})
    noted = load_student(tmp_path / "student").facts["kwargs"]
    assert noted == json_arguments(kwargs)


@pytest.mark.parametrize("kind", ["lambda", "local"])
def test_groups_that_no_record_can_note_are_refused_before_the_first_step(
    kind, folders, tmp_path, monkeypatch
):
    def local(network):
        return own_groups(network)

    groups = {"lambda": lambda network: own_groups(network), "local": local}[kind]
    kwargs = {**folders, **SMALL, "groups": groups}
    env = gym.make(FOLDERS, **kwargs)
    monkeypatch.setattr(type(env.unwrapped), "reset", no_step)
    with pytest.raises(ValueError, match="pass groups='module:attribute'"):
        run_episode(env, POLICY, EnvSetup(FOLDERS, kwargs), seed=0)
    with pytest.raises(ValueError, match="pass groups='module:attribute'"):
        Run(tmp_path, EnvSetup(FOLDERS, kwargs), env.unwrapped, POLICY).train()
    assert not list(tmp_path.iterdir())


POLICIES = [SchedulePolicy("large"), SchedulePolicy("random")]


def played(env_id, kwargs, variant, path):
    """Records of two policies and two seeds, in a file."""
    records = [
        play(p, EnvSetup(env_id, kwargs).updated(**p.env_kwargs, variant=variant), seed)
        for p in POLICIES
        for seed in (0, 1)
    ]
    append_records(path, records)
    return records


def resumed(env_id, kwargs, variant, path):
    return compare(POLICIES, EnvSetup(env_id, kwargs), drawn(variant, [0, 1]), path, processes=1)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return played(DIGITS, SMALL, "test", tmp_path_factory.mktemp("records") / "records.jsonl")


def test_records_name_their_data_and_fit_the_variants_that_are_drawn(records, tmp_path):
    assert records[0].dataset == "fonts -> UCI handwritten digits"
    assert records[0].problem == records[2].problem != records[1].problem
    append_records(tmp_path / "r", records)
    assert resumed(DIGITS, SMALL, "test", tmp_path / "r") == records


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"env_id": "ASG-VisDA-v0"}, "env_id was 'ASG-VisDA-v0', is 'ASG-Digits-v0'"),
        ({"kwargs": {**SMALL, "variant": "test", "base_lr": 0.5}}, "base_lr was 0.5, is None"),
        ({"kwargs": {**SMALL, "variant": None}}, "variant was None, is 'test'"),
        ({"problem": "abc"}, "the images or the network are others: choose"),
        ({"problem": ""}, "are others .an older version, which did not note them"),
        ({"policy_digest": "abc"}, "the policy is another one now"),
    ],
    ids=lambda change: "-".join(change) if isinstance(change, dict) else "",
)
def test_a_record_of_another_run_is_refused(records, change, reason, tmp_path):
    changed = dataclasses.replace(records[3], **change)
    append_records(tmp_path / "r", [*records[:3], changed])
    with pytest.raises(SystemExit, match=reason) as error:
        resumed(DIGITS, SMALL, "test", tmp_path / "r")
    message = str(error.value)
    assert "policy 'random', seed 1" in message
    assert f"choose another --out, or delete {tmp_path / 'r'}" in message


def test_every_kind_of_policy_has_a_digest_of_what_it_is():
    network = RecurrentPolicy(PolicyArgs("layerwise", 5, 6, heads="shared", skip=True))
    greedy, sampled = LearnedPolicy(network, True), LearnedPolicy(network, False)
    tuned = [TunedPolicy("constant", {"peak": peak}, 6, "tuned") for peak in (0.1, 0.2)]
    digests = [p.digest for p in (*POLICIES, greedy, sampled, *tuned)]
    assert len(set(digests)) == 6
    assert all(len(d) == 16 for d in digests)
    assert LearnedPolicy(network, True, "another name").digest == greedy.digest
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert greedy.digest != digests[2]


def test_a_name_or_a_seed_can_be_played_once_only(tmp_path):
    for policies, seeds in (([POLICIES[0]] * 2, [0]), (POLICIES, [1, 1])):
        with pytest.raises(ValueError, match="expected each once"):
            compare(policies, EnvSetup(DIGITS, SMALL), drawn("test", seeds), tmp_path / "r")


def test_episodes_are_spread_evenly_over_the_variants():
    task = make().task
    names = task.variants("test")
    episodes = spread(task, "test", 100, len(names) + 1)
    assert [e.variant for e in episodes] == [*names, *names]
    assert [e.seed for e in episodes] == list(range(100, 100 + 2 * len(names)))
    assert spread(task, None, 5, 2) == [Episode(None, 5), Episode(None, 6)]


def test_other_images_in_the_same_folders_are_refused(folders, tmp_path):
    root = shutil.copytree(folders["source_root"], tmp_path / "synthetic")
    kwargs = {**folders, **SMALL, "source_root": str(root)}
    played(FOLDERS, kwargs, None, tmp_path / "r")
    assert len(resumed(FOLDERS, kwargs, None, tmp_path / "r")) == 4
    (root / "star" / "3.png").unlink()
    with pytest.raises(SystemExit, match="images or the network are others"):
        resumed(FOLDERS, kwargs, None, tmp_path / "r")


def test_images_that_change_between_two_episodes_of_a_seed_are_noticed(records, tmp_path):
    check_one_problem(records, tmp_path)
    changed = dataclasses.replace(records[2], problem=records[1].problem)
    with pytest.raises(SystemExit, match=r"'random', seed 0.* not those of policy 'large'"):
        check_one_problem([*records[:2], changed], tmp_path)


def test_replay_reports_other_data_but_not_what_an_older_version_left_out(records):
    other = dataclasses.replace(records[0], dataset="cats", problem="abc")
    assert [line.partition(":")[0] for line in replay(other)] == ["dataset", "problem"]
    fields = json.loads(records[0].to_json())
    del fields["dataset"], fields["problem"], fields["policy_digest"], fields["checksum"]
    assert replay(Record.from_json(json.dumps(fields))) == []
