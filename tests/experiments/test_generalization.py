"""The generalization table: rows as data, figures from records alone."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.records import Record, read_records
from asg_env.evaluation.replay import replay
from asg_env.reports.comparison import by_policy
from asg_env.reports.generalization import (
    generalization_table,
    rules_rows,
    table_rows,
    values_of,
    why_rows,
)
from asg_env.reports.generalization_rows import (
    NO_WARMUP,
    ROWS,
    candidate_name,
    candidates,
    played,
)
from experiments import generalization
from experiments.generalization import Args, main, phi, player, search

ACCURACY = {"large LR": (0.2, 0.4), "large LR + guidance": (0.5, 0.6)}


PLAYED = played(ROWS)


SETUP = EnvSetup("ASG-Digits-v0", {"reward_guidance": 0.3})


def look(steps: int, accuracy: float, valid: float = 0.5) -> dict:
    similarity = {"distance": {"a": 2.0 * accuracy}, "cka": {"a": 0.9}}
    test = {"accuracy": accuracy, "retention": 0.5}
    inner_valid = {"accuracy": valid, "ce": 1.0, "kl": 0.5}
    return {"steps": steps, "inner_valid": inner_valid, "test": test, "similarity": similarity}


def record(name: str, seed: int, looks: list[dict] | None = None) -> Record:
    accuracy = ACCURACY.get(name, (0.1, 0.1))[seed]
    return Record(
        *(name, "ASG-Digits-v0", {}, seed, ["a"], [[1.0]], [0.0], [[1.0]], [0, 4]),
        *({"accuracy": accuracy, "retention": 0.5}, True, False, None, "cpu", 1),
        evaluations=looks or [look(0, 0.0, 0.1), look(4, accuracy)],
    )


RECORDS = [record(row.name, seed) for row in PLAYED for seed in (0, 1)]


def test_means_and_gains_by_hand():
    entries = table_rows(RECORDS, ROWS, {"SI": 0.1})
    cells = {(e["name"], e["metric"]): e for e in entries}
    guided = cells["large LR + guidance", "accuracy"]
    assert guided["mean"] == pytest.approx(0.55)
    assert guided["gain"] == pytest.approx(0.25)  # (.3 + .2) / 2
    half = 12.706 * 0.1 / 2  # t(1) x the standard error of two gains .1 apart
    assert guided["gain_ci95"] == pytest.approx([0.25 - half, 0.25 + half], abs=1e-4)
    assert guided["cited"] == 58.7
    assert cells["large LR", "accuracy"]["gain"] is None
    assert (cells["SI", "accuracy"]["coefficient"], guided["coefficient"]) == (0.1, None)
    assert not any(e["edge"] or e["diverged"] for e in entries)
    assert cells["ASG, the same runs", "accuracy"]["against"] == NO_WARMUP
    assert cells["ASG, the same runs", "accuracy"]["mean"] == cells["ASG", "accuracy"]["mean"]


def test_an_edge_and_a_divergence_are_shown():
    records = [*RECORDS[1:], dataclasses.replace(RECORDS[0], error_type="diverged")]
    entries = table_rows(records, ROWS, {"SI": 1.39e4, "large LR + guidance": 0.0579})
    text = generalization_table(entries, "digits").markdown()
    assert "| SI | 13900 (edge) |" in text
    assert "| large LR + guidance | 0.0579 |" in text
    assert "diverged: 1 of 2 (large LR), 1 of 2 (large LR, early stopping)" in text


def test_a_fraction_is_one_of_the_budget_and_not_of_what_a_diverged_run_reached():
    looks = [look(k, 0.1 * k) for k in (0, 1, 2)]  # of 4 steps
    early = dataclasses.replace(record("large LR", 0, looks), steps=[0, 2], error_type="diverged")
    runs = by_policy([early, *RECORDS[1:]])
    large = next(row for row in ROWS if row.name == "large LR")
    assert values_of(runs, large, "accuracy", "half")[0] == pytest.approx(0.2)


def test_a_search_of_nothing_but_divergences_says_what_to_do(monkeypatch, tmp_path):
    def compare(policies, *rest):
        broken = dataclasses.replace(record("x", 0), error_type="diverged")
        return [dataclasses.replace(broken, policy=policy.name) for policy in policies]

    monkeypatch.setattr(generalization, "compare", compare)
    with pytest.raises(
        SystemExit, match=r"large LR \+ guidance: every candidate diverged.*base_lr"
    ):
        search(Args(), [row for row in ROWS if row.schedule], None, SETUP, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("variant", "test:0"), ("temperature", 4.0)])
def test_arguments_that_the_rows_set_are_refused(name, value, tmp_path):
    with pytest.raises(SystemExit, match=name):
        main(Args(env_kwargs={name: value}, out=tmp_path, quick=True))


def test_early_stopping_reads_the_runs_of_its_row():
    looks = [look(k, a, v) for k, (a, v) in enumerate([(0.2, 0.1), (0.8, 0.9), *[(0.4, 0.5)] * 3])]
    records = [record(row.name, seed, looks) for row in PLAYED for seed in (0, 1)]
    cells = {(e["name"], e["metric"]): e["mean"] for e in table_rows(records, ROWS, {})}
    assert cells["large LR", "accuracy"] == pytest.approx(0.4)
    assert cells["large LR, early stopping", "accuracy"] == pytest.approx(0.8)
    rules = {(e["name"], e["rule"], e["metric"]): e for e in rules_rows(records, PLAYED)}
    assert rules["SI", "last", "accuracy"]["mean"] == pytest.approx(0.4)
    assert rules["SI", "half", "accuracy"]["mean"] == pytest.approx(0.4)  # step 2 of 4
    assert rules["SI", "oracle", "accuracy"]["mean"] == pytest.approx(0.8)
    assert {e["rule"] for e in rules.values() if e["oracle"]} == {"oracle"}


def test_what_moved_is_that_of_the_end():
    found = {(e["name"], e["metric"], e["group"]): e["mean"] for e in why_rows(RECORDS, PLAYED)}
    assert found["large LR", "distance", "a"] == pytest.approx(0.6)
    assert found["large LR", "cka", "a"] == pytest.approx(0.9)


def test_rows_differ_from_their_partners_in_one_thing():
    rows = {row.name: row for row in ROWS}
    for row in ROWS:
        if row.against and row.schedule:
            partner = rows[row.against]
            if partner.coefficient is None:
                assert (row.schedule, partner.kwargs) == (partner.schedule, {"guidance": 0.0})
            else:  # in the schedule alone
                assert row.schedule != partner.schedule
                assert row[2:] == (partner.kwargs, None, partner.name, *partner[5:])
        assert row.coefficient in (None, "guidance", "regularizer_strength")
        assert (row.coefficient == "regularizer_strength") == ("regularizer" in row.kwargs)
    assert rows["ASG"].against == "small backbone LR + guidance"


def test_the_search_takes_the_lowest_phi_on_inner_valid(monkeypatch, tmp_path):
    rows = [row for row in ROWS if row.schedule]
    args = Args(candidates=4, search_seeds=2)
    wanted = {row.name: candidates(row, 4)[k % 4] for k, row in enumerate(rows) if row.coefficient}

    def compare(policies, setup, episodes, path, processes, play):
        assert {e.seed for e in episodes} == {500_000, 500_001}
        names = {candidate_name(row, wanted[row.name]) for row in rows if row.coefficient}
        made = []
        for policy in policies:
            ce = 1.0 if policy.name in names else 1.5
            seen = look(4, 0.5)
            seen["inner_valid"]["ce"] = ce
            made.append(dataclasses.replace(record("x", 0, [seen]), policy=policy.name))
        return made

    monkeypatch.setattr(generalization, "compare", compare)
    assert search(args, rows, None, SETUP, tmp_path) == wanted


def test_phi_weighs_the_kl_and_a_divergence_is_the_worst():
    one = record("x", 0)
    assert phi(one, 0.3) == pytest.approx(1.0 + 0.3 * 0.5)
    assert phi(dataclasses.replace(one, error_type="diverged"), 0.3) == math.inf


def test_candidates_span_the_range_and_reach_the_environment():
    row = next(row for row in ROWS if row.name == "MAS")
    values = candidates(row, 6)
    assert values == pytest.approx([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])
    kwargs = player(row, None, values[2], "MAS").env_kwargs
    assert kwargs["regularizer"] == "mas"
    assert (kwargs["guidance"], kwargs["regularizer_strength"]) == (0.0, pytest.approx(0.1))


def test_a_quick_run_writes_everything_and_resumes(tmp_path, monkeypatch):
    args = Args(out=tmp_path, quick=True, processes=1)
    text = main(args)
    assert all(f"| {row.name} |" in text for row in ROWS)
    records = list(read_records(tmp_path / "records.jsonl"))
    assert len(records) == 2 * len(PLAYED)
    by_name = {r.policy: r for r in records}
    assert by_name["large LR"].kwargs["guidance"] == 0
    assert by_name["SI"].kwargs["regularizer"] == "si"
    assert {r.kwargs["reward_guidance"] for r in records} == {0.3}
    assert [e["steps"] for e in by_name["ASG"].evaluations] == [0, 2, 4]
    assert replay(by_name["SI"]) == []
    searched = list(read_records(tmp_path / "search.jsonl"))
    assert len(searched) == 2 * sum(row.coefficient is not None for row in ROWS)
    assert replay(searched[0]) == []
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {r["name"] for r in rows} == {row.name for row in ROWS}
    for name in ("table.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "oracle reads the target's labels" in (tmp_path / "rules.md").read_text()
    assert "| cka | conv1 |" in (tmp_path / "why.md").read_text()
    monkeypatch.setattr(generalization, "compare", _only_what_is_there(generalization.compare))
    assert main(dataclasses.replace(args, processes=2)) == text


def test_the_real_visda_runs_through_with_resnet18(tmp_path, visda, visda_root):
    kwargs = {k: v for k, v in visda.items() if k != "data_root"}
    args = Args(
        task="visda", env_kwargs=kwargs, data_root=str(visda_root), out=tmp_path, quick=True
    )
    assert kwargs["model"] == "resnet18"
    text = main(dataclasses.replace(args, processes=1))
    assert all(f"| {row.name} |" in text for row in ROWS)
    assert "visda: VisDA-17" in text
    records = list(read_records(tmp_path / "records.jsonl"))
    assert {"cka", "distance"} == set(records[0].evaluations[-1]["similarity"])
    assert records[0].groups[-2:] == ["layer4", "fc_new"]


def _only_what_is_there(compare):
    def checked(policies, setup, episodes, path, processes, play):
        before = path.read_bytes()
        records = compare(policies, setup, episodes, path, processes, play)
        assert path.read_bytes() == before
        return records

    return checked


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy": "nothing"}, "--policy: 'nothing' is no schedule and no file"),
        ({"env_kwargs": {"guidance": 1.0}}, "--env-kwargs guidance: leave it out"),
        ({"candidates": 0}, "--candidates 0: expected >= 1"),
        ({"env_kwargs": {"base_lr": -1.0}}, "base_lr=-1.0"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, change, reason):
    with pytest.raises(SystemExit, match=reason):
        main(dataclasses.replace(Args(out=tmp_path / "out", quick=True), **change))
    assert not (tmp_path / "out").exists()
