"""One run on one task: what it writes, and which arguments it refuses."""

import dataclasses
import json

import gymnasium as gym
import pytest
import torch
from finetune_support import EVALUATED, KWARGS, NAN, STEPS, TINY, same
from safetensors import safe_open

import asg_env.evaluation.run as run_module
from agents import reinforce
from asg_env.cli import parse_preset
from asg_env.deploy import load_student
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.selection import SELECTIONS
from asg_env.files import write_tensors
from asg_env.policies import load
from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    save_policy,
)
from asg_env.tasks.objective import Hits
from experiments import finetune, replay
from experiments.finetune import Args

WRITTEN = {
    *("args.json", "metrics.jsonl", "record.json", "run.png", "snapshot.safetensors"),
    *("student.safetensors", "summary.json", "summary.md", "tensorboard"),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(args):
    return [json.loads(line) for line in (args.out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["random", "learned"])
def test_the_record_is_that_of_the_same_episode_played_directly(whole, name):
    args = whole[name]
    assert {path.name for path in args.out.iterdir()} == WRITTEN
    (record,) = replay.read_strictly(args.out / "record.json")
    policy = load(args.policy, finetune.GREEDY[args.actions])
    kwargs = {**KWARGS, "budget": 27, **policy.env_kwargs}
    direct = run_episode(
        gym.make(args.env, **kwargs), policy, EnvSetup(args.env, kwargs), args.seed
    )
    assert record == direct
    assert record.steps == STEPS
    assert record.policy == {"random": "random", "learned": "mine_sampled"}[name]


def test_the_rows_are_what_the_environment_says(whole):
    args = whole["random"]
    policy = load("random")
    env = gym.make(args.env, **KWARGS, budget=27, **policy.env_kwargs).unwrapped
    observation, info = env.reset(seed=args.seed)
    policy.begin(env.group_names, env.observation_names, args.seed)
    for row, steps in zip(rows_of(args), STEPS, strict=True):
        assert (row["steps"], row["epoch"], row["losses"]) == (steps, steps / 10, info["losses"])
        assert row["observation"] == observation.tolist()
        expected = {s: env.evaluate(s) for s in ("inner_valid", "test")}
        assert row["evaluation"] == (expected if steps in EVALUATED else None)
        assert row["similarity"] == (env.similarity() if steps in EVALUATED else None)
        if steps < STEPS[-1]:
            observation, *_, info = env.step(policy.act(observation))


def test_the_summary_names_what_each_rule_would_keep(whole):
    args = whole["random"]
    rows = [row for row in rows_of(args) if row["evaluation"]]
    summary = json.loads((args.out / "summary.json").read_text())
    assert [r["name"] for r in summary["rows"][::3]] == list(SELECTIONS)
    for cell in summary["rows"]:
        (row,) = (r for r in rows if r["steps"] == cell["steps"])
        split = "inner_valid" if cell["metric"].startswith("inner") else "test"
        assert cell["mean"] == row["evaluation"][split][cell["metric"].removeprefix(f"{split}_")]
        assert cell["selected"] == (cell["name"] == "inner_valid")
    best = max(row["evaluation"]["test"]["accuracy"] for row in rows)
    oracle = summary["rows"][3 * list(SELECTIONS).index("oracle")]
    assert oracle["mean"] == best
    text = (args.out / "summary.md").read_text()
    assert "fonts -> UCI" in text
    assert "| inner_valid (saved) |" in text
    assert f"| oracle | {oracle['epoch']:.2f} |" in text
    assert (args.out / "run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rule", SELECTIONS)
def test_the_student_predicts_as_well_as_reported(rule, tmp_path, capsys):
    args = dataclasses.replace(
        TINY, out=tmp_path, select=rule, env_kwargs={**KWARGS, "guidance": 0}
    )
    finetune.main(args)
    assert ("target" in capsys.readouterr().err) == SELECTIONS[rule].oracle
    (cell,) = (
        r
        for r in json.loads((tmp_path / "summary.json").read_text())["rows"]
        if r["selected"] and r["metric"] == "accuracy"
    )
    model = load_student(tmp_path / "student.safetensors")
    env = gym.make("ASG-Digits-v0").unwrapped
    data = env.problem.splits["test"]
    with torch.inference_mode():
        found = model(data.images).argmax(1)
    hits = Hits(5)
    hits.update(found, data.labels)
    assert hits.macro() == cell["mean"]
    assert (model.classes, model.training) == (("5", "6", "7", "8", "9"), False)
    assert (model.facts["rule"], model.facts["steps"]) == (rule, cell["steps"])
    with safe_open(str(tmp_path / "student.safetensors"), "pt") as file:
        kinds = {name.partition(".")[0] for name in file.keys()}  # noqa: SIM118
    assert kinds == {"backbone", "fc_old", "fc_new"}


def test_a_drawn_variant_is_noted_with_the_student(tmp_path):
    kwargs = {**KWARGS, "variant": "test"}
    finetune.main(dataclasses.replace(TINY, out=tmp_path, env_kwargs=kwargs, epochs=0.4))
    model = load_student(tmp_path / "student.safetensors")
    env = gym.make("ASG-Digits-v0", **kwargs).unwrapped
    _, info = env.reset(seed=TINY.seed)
    assert model.facts["kwargs"]["variant"] == info["variant"]
    assert model.classes == env.problem.classes


def test_a_file_that_is_no_student_is_refused(tmp_path, whole):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_student(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is no student"):
        load_student(whole["random"].out / "snapshot.safetensors")
    student = whole["random"].out / "student.safetensors"
    with safe_open(str(student), "pt") as file:
        write_tensors(tmp_path / "other", {"backbone.x": torch.ones(2)}, file.metadata())
    with pytest.raises(ValueError, match="does not fit asg_env"):
        load_student(tmp_path / "other")


def test_a_diverged_run_says_so(tmp_path, capsys):
    args = dataclasses.replace(
        *(TINY,), out=tmp_path, policy="large", env_kwargs={**KWARGS, "base_lr": 1e30}
    )
    finetune.main(args)
    assert "diverged at step" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["error_type"] == "diverged"
    first = (tmp_path / "record.json").read_text()
    finetune.main(args)  # resuming what has ended changes nothing
    assert (tmp_path / "record.json").read_text() == first


def test_a_schedule_decides_the_first_of_the_papers_windows_too(tmp_path):
    kwargs = {"batch_size": 80, "window": "paper"}
    finetune.main(dataclasses.replace(TINY, out=tmp_path, env_kwargs=kwargs, epochs=2))
    rows = rows_of(dataclasses.replace(TINY, out=tmp_path))
    assert [row["steps"] for row in rows if row["evaluation"]] == [0, 20, 40]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "smal_backbone"}, "no schedule and no file; the schedules are random, large"),
        ({"policy": ""}, "no schedule and no file"),
        ({"env": "ASG-Digit-v0"}, "doesn't exist.*Known: ASG-Digits-v0"),
        ({"env": "nowhere:ASG-Digits-v0"}, "No module named 'nowhere'"),
        ({"env": "CartPole-v1"}, "--env CartPole-v1"),
        ({"env_kwargs": {"gidance": 1}}, "'gidance'.*did you mean 'guidance'.*known: variant"),
        ({"env_kwargs": {"guidance": -1}}, "guidance=-1: expected a number in"),
        ({"env_kwargs": {"action": "discrete"}}, "action discrete: .* needs 'continuous'; leave"),
        ({"env_kwargs": {"budget": 20}}, "--epochs None leaves it to budget"),
        ({"epochs": 0.0}, "expected one step at least"),
        ({"epochs": NAN}, "expected one step at least"),
        ({"select": "best"}, "expected one of last, inner_valid, early_stopping, half, oracle"),
        ({"seed": -1}, "--seed -1: expected a whole number >= 0"),
        ({"save_every": -1}, "--save-every -1"),
    ],
    ids=str,
)
def test_a_bad_argument_is_one_line_and_writes_nothing(change, message, tmp_path):
    args = dataclasses.replace(TINY, **{"out": tmp_path / "run", **change})
    with pytest.raises(SystemExit, match=message) as error:
        finetune.main(args)
    assert "\n" not in str(error.value)
    assert not args.out.exists()


