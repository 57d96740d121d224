"""Replaying records by command: what matches, what does not, and what is refused."""

import dataclasses
import json

import gymnasium as gym
import pytest
from script_support import run_script

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.records import append_records
from asg_env.policies.schedules import SchedulePolicy
from experiments import replay

KWARGS = {"budget": 10, "window": 5, "action": "continuous"}


@pytest.fixture(scope="module")
def records():
    env = gym.make("ASG-Digits-v0", **KWARGS)
    policies = [SchedulePolicy("large"), SchedulePolicy("random")]
    return [run_episode(env, p, EnvSetup("ASG-Digits-v0", KWARGS), 3) for p in policies]


def replayed(path, **chosen):
    """The number of records that do not match."""
    return replay.main(replay.Args(path, **chosen))


def test_a_fresh_record_matches(records, tmp_path, capsys):
    append_records(tmp_path / "records.jsonl", records)
    assert replayed(tmp_path / "records.jsonl") == 0
    assert "2 of 2 records match" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"reset_seed": 4},
        {"rewards": [0.5, 0.25]},
        {"final": {"accuracy": 1.0}},
        {"actions": [[1.0] * 6]},
        {"actions": [[1.0] * 6] * 3},
        {"actions": [[1.0] * 5] * 2},
        {"kwargs": {**KWARGS, "base_lr": 0.05}},
        {"kwargs": {**KWARGS, "base_learning_rate": 0.1}},
        {"env_id": "ASG-Nowhere-v0"},
    ],
    ids=lambda change: "-".join(change),
)
def test_a_tampered_record_does_not_match(records, change, tmp_path, capsys):
    tampered = dataclasses.replace(records[1], **change)
    append_records(tmp_path / "records.jsonl", [records[0], tampered])
    assert replayed(tmp_path / "records.jsonl", index=-1) == 1
    assert "does NOT match" in capsys.readouterr().out


def test_exit_codes_and_choices(records, tmp_path):
    path = tmp_path / "records.jsonl"
    append_records(path, [records[0], dataclasses.replace(records[1], rewards=[0.0, 0.0])])
    assert run_script("experiments/replay.py", path).returncode == 1
    done = run_script("experiments/replay.py", path, "--policy", "large")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 records match" in done.stdout


def test_quick_takes_one_record_of_each_policy(records, tmp_path):
    arguments = replay.Args(tmp_path / "any", quick=True)
    assert list(replay.choose([*records, *records], arguments)) == [0, 1]


def test_a_file_with_one_record_on_many_lines(records, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(records[0].to_json()), indent=1))
    assert replay.read_strictly(path) == [records[0]]


def test_a_line_cut_by_a_crash_is_left_out_aloud(records, tmp_path, capsys):
    path = tmp_path / "records.jsonl"
    path.write_text(records[0].to_json() + "\n" + records[1].to_json()[:100])
    assert replay.read_strictly(path) == [records[0]]
    assert "line 2 is cut short" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "holds no record"),
        (b"\n\n", "holds no record"),
        (b"{}\n", "line 1: not a record"),
        (b'{"policy": "x"', "line 1: not a record"),
        (b"[1, 2]\n", "line 1: not a record"),
        (b"\x80\x04\x95\xff\n", "no text file"),
    ],
)
def test_a_file_without_records_is_an_error(content, message, tmp_path):
    path = tmp_path / "records.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=message) as error:
        replayed(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"index": 2}, "holds 2 records"), ({"policy": "lrage"}, "there are large, random")],
)
def test_an_unknown_choice_is_an_error(records, chosen, message, tmp_path):
    append_records(tmp_path / "records.jsonl", records)
    with pytest.raises(SystemExit, match=message):
        replayed(tmp_path / "records.jsonl", **chosen)


@pytest.mark.parametrize("what", ["cpu", "torch"])
def test_elsewhere_rounding_may_differ_and_decisions_may_not(records, what, tmp_path, capsys):
    elsewhere = {**records[1].versions, what: "another"}
    rounded = dataclasses.replace(records[1], versions=elsewhere, rewards=[0.5, 0.25])
    shorter = dataclasses.replace(rounded, actions=rounded.actions[:1])
    losses = [{k: 2 * v for k, v in row.items()} for row in rounded.losses]
    other = dataclasses.replace(rounded, losses=losses)
    append_records(tmp_path / "records.jsonl", [rounded, shorter, other])
    assert [replayed(tmp_path / "records.jsonl", index=k) for k in range(3)] == [0, 1, 1]
    printed = capsys.readouterr().out
    assert "losses before training within 1%: it was made with torch" in printed
    assert "phi before training: recorded" in printed
    assert "bit for bit" not in printed


def test_the_same_machine_compares_bits(records, tmp_path, capsys):
    append_records(tmp_path / "records.jsonl", records[:1])
    assert replayed(tmp_path / "records.jsonl") == 0
    assert "matches (bit for bit)" in capsys.readouterr().out
