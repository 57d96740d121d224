"""Files that were written before the rebuild open, and go on as they did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from asg_env.deploy import load_student
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import play
from asg_env.evaluation.records import Record, read_records
from asg_env.evaluation.replay import replay
from asg_env.policies import load
from asg_env.policies.base import Identity
from asg_env.seeding import cpu_threads

BEFORE = Path(__file__).resolve().parent.parent / "data" / "before"
RECORDS = list(read_records(BEFORE / "records.jsonl"))
AFTER = json.loads((BEFORE / "snapshot_after.json").read_text())
NEW = {"versions", "policy", "agent", "training_seed", "update"}  # names are given by compare
same_machine = (
    torch.__version__ == AFTER["torch"] and torch.backends.cpu.get_cpu_capability() == AFTER["cpu"]
)
exactly = pytest.mark.skipif(
    not same_machine, reason="bits depend on the version of PyTorch and the kind of CPU"
)


def named(agent: str) -> Record:
    return next(r for r in RECORDS if r.agent == agent)


def test_labels_of_older_records_become_fields():
    assert [r.identity for r in RECORDS] == [
        Identity("random"),
        Identity("reinforce", 0),
        Identity("reinforce", 0, 2),
        Identity("tuned_constant_vector", 1),
        Identity("a2c", 0),
        Identity("small_backbone_cosine"),
    ]
    assert [r.identity.label for r in RECORDS] == [r.policy for r in RECORDS]
    for record in RECORDS:
        assert Record.from_json(record.to_json()) == record


@exactly
@pytest.mark.parametrize("index", range(len(RECORDS)))
def test_older_records_replay_bit_for_bit(index):
    assert replay(RECORDS[index]) == []


@pytest.mark.parametrize(
    ("policy", "agent"),
    [("reinforce", "reinforce"), ("tuned", "tuned_constant_vector"), ("sb3", "a2c")],
)
def test_older_policy_folders_play_as_they_did(policy, agent):
    record = named(agent)
    own = load(BEFORE / policy)
    again = play(own, EnvSetup(record.env_id, record.kwargs), record.reset_seed)
    assert own.digest == record.policy_digest
    assert set(own.env_kwargs.items()) <= set(record.kwargs.items())
    if same_machine:
        was, now = vars(record), vars(again)
        assert {k: now[k] for k in now if k not in NEW} == {k: was[k] for k in was if k not in NEW}
    np.testing.assert_allclose(again.rewards, record.rewards, atol=0.05)


def test_an_older_snapshot_goes_on_as_it_did():
    setup = EnvSetup(
        "ASG-Digits-v0", {"budget": 20, "window": 5, "threads": 1, "action": "discrete"}
    )
    env = setup.make_unwrapped()
    env.load(BEFORE / "snapshot.safetensors")
    found = []
    for frame in AFTER["frames"]:
        action = np.asarray(frame["action"])
        observation, reward, *_, info = env.step(action)
        found.append(
            {
                "action": frame["action"],
                "observation": observation.tolist(),
                "reward": float(reward),
                "losses": info["losses"],
            }
        )
    if same_machine:
        assert found == AFTER["frames"]
        assert env.evaluate("test") == AFTER["final"]
    rewards = [[frame["reward"] for frame in frames] for frames in (found, AFTER["frames"])]
    np.testing.assert_allclose(*rewards, atol=0.05)


def test_an_older_student_predicts_as_it_did():
    model, record = load_student(BEFORE / "student.safetensors"), RECORDS[-1]
    assert model.facts["rule"] == "last"
    env = EnvSetup(model.facts["env"], model.facts["kwargs"]).make_unwrapped()
    env.reset(seed=0)
    data = env.problem.splits["test"]
    with torch.inference_mode(), cpu_threads(1):
        right = model(data.images).argmax(1) == data.labels
    by_class = [right[data.labels == k].float().mean().item() for k in range(len(model.classes))]
    assert model.classes == env.problem.classes
    assert np.mean(by_class) == pytest.approx(record.final["accuracy"], abs=0.01)
