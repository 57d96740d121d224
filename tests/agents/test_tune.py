"""The search for a schedule: its episodes, its choice, its interruptions."""

import dataclasses
import json

import numpy as np
import pytest

from agents import tune
from asg_env.learning.run_folder import open_run
from asg_env.policies import load

SHORT = {"budget": 4, "window": 2}  # two decisions


TINY = tune.Args(family="small_backbone", env_kwargs=SHORT, episodes=12, repeats=2, finalists=2)


def test_a_search_plays_its_episodes_and_keeps_the_best(tmp_path):
    policy = tune.train(dataclasses.replace(TINY, out=tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    assert [len(row["returns"]) for row in rows] == [2, 2, 2, 3, 3]
    first, second = rows[:3], rows[3:]
    best = sorted(first, key=lambda r: -np.mean(r["returns"]))[:2]
    assert [r["parameters"] for r in second] == [r["parameters"] for r in best]
    assert not set(first[0]["seeds"]) & set(second[0]["seeds"])
    winner = max(second, key=lambda r: np.mean(r["returns"]))
    assert load(str(tmp_path)).parameters == policy.parameters == winner["parameters"]


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_search_resumes_where_it_was_cut(tmp_path, kept):
    whole = tune.train(dataclasses.replace(TINY, out=tmp_path / "whole"))
    lines = (tmp_path / "whole" / "search.jsonl").read_text().splitlines(keepends=True)
    cut = tmp_path / "cut"
    open_run(cut, dataclasses.asdict(dataclasses.replace(TINY, out=cut)))
    (cut / "search.jsonl").write_text("".join(lines[:kept]) + lines[kept][:20])
    again = tune.train(dataclasses.replace(TINY, out=cut))
    assert again == whole
    found = [json.loads(line) for line in (cut / "search.jsonl").read_text().splitlines()]
    for row, line in zip(found, lines, strict=True):
        assert row["returns"] == json.loads(line)["returns"]


def test_a_search_of_another_version_is_refused(tmp_path):
    tune.train(dataclasses.replace(TINY, out=tmp_path))
    path = tmp_path / "search.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["parameters"]["head"] = 0.123
    del rows[1]["checksum"]  # edited by hand, and meant
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit, match="candidate 2 has other parameters"):
        tune.train(dataclasses.replace(TINY, out=tmp_path))


def test_a_bad_search_writes_nothing(tmp_path):
    for change in ({"family": "x"}, {"episodes": 0}, {"env_kwargs": {"zzz": 1}}, {"variant": "x"}):
        with pytest.raises(SystemExit, match=r"family|episodes|zzz|variant"):
            tune.train(dataclasses.replace(TINY, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_a_rival_is_searched_on_a_hidden_learning_rate_and_loaded(tmp_path):
    args = dataclasses.replace(
        TINY, family="step_ratio", env="ASG-DigitsContext-v0", episodes=4, out=tmp_path
    )
    policy = tune.train(args)
    again = load(str(tmp_path))
    assert again == policy
    assert again.env_kwargs["action"] == "log_continuous"
    with pytest.raises(SystemExit, match="--env-kwargs observation: leave it out"):
        tune.train(dataclasses.replace(args, env_kwargs={"observation": "paper"}))
