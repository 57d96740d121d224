"""The benchmarks of speed: what they write, and that both sides do the same work."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from script_support import run_script

from asg_env.compute import Compute
from asg_env.data.files import read_class_folders
from asg_env.envs.finetune import FinetuneEnv
from asg_env.evaluation import official_way, timing
from asg_env.methods.base import TrainingSettings
from asg_env.training.optimizee import Optimizee
from experiments import bench_loader, bench_step


def test_bench_step_quick_writes_the_documented_keys(tmp_path):
    done = run_script("experiments/bench_step.py", "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench_step.json").read_text())
    assert list(written) == ["digits", "resnet18_64", "policy_lr", "resnet101_224", "workers"]
    assert written["policy_lr"]["vs_bare"] > 0
    assert "| policy_lr |" in done.stdout
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
    optimizee = Optimizee(u.problem, u.config.training(u.problem), 7, u.config.compute)
    bare = bench_step.BareLoop(u.problem, u.config.training(u.problem), 7)
    before = [p.detach().clone() for p in bare.params]
    for _ in range(2):
        optimizee.train_window(np.ones(len(u.group_names)), 10)
        bare.train_window(10)
    ours = dict(optimizee.student.named_parameters())
    theirs = dict(bare.student.named_parameters())
    for name, parameter in theirs.items():
        torch.testing.assert_close(parameter, ours[name], rtol=1e-4, atol=1e-5)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(before, bare.params, strict=True))


def test_the_loop_with_the_policy_does_the_bare_loops_work_and_decides_every_window():
    race = bench_step.PolicyRace(window=2, batch_size=2, decisions=4)
    for turn in range(3):
        assert list(race.round(turn)) == (["with", "bare"] if turn % 2 else ["bare", "with"])
    assert race.scheduler.decision == 4
    assert race.scheduler.last_epoch == 6
    for one, other in zip(*(net.parameters() for net in race.networks.values()), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_contestants_of_a_round_stay_together():
    race = bench_step.Race(gym.make("ASG-Digits-v0", budget=10, window=5), 0)
    for turn in range(5):  # the third and the fifth begin an episode
        assert set(race.round(turn)) == set(bench_step.CONTESTANTS)
        assert race.optimizee.order.position == race.loop.order.position
    assert race.seed == 3


def test_the_official_way_trains_as_the_optimizee_does():
    """Both are plain SGD on CE + lambda KL; only where the teacher's outputs come from differs."""
    sizes = dict.fromkeys(("train", "inner_valid", "outer_valid", "test"), 4)
    problem = timing.random_problem("resnet18", 32, sizes)
    settings = TrainingSettings(guidance=0.1, base_lr=1e-3, batch_size=2)
    optimizee = Optimizee(problem, settings, 3, Compute())
    official = official_way.OfficialWay(problem, settings, 3)
    optimizee.train_window(np.ones(len(problem.groups)), 3)
    official.train_window(3)
    ours = dict(optimizee.student.named_parameters())
    for name, parameter in official.student.named_parameters():
        torch.testing.assert_close(parameter, ours[name], rtol=1e-4, atol=1e-5)


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
    with pytest.raises((ValueError, SystemExit), match=next(iter(wrong))):
        bench_loader.main(bench_loader.Args(tmp_path, **wrong))
    assert not list(tmp_path.iterdir())
