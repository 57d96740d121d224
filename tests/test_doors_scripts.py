"""Every script's command line takes a stranger's things, from a folder outside the repository."""

import os
import subprocess
import sys

import pytest
from doors_support import write_doors
from support import REPO

REWARD = ["reward", "my_doors:REWARD"]
OWN = [*REWARD, "regularizer", "my_doors:Shrink"]
SMALL = ["budget", "4", "window", "2"]
AGENTS = {
    "reinforce": "--updates 1 --num-envs 2 --workers none --compare none",
    "sb3": "--episodes 2 --num-envs 2 --workers none --eval-every 0 --compare none",
    "tune": "--episodes 2 --repeats 1 --finalists 1",
}
TUNE = f"mine={sys.executable} {REPO / 'agents' / 'tune.py'} --repeats 1 --finalists 1"
EXPERIMENTS = {
    "finetune": (OWN, []),
    "reward_validity": (OWN, ["--policies", "2", "--processes", "1"]),
    "generalization": (REWARD, ["--processes", "1"]),
    "benchmark": (OWN, ["--agents", "random", TUNE, "--processes", "1"]),
}


def script(folder, name, *words):
    """Run a script in the folder, as a user who installed the package."""
    done = subprocess.run(
        [sys.executable, str(REPO / name), *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def own(*pairs):
    return ["--env", "my_doors:My-v0", "--env-kwargs", *pairs]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_doors(tmp_path_factory.mktemp("mine"))


def train(folder, agent):
    out = ["--out", f"runs/{agent}_0"]
    return script(folder, f"agents/{agent}.py", *own(*OWN, *SMALL), *AGENTS[agent].split(), *out)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_takes_them(folder, experiment):
    pairs, words = EXPERIMENTS[experiment]
    name = f"experiments/{experiment}.py"
    script(folder, name, *own(*pairs), "--quick", "--out", f"runs/{experiment}", *words)
    assert list((folder / "runs" / experiment).rglob("records*.jsonl")) or experiment == "finetune"


def test_an_agent_of_sb3_takes_them(folder):
    train(folder, "sb3")
    assert (folder / "runs" / "sb3_0" / "policy.json").exists()


def test_agents_take_them_and_what_they_leave_is_transferred_and_replayed(folder):
    for agent in ("reinforce", "tune"):
        train(folder, agent)
    policies = ["--policies", "runs/reinforce_0", "--opponents", "runs/tune_0"]
    out = ["--eval-seeds", "1", "--out", "runs/transfer"]
    script(folder, "experiments/transfer.py", *own(*OWN), "--quick", *policies, *out)
    told = script(
        *(folder, "experiments/replay.py", "runs/transfer/records.jsonl"),
        *("--quick", "--trust", "my_doors"),
    )
    assert "2 of 2 records match" in told
