"""The generalization table: rows as data, figures from records alone."""

from __future__ import annotations

import dataclasses
import json

import pytest

from asg_env.records import Record, read_records
from experiments import generalization
from experiments.generalization import ROWS, Args, main, policies, table_rows

ACCURACY = {"large LR": (0.2, 0.4), "large LR + guidance": (0.5, 0.6)}


def record(name: str, seed: int) -> Record:
    accuracy = ACCURACY.get(name, (0.1, 0.1))[seed]
    return Record(
        *(name, "ASG-Digits-v0", {}, seed, ["a"], [[1.0]], [0.0], [[1.0]], [0, 1]),
        *({"accuracy": accuracy, "retention": 0.5}, True, False, None, "cpu", 1),
    )


def test_means_and_gains_by_hand():
    entries = table_rows([record(row.name, seed) for row in ROWS for seed in (0, 1)])
    cells = {(e["name"], e["metric"]): e for e in entries}
    guided = cells["large LR + guidance", "accuracy"]
    assert guided["mean"] == pytest.approx(0.55)
    assert guided["gain"] == pytest.approx(0.25)  # (.3 + .2) / 2
    half = 12.706 * 0.1 / 2  # t(1) x the standard error of two gains .1 apart
    assert guided["gain_ci95"] == pytest.approx([0.25 - half, 0.25 + half], abs=1e-4)
    assert cells["large LR", "accuracy"]["gain"] is None


def test_every_guided_row_has_its_partner_without_guidance_and_differs_in_nothing_else():
    rows = {row.name: (row, policy) for row, policy in zip(ROWS, policies(), strict=True)}
    for row, policy in rows.values():
        assert row.guided == ("guidance" not in policy.env_kwargs)
        if row.against:
            partner, other = rows[row.against]
            assert (partner.schedule, partner.guided) == (row.schedule, False)
            assert other.env_kwargs == {**policy.env_kwargs, "guidance": 0.0}


def test_a_quick_run_writes_everything_and_resumes(tmp_path, monkeypatch):
    args = Args(out=tmp_path, quick=True, processes=1)
    text = main(args)
    assert all(row.name in text for row in ROWS)
    records = list(read_records(tmp_path / "records.jsonl"))
    assert len(records) == 2 * len(ROWS)
    by_name = {r.policy: r.kwargs for r in records}
    assert by_name["large LR"]["guidance"] == 0
    assert "guidance" not in by_name["large LR + guidance"]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {r["name"] for r in rows} == {row.name for row in ROWS}
    assert (tmp_path / "table.png").stat().st_size > 1000
    monkeypatch.setattr(generalization, "compare", _only_what_is_there(generalization.compare))
    assert main(dataclasses.replace(args, processes=2)) == text


def _only_what_is_there(compare):
    def checked(policies, env_id, kwargs, episodes, path, processes):
        before = path.read_bytes()
        records = compare(policies, env_id, kwargs, episodes, path, processes)
        assert path.read_bytes() == before
        return records

    return checked
