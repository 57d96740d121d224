"""Every script answers --help; replaying and benchmarking do what they say."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from asg_env.compute import Compute
from asg_env.data.files import read_class_folders
from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.records import append_records
from asg_env.policies.schedules import SchedulePolicy
from asg_env.training.optimizee import Optimizee, OptimizeeSettings
from experiments import bench_loader, bench_official, bench_parts, bench_step, replay

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("agents", "experiments")
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text()
)
KWARGS = {"budget": 10, "window": 5, "action": "continuous"}


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def records():
    env = gym.make("ASG-Digits-v0", **KWARGS)
    policies = [SchedulePolicy("large"), SchedulePolicy("random")]
    return [run_episode(env, p, EnvSetup("ASG-Digits-v0", KWARGS), 3) for p in policies]


def replayed(path, **chosen):
    """The number of records that do not match."""
    return replay.main(replay.Args(path, **chosen))


# -- every script ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


# -- replay ----------------------------------------------------------------------------------------


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


# -- bench_step ------------------------------------------------------------------------------------


def test_bench_step_quick_writes_the_documented_keys(tmp_path):
    done = run_script("experiments/bench_step.py", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench_step.json").read_text())
    assert list(written) == ["digits", "resnet18_64", "resnet101_224", "workers"]
    for name in ("digits", "resnet18_64"):
        assert all(written[name][key] > 0 for key in ("vs_same_work", "vs_bare"))
    official = written["resnet101_224"]
    assert set(official["vs_official_way"]) == {"fp32", "bf16"}
    for ratios in (official["vs_official_way"], official["details"]["times_faster"]):
        assert all(0 < ratio < np.inf for ratio in ratios.values())
    for effect in official["details"]["bf16_effect"].values():
        assert np.isfinite(list(effect.values())).all()
    assert official["details"]["bf16_effect"]["start"]["kl"] == pytest.approx(0, abs=1e-6)
    assert official["details"]["bf16_effect"]["trained"]["kl"] > 1e-6
    assert set(written["workers"]) == {"1", "2"}
    assert done.stdout.strip() == (tmp_path / "bench_step.md").read_text().strip()


def test_the_bare_loop_trains_as_the_optimizee_does():
    """Else the ratio would compare two different things."""
    u = gym.make("ASG-Digits-v0", device="cpu").unwrapped
    assert isinstance(u, FinetuneEnv)
    optimizee = Optimizee(u.problem, u.config.optimizee, 7, u.compute)
    bare = bench_step.BareLoop(u.problem, u.config.optimizee, 7)
    before = [p.detach().clone() for p in bare.params]
    for _ in range(2):
        optimizee.train_window(np.ones(len(u.group_names)), 10)
        bare.train_window(10)
    ours = dict(optimizee.student.named_parameters())
    theirs = dict(bare.student.named_parameters())
    for name, parameter in theirs.items():
        torch.testing.assert_close(parameter, ours[name], rtol=1e-4, atol=1e-5)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(before, bare.params, strict=True))


def test_the_contestants_of_a_round_stay_together():
    race = bench_step.Race(gym.make("ASG-Digits-v0", budget=10, window=5), 0)
    for turn in range(5):  # the third and the fifth begin an episode
        assert set(race.round(turn)) == set(bench_step.CONTESTANTS)
        assert race.optimizee.order.position == race.loop.order.position
    assert race.seed == 3


def test_the_official_way_trains_as_the_optimizee_does():
    """Both are plain SGD on CE + lambda KL; only where the teacher's outputs come from differs."""
    sizes = dict.fromkeys(("train", "inner_valid", "outer_valid", "test"), 4)
    problem = bench_parts.random_problem("resnet18", 32, sizes)
    settings = OptimizeeSettings(guidance=0.1, base_lr=1e-3, batch_size=2)
    optimizee = Optimizee(problem, settings, 3, Compute())
    official = bench_official.OfficialWay(problem, settings, 3)
    optimizee.train_window(np.ones(len(problem.groups)), 3)
    official.train_window(3)
    ours = dict(optimizee.student.named_parameters())
    for name, parameter in official.student.named_parameters():
        torch.testing.assert_close(parameter, ours[name], rtol=1e-4, atol=1e-5)


# -- bench_loader ----------------------------------------------------------------------------------


def test_bench_loader_quick_writes_every_row(tmp_path):
    done = run_script("experiments/bench_loader.py", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench_loader.json").read_text())
    assert list(written) == [*bench_loader.ROWS, "setup"]
    for name in bench_loader.ROWS:
        assert 0 < written[name]["images_per_second"] < np.inf
        assert 0 < written[name]["vs_dataloader"] < np.inf
    assert written["setup"]["largest_difference"] <= bench_loader.TOLERANCE
    assert done.stdout.strip() == (tmp_path / "bench_loader.md").read_text().strip()


def test_bench_loader_stops_if_the_images_differ(tmp_path):
    args = bench_loader.Args(images=12, workers=1, batch_size=6, device="cpu")
    bench_loader.write_images(tmp_path / "one", 12)
    files = read_class_folders(tmp_path / "one")
    plain = bench_loader.Plain(tmp_path / "one", args)
    ours = bench_loader.Ours(files.subset(np.arange(12)[::-1]), args, "none")
    with pytest.raises(SystemExit, match="differ"):
        bench_loader.check_same(plain, ours)


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"images": 3}, {"device": "gpu"}], ids=str)
def test_bench_loader_names_a_wrong_argument(wrong, tmp_path):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bench_loader.main(bench_loader.Args(tmp_path, **wrong))
    assert not list(tmp_path.iterdir())
