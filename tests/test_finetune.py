"""A whole fine-tuning run: what it writes is true, and it survives being killed."""

import contextlib
import dataclasses
import json
import math
import multiprocessing
import random
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from support import make
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import asg_env.evaluation.run as run_module
from agents import reinforce
from asg_env.cli import parse_preset
from asg_env.deploy import load_student
from asg_env.envs import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.selection import SELECTIONS, EarlyStopping, Evaluation, FixedFraction
from asg_env.files import drop_leftovers, write_tensors
from asg_env.policies import load
from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    load_policy,
    save_policy,
)
from asg_env.reports.comparison import selection_rows, selection_table
from asg_env.tasks.objective import Hits
from asg_env.tasks.visda import read_visda
from experiments import finetune, replay
from experiments.finetune import Args

KWARGS = {"regularizer": "si", "batch_size": 160, "window": 4}  # an epoch is ten optimizer steps
TINY = Args(env_kwargs=KWARGS, epochs=2.7, policy="random", seed=3)
STEPS, EVALUATED = [0, 4, 8, 12, 16, 20, 24, 27], [0, 12, 20, 27]
WRITTEN = {
    *("args.json", "metrics.jsonl", "record.json", "run.png", "snapshot.safetensors"),
    *("student.safetensors", "summary.json", "summary.md", "tensorboard"),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A policy whose actions depend on what it remembers."""
    folder = tmp_path_factory.mktemp("policies") / "mine"
    network = RecurrentPolicy(PolicyArgs("paper", 1, 6), seed=0)
    with torch.no_grad():
        for head in network.heads:
            head[0].weight.mul_(300)
    save_policy(network, folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, learned):
    """Runs that nothing interrupted, by policy."""
    out = tmp_path_factory.mktemp("whole")
    runs = {
        "random": dataclasses.replace(TINY, out=out / "random", select="inner_valid"),
        "learned": dataclasses.replace(TINY, out=out / "x", policy=str(learned), actions="sampled"),
    }
    for args in runs.values():
        finetune.main(args)
    return runs


def rows_of(args):
    return [json.loads(line) for line in (args.out / "metrics.jsonl").read_text().splitlines()]


def same(first, second):
    """Whether two runs ended with the same bits."""
    files = ("student.safetensors", "record.json", "metrics.jsonl", "summary.json", "summary.md")
    return [n for n in files if (first.out / n).read_bytes() != (second.out / n).read_bytes()] == []


# -- what it writes --------------------------------------------------------------------------------


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


# -- killed and resumed ----------------------------------------------------------------------------


class Killed(BaseException):
    pass


def fragile(monkeypatch, calls, after):
    """Let the process die at the given write to the disk, just before or just after it."""
    left = [calls]

    def wrap(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            function(*args, **kwargs)
            if left[0] == 0:
                raise Killed

        return wrapped

    monkeypatch.setattr(run_module.Run, "_write_line", wrap(run_module.Run._write_line))
    monkeypatch.setattr(FinetuneEnv, "save", wrap(FinetuneEnv.save))
    monkeypatch.setattr(run_module, "save_student", wrap(run_module.save_student))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["random", "learned"])
def test_a_run_that_dies_around_any_write_ends_with_the_same_bits(
    whole, name, after, tmp_path, monkeypatch
):
    """The first life ends at the first write, the second at its second, and so on."""
    args = dataclasses.replace(whole[name], out=tmp_path)
    deaths = 0
    while not (tmp_path / "record.json").exists():
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            deaths += 1
            fragile(patch, deaths, after)
            finetune.main(args)
    assert deaths > 5
    assert same(whole[name], args)


def killed_and_resumed(args, kills, longest, seed):
    """The run, after SIGKILLs wherever they come."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.finetune", "torch.utils.tensorboard"])
    moments = random.Random(seed)
    for _ in range(kills):
        process = context.Process(target=finetune.main, args=(args,))
        process.start()
        until = time.monotonic() + 60
        while not (args.out / "metrics.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        process.join()
    finetune.main(args)
    return args


@pytest.mark.parametrize("save_every", [0, 3])
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(
    whole, learned, save_every, tmp_path
):
    args = dataclasses.replace(
        TINY, policy=str(learned), actions="sampled", out=tmp_path, save_every=save_every
    )
    assert same(whole["learned"], killed_and_resumed(args, 5, 0.3, save_every))


def test_the_papers_run_on_visda_files_is_killed_and_ends_with_the_same_bits(
    visda, retention_root, whole, tmp_path
):
    paper = finetune.parse(["--preset", "paper"])
    kwargs = {**paper.env_kwargs, **visda, "workers": 2, "retention_root": str(retention_root)}
    args = dataclasses.replace(paper, env_kwargs=kwargs, epochs=4, out=tmp_path / "whole")
    finetune.main(args)
    record = json.loads((args.out / "record.json").read_text())
    assert record["groups"] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc_new"]
    assert record["steps"] == [0, 3, 6, 9, 12]  # an epoch is 72 images in batches of 32
    assert set(record["final"]) == {"accuracy", "ce", "retention"}
    assert same(args, killed_and_resumed(dataclasses.replace(args, out=tmp_path / "k"), 3, 2, 0))
    model = load_student(args.out / "student.safetensors")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 12)
    assert model.facts["transform"]["size"] == 32
    files = read_visda(visda["data_root"])[1]
    with Image.open(files.root / files.paths[0]) as photo:
        image = model.preprocess(photo)
    assert torch.equal(image, make("ASG-VisDA-v0", **visda).problem.splits["test"].first(1).images)
    embedded = load_student(whole["random"].out / "student.safetensors")
    with pytest.raises(ValueError, match="not on pictures"):
        embedded.preprocess(Image.new("RGB", (8, 8)))


