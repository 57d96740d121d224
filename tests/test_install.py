"""A wheel in a fresh environment works from an empty folder, without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support import REPO

USE = """
import json, os, sys
import gymnasium, asg_env
arguments = json.loads(sys.argv[1])
assert asg_env.__file__.startswith(sys.prefix), asg_env.__file__
assert not os.listdir()
registered = {name for name in gymnasium.registry if name.startswith("ASG-")}
assert registered == set(arguments["ids"]), registered
for name, kwargs in arguments["ids"].items():
    env = gymnasium.make(name, **kwargs)
    env.reset(seed=0)
    env.step(env.action_space.sample())
for name in ("stable_baselines3", "tensorboard", "tyro", "pytest"):
    assert name not in sys.modules, f"making an environment imported {name}"

from pathlib import Path
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import compare, drawn
from asg_env.evaluation.play import play
from asg_env.evaluation.records import read_records
from asg_env.evaluation.replay import replay
from asg_env.policies import load
from asg_env.reports.comparison import comparison_rows, comparison_table

out = Path(arguments["out"])
setup = EnvSetup("ASG-Digits-v0", {"budget": 20, "window": 5, "threads": 1})
visda = EnvSetup("ASG-VisDA-v0", {**arguments["visda"], "budget": 4, "window": 2})
policies = {name: load(arguments[name]) for name in ("learned", "tuned", "sb3", "published")}
policies["schedule"] = load("small_backbone_cosine")
for name, policy in policies.items():
    where = visda if name == "published" else setup  # it knows ResNet's seven layer groups
    record = play(policy, where.updated(**policy.env_kwargs), 0)
    assert 0 <= record.final["accuracy"] <= 1, (name, record.final)
record = next(iter(read_records(Path(arguments["records"]))))
differ = replay(record)
assert not differ or arguments["other_machine"], differ
players = [load("cosine"), policies["learned"]]
compare(players, setup, drawn("test", [1, 2]), out / "records.jsonl", processes=1)
records = list(read_records(out / "records.jsonl"))
print(comparison_table(comparison_rows(records, "cosine"), "cosine", "").markdown())
"""


def call(*command: str | Path, cwd: Path, home: Path) -> str:
    """What a command prints, with nothing of this process's Python in its environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, "HOME": str(home), "PIP_NO_INDEX": "1", "PIP_NO_INPUT": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The distribution, built of what a checkout holds and nothing that lies beside it."""
    root = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, root / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(REPO / "asg_env", root / "asg_env", ignore=ignored)
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, root]
    call(sys.executable, *build, cwd=root, home=root)
    (path,) = root.glob("asg_env-*.whl")
    return path


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The Python of a new environment: the wheel, and the dependencies that are installed here."""
    root = tmp_path_factory.mktemp("fresh")
    call(sys.executable, "-m", "venv", "--without-pip", root / "venv", cwd=root, home=root)
    python = root / "venv" / "bin" / "python"
    site = Path(
        call(
            python, "-c", "import site; print(site.getsitepackages()[0])", cwd=root, home=root
        ).strip()
    )
    install = ["-m", "pip", "--python", python, "install", "--no-deps", wheel]
    call(sys.executable, *install, cwd=root, home=root)
    # a folder that a .pth file names is only appended: an editable install in it does not take part
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_the_package_and_its_weights_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"asg_env"}
    tracked = {
        str(path.relative_to(REPO))
        for path in (REPO / "asg_env").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked == {name for name in names if name.startswith("asg_env/")}
    assert sum(name.endswith(".safetensors") for name in names) > 1


def test_an_installed_package_does_everything_from_an_empty_folder(
    fresh, id_arguments, visda, tmp_path
):
    data, empty, out = REPO / "tests" / "data", tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    out.mkdir()
    shutil.copytree(data, tmp_path / "data")
    before = tmp_path / "data" / "before"
    about = json.loads((before / "snapshot_after.json").read_text())
    arguments = {
        "ids": id_arguments,
        "visda": visda,
        "learned": str(before / "reinforce"),
        "tuned": str(before / "tuned"),
        "sb3": str(before / "sb3"),
        "published": str(tmp_path / "data" / "official_policy.pth"),
        "records": str(before / "records.jsonl"),
        "out": str(out),
        "other_machine": not same_bits(about),
    }
    printed = call(fresh, "-c", USE, json.dumps(arguments), cwd=empty, home=tmp_path)
    assert "| cosine |" in printed
    assert "| reinforce |" in printed
    assert not list(empty.iterdir())


def same_bits(about):
    """Whether this machine is like the one that wrote the records."""
    import torch

    return about["torch"] == torch.__version__ and (
        about["cpu"] == torch.backends.cpu.get_cpu_capability()
    )
