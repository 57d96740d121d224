"""A policy on another task, with another number of groups."""

import dataclasses
import json

import pytest

from asg_env.policies.families import TunedPolicy
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.reports.trainings import Candidate
from experiments import transfer


def test_a_policy_plays_on_another_task_with_another_number_of_groups(tmp_path):
    network = RecurrentPolicy(PolicyArgs("layerwise", 5, 6, heads="shared", skip=True))
    save_policy(network, tmp_path / "reinforce_3")
    tuned = TunedPolicy("constant_vector", {"scales": [0.1] * 6 + [1.0]}, 7, "mine")
    tuned.save(tmp_path / "tuned_constant_vector_0" / "policy.json")
    args = transfer.Args(
        policies=(str(tmp_path / "reinforce_3"),),
        opponents=(str(tmp_path / "tuned_constant_vector_0"), "small_backbone"),
        quick=True,
        processes=1,
        out=tmp_path / "out",
    )
    text = transfer.main(args)
    for name in ("transferred reinforce", "tuned_constant_vector", "small_backbone"):
        assert f"| {name} | 1 |" in text
    assert transfer.main(args) == text
    bad = (
        ({"policies": ("nothing_0",)}, "no schedule and no file"),
        ({"policies": (str(tmp_path / "reinforce_3"),) * 2}, "expected each once"),
        ({"env_kwargs": {"action": "discrete"}}, "--env-kwargs action: leave it out"),
        ({"eval_seeds": 0}, "--eval-seeds 0"),
    )
    for change, reason in bad:
        with pytest.raises(SystemExit, match=reason):
            transfer.main(dataclasses.replace(args, **change))


def test_transfers_reference_is_the_opponent_whose_search_scored_best(tmp_path):
    for name, value in (("one_0", 1.0), ("two_0", 1.5), ("two_1", 0.9)):
        (tmp_path / name).mkdir()
        line = Candidate(2, {}, seeds=[0], returns=[value], optimizer_steps=4, seconds=1.0)
        (tmp_path / name / "search.jsonl").write_text(json.dumps(dataclasses.asdict(line)) + "\n")
        TunedPolicy("constant", {"peak": 0.1}, 7, "mine").save(tmp_path / name / "policy.json")
    paths = [str(tmp_path / name) for name in ("one_0", "two_0", "two_1")]
    assert transfer.reference_of(paths) == "two"
    assert transfer.reference_of(["large"]) == "large"