def test_tensorboard_has_each_moment_once(whole, tmp_path, monkeypatch):
    args = dataclasses.replace(whole["random"], out=tmp_path)
    for calls in (8, 6):
        with monkeypatch.context() as patch:
            fragile(patch, calls, after=False)
            with pytest.raises(Killed):
                finetune.main(args)
    finetune.main(args)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    curves = {name: [e.step for e in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert curves["losses/phi"] == STEPS
    assert curves["test/retention"] == curves["inner_valid/ce"] == EVALUATED
    for name in ("reward", "rewards/proxy_valid", "lr_scale/fc_new"):
        assert curves[name][-7:] == STEPS[1:]


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    mine, other = tmp_path / ".student.safetensors.abc_1234", tmp_path / ".student.safetensors.mine"
    for path in (mine, other):
        path.write_text("")
    drop_leftovers(tmp_path / "student.safetensors")
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("damage", ["snapshot", "metrics", "missing metrics", "policy"])
def test_a_folder_that_does_not_fit_is_refused(damage, tmp_path, learned):
    policy = tmp_path / "policy"
    save_policy(load_policy(learned), policy)
    args = dataclasses.replace(TINY, policy=str(policy), out=tmp_path / "run")
    finetune.main(args)
    if damage == "snapshot":
        (args.out / "snapshot.safetensors").write_bytes(b"nothing")
    elif damage == "metrics":
        lines = (args.out / "metrics.jsonl").read_text().splitlines(keepends=True)
        (args.out / "metrics.jsonl").write_text("".join(lines[:3]))
    elif damage == "missing metrics":
        (args.out / "metrics.jsonl").unlink()
    else:
        save_policy(RecurrentPolicy(PolicyArgs("paper", 1, 6), seed=1), policy)
    with pytest.raises(SystemExit, match="delete") as error:
        finetune.main(args)
    assert str(args.out) in str(error.value)


# -- rules -----------------------------------------------------------------------------------------


def evaluation(step, accuracy, ce, target):
    valid = {"accuracy": accuracy, "ce": ce}
    return Evaluation(step, step / 10, step / 100, valid, {"accuracy": target, "ce": 1.0})


NAN = math.nan
ROWS = [
    evaluation(0, 0.2, 1.6, 0.3),
    evaluation(10, 0.9, 0.5, 0.8),
    evaluation(20, 1.0, 0.3, 0.6),
    evaluation(30, 1.0, 0.1, 0.8),
    evaluation(40, 1.0, 0.1, 0.5),
    evaluation(50, NAN, NAN, NAN),
]


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("last", [0, 1, 2, 3, 4, 5]),
        ("inner_valid", [0, 1, 2, 3, 3, 3]),
        ("early_stopping", [0, 1, 2, 3, 3, 3]),
        ("half", [0, 1, 2, 3, 4, 5]),
        ("oracle", [0] + [1] * 5),
    ],
)
def test_rules_by_hand(rule, chosen):
    found = [SELECTIONS[rule].choose(ROWS[: i + 1]) for i in range(len(ROWS))]
    assert found == chosen


def test_early_stopping_gives_up_after_its_patience():
    values = (0.5, 0.6, 0.4, 0.4, 0.9, 0.3, 0.3, 0.3, 1.0)
    rows = [evaluation(10 * i, value, 1.0, 0.0) for i, value in enumerate(values)]
    assert [EarlyStopping(patience).choose(rows) for patience in (1, 2, 3, 4)] == [1, 1, 4, 8]
    assert [EarlyStopping(3).choose(rows[:n]) for n in (1, 4, 5)] == [0, 1, 4]
    with pytest.raises(ValueError, match="patience=0: expected >= 1"):
        EarlyStopping(0)


def test_a_fixed_fraction_is_the_first_evaluation_after_it():
    rows = [evaluation(20 * i, 0.5, 1.0, 0.0) for i in range(6)]
    assert [FixedFraction("x", share).choose(rows) for share in (0.1, 0.2, 0.5, 1.0)] == [
        1,
        1,
        3,
        5,
    ]
    assert FixedFraction("x", 0.5).choose(rows[:2]) == 1
    with pytest.raises(ValueError, match=r"share=0: expected a number in \(0, 1\]"):
        FixedFraction("x", 0)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_rule_never_goes_back_and_an_oracle_says_that_it_is_one(name):
    rule = SELECTIONS[name]
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.integers(0, 4, (6, 3)) / 3
        rows = [evaluation(10 * i, *row) for i, row in enumerate(values)]
        chosen = rule.choose(rows)
        assert rule.choose(rows[: chosen + 1]) == chosen
    assert (rule.name, rule.oracle) == (name, "oracle" in name)
    blind = [dataclasses.replace(row, test={}) for row in ROWS]
    if not rule.oracle:
        assert rule.choose(blind) == rule.choose(ROWS)


def test_the_table_of_rules_shows_what_was_not_measured_as_a_dash():
    lines = selection_table(selection_rows(ROWS, "last")).markdown().splitlines()
    assert lines[2] == "| last (saved) | 5.00 | 50 | - | - | - |"
    assert lines[3] == "| inner_valid | 3.00 | 30 | 80.0 | - | 100.0 |"
    assert "bound and not a result" in lines[-1]


# -- arguments -------------------------------------------------------------------------------------


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
