"""The benchmark runs, resumes and reports."""

import dataclasses
import json
from collections import Counter

import pytest

from asg_env.evaluation.commands import Command
from asg_env.evaluation.compare import Episode
from asg_env.policies.base import Identity
from asg_env.reports.trainings import training_folder
from experiments import benchmark


def test_the_benchmark_runs_resumes_and_reports(tmp_path, monkeypatch, capsys):
    agents = ("reinforce", "ppo", "tuned constant", "random")
    args = benchmark.Args(agents=agents, quick=True, out=tmp_path, processes=1)
    text = benchmark.main(args)
    assert all(f"| {name} |" in text for name in agents)
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {row["name"] for row in rows} == set(agents)
    assert {row["metric"] for row in rows} == {"return", "accuracy", "retention"}
    assert all(row["training_optimizer_steps"] in (64, None) for row in rows)
    assert {r["name"] for r in rows if r["difference"] is None} == {"tuned constant"}  # reference
    plots = ("intervals.png", "pairs.png", "curves.png")
    for name in (*plots, "pairs.md", "pairs.json", "reached.md", "reached.json"):
        assert (tmp_path / name).stat().st_size > 0
    snapshots = {path.name for path in (tmp_path / "agents" / "ppo_0" / "snapshots").iterdir()}
    assert len([name for name in snapshots if name.endswith(".safetensors")]) == 2
    for name in ("reinforce_0", "ppo_0"):
        lines = (tmp_path / "agents" / name / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert (last["episodes"], last["env_steps"], last["optimizer_steps"]) == (16, 32, 64)

    def forbidden(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(Command, "start", forbidden)
    before = (tmp_path / "records.jsonl").read_bytes()
    assert benchmark.main(args) == text
    assert benchmark.main(dataclasses.replace(args, report=True)) == text
    assert (tmp_path / "records.jsonl").read_bytes() == before
    bad = (
        ({"agents": ("x",)}, "known: reinforce"),
        ({"agents": ()}, "at least one"),
        ({"episodes": 24}, "multiple of 16"),
        ({"eval_seeds": 0}, "--eval-seeds 0: expected >= 1"),
        ({"snapshots": -1}, "--snapshots -1"),
        ({"env_kwargs": {"variant": "train"}}, "--env-kwargs variant: leave it out"),
        ({"env_kwargs": {"base_lr": 0.5}}, "holds a run with env_kwargs"),
        ({"agents": ("td3",), "report": True}, "no complete agent"),
    )
    for change, reason in bad:
        with pytest.raises(SystemExit, match=reason):
            benchmark.main(dataclasses.replace(args, **change))


def test_a_report_leaves_out_what_is_not_complete(tmp_path, record, capsys):
    names = [("a #0", 1), ("a #0", 2), ("b #0", 1)]
    lines = [
        dataclasses.replace(record, policy=n, agent=n[0], training_seed=0, reset_seed=s).to_json()
        + "\n"
        for n, s in names
    ]
    (tmp_path / "r").write_text("".join(lines))
    episodes = [Episode(None, 1), Episode(None, 2)]
    found = benchmark.complete(tmp_path / "r", [Identity(n, 0) for n in "abc"], episodes)
    assert [(r.policy, r.reset_seed) for r in found] == names[:2]
    assert "left out: b #0, c #0" in capsys.readouterr().out


def test_the_reference_is_chosen_by_its_searches_and_gets_as_many_trainings(tmp_path):
    args = benchmark.Args(agents=("ppo", "tuned constant", "tuned cosine"), seeds=3, search_seeds=2)
    for name, seed, value in (
        *(("tuned constant", 0, 1.0), ("tuned constant", 1, 1.2)),
        *(("tuned cosine", 0, 1.5), ("tuned cosine", 1, 0.3)),
    ):
        folder = training_folder(tmp_path, name, seed)
        folder.mkdir(parents=True)
        about = {"parameters": {}, "seeds": [0], "optimizer_steps": 4, "seconds": 1.0}
        rows = [{"half": 1, "returns": [9.0], **about}, {"half": 2, "returns": [value], **about}]
        (folder / "search.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (folder / benchmark.DONE).touch()
    assert benchmark.reference_of(args, tmp_path) == "tuned constant"  # 1.1 against .9
    named = dataclasses.replace(args, reference="ppo")
    assert benchmark.reference_of(named, tmp_path) == "ppo"
    counts = Counter(name for name, _ in benchmark.trainings(args, "tuned constant"))
    assert counts == {"ppo": 3, "tuned constant": 3, "tuned cosine": 2}
