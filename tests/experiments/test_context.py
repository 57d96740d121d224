"""The experiment with hidden and with wrong learning rates, tiny."""

import dataclasses
import json

import pytest

from asg_env.evaluation.records import read_records
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.reports.context import CEILING, FROZEN
from experiments import context


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    root = tmp_path_factory.mktemp("context")
    network = RecurrentPolicy(PolicyArgs("layerwise", 5, 6, heads="shared", skip=True))
    save_policy(network, root / "mine_0")
    return context.Args(
        policies=(str(root / "mine_0"),),
        families=("cosine", "step_ratio"),
        rivals=(),
        variant="train:0",
        test_variant="test:0",
        oracle_points=2,
        processes=1,
        out=root / "out",
        quick=True,
    )


def test_the_wrong_learning_rates_are_half_decades():
    assert context.ERRORS == (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)


def test_both_questions_are_answered_and_resumed_in_one_folder(args, monkeypatch):
    monkeypatch.setattr(context, "ERRORS", (-1.5, 1.0))
    text = context.main(args)
    names = ("mine", "tuned cosine", "tuned step_ratio", CEILING, FROZEN, "mine, shuffled")
    for name in names:
        assert f"| {name} | 1 |" in text
    found = list(read_records(args.out / "oracle.jsonl"))
    assert [r.context["base_lr"] for r in found] == pytest.approx([1e-3, 10.0] * 2)
    hidden = {r.context["base_lr"] for r in read_records(args.out / "records.jsonl")}
    assert len(hidden) == 2  # the hidden one, and that of the head alone
    before = {p: p.stat().st_mtime_ns for p in args.out.rglob("*.jsonl")}
    assert context.main(args) == text
    wrong = dataclasses.replace(args, question="regret")
    text = context.main(wrong)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "| regret | x0.0316 | x10 |" in text
    records = list(read_records(args.out / "error_+1.0.jsonl"))
    assert {r.context["base_lr"] for r in records if r.policy != FROZEN} == {1.0}
    rows = json.loads((args.out / "regret.json").read_text())["rows"]
    assert len(rows) == 2 * 7 * 4  # errors, quantities, agents
    for name in ("compare", "seeds", "regret"):
        assert (args.out / f"{name}.md").exists()
    assert all((args.out / f"{name}.png").exists() for name in ("compare", "regret"))


def test_an_id_without_a_context_of_its_own_gets_one_and_is_not_searched(args, tmp_path):
    where = context.find(dataclasses.replace(args, env="ASG-Digits-v0", decades=2.0), tmp_path)
    assert where.context["base_lr"][1:] == pytest.approx((0.01, 1.0))
    assert where.setup.kwargs["context"] == where.context
    with pytest.raises(SystemExit, match="no context of its own to search on"):
        context.search(args, where)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"families": ("x",)}, "family='x'"),
        ({"rivals": ("x",)}, "rival='x'"),
        ({"families": (), "schedules": ()}, "expected a schedule"),
        ({"families": (), "schedules": ("nothing",)}, "nothing"),
        ({"policies": ("nothing_0",)}, "no schedule and no file"),
        ({"env_kwargs": {"action": "log"}}, "--env-kwargs action: leave it out"),
        ({"env_kwargs": {"context": 1}}, "--env-kwargs context: leave it out"),
        ({"episodes": 0}, "--episodes 0"),
        ({"decades": 0.0}, "--decades 0"),
    ],
)
def test_a_wrong_argument_is_one_line(args, tmp_path, change, reason):
    with pytest.raises(SystemExit, match=reason):
        context.main(dataclasses.replace(args, out=tmp_path / "out", **change))