def test_a_folder_without_a_policy_is_refused(tmp_path):
    args = dataclasses.replace(TINY, policy=str(tmp_path), out=tmp_path / "run")
    with pytest.raises(SystemExit, match="--policy: no policy file") as error:
        finetune.main(args)
    assert str(tmp_path) in str(error.value)


def test_a_policy_for_another_number_of_groups_is_refused(tmp_path):
    save_policy(RecurrentPolicy(PolicyArgs("paper", 1, 7)), tmp_path / "seven")
    args = dataclasses.replace(TINY, policy=str(tmp_path / "seven"), out=tmp_path / "run")
    with pytest.raises(SystemExit, match=r"'seven' has one head for each of 7 .* has 6"):
        finetune.main(args)
    assert not args.out.exists()


def test_another_run_or_an_unwritable_folder_is_refused(whole, tmp_path):
    args = whole["random"]
    with pytest.raises(SystemExit, match="holds a run with seed=3, not 4: choose another --out"):
        finetune.main(dataclasses.replace(args, seed=4))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit, match="cannot be written"):
        finetune.main(dataclasses.replace(args, out=tmp_path / "file" / "run"))


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(whole, tmp_path, monkeypatch):
    args = dataclasses.replace(whole["random"], out=tmp_path)

    def no_space(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_student", no_space)
        with pytest.raises(SystemExit, match="no space left; the same command resumes"):
            finetune.main(args)
    finetune.main(args)
    assert same(whole["random"], args)


def test_greedy_and_sampled(learned):
    assert load(str(learned)).name == "mine"
    sampled = load(str(learned / "policy.safetensors"), greedy=False)
    assert isinstance(sampled, LearnedPolicy)
    assert (sampled.name, sampled.greedy) == ("policy_sampled", False)


def test_presets_keep_their_env_kwargs_beside_those_given():
    assert finetune.parse([]) == Args()
    paper = finetune.parse(
        ["--preset", "paper", "--env-kwargs", "guidance", "0.2", "device", "cpu"]
    )
    assert (paper.env, paper.epochs) == ("ASG-VisDA-v0", 30)
    assert paper.env_kwargs == {
        **{"window": "paper", "optimizer": "official_sgd", "batch_size": 32, "base_lr": 1e-4},
        **{"guidance": 0.2, "device": "cpu"},
    }
    other = parse_preset(reinforce.PRESETS, ["--preset=paper", "--env-kwargs", "budget", "100"])
    assert other.env_kwargs == {"window": "paper", "optimizer": "official_sgd", "budget": 100}


def test_quick_is_four_decisions_whatever_the_preset_says(tmp_path):
    words = ["--preset", "paper", "--env", "ASG-Digits-v0", "--quick", "--out", str(tmp_path)]
    finetune.main(finetune.parse(words))
    (record,) = replay.read_strictly(tmp_path / "record.json")
    assert record.steps == [0, 5, 10, 15, 20]
    assert record.kwargs["optimizer"] == "official_sgd"
