"""Command lines: words become Python values, and a run that cannot start writes nothing."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from support import REPO

from agents import reinforce, sb3, tune
from asg_env.cli import read_arguments, read_value, run
from asg_env.interrupts import SIGNALS
from asg_env.learning import ending
from asg_env.locks import InUse
from asg_env.policies.schedules import COMPARED
from asg_env.workers import WorkerDied
from experiments import check_images, finetune, generalization

WORDS = "channels_last True flip_average false groups NONE base_lr 1e-3 budget 7 model resnet18"


VALUES = {
    **{"channels_last": True, "flip_average": False, "groups": None, "base_lr": 1e-3},
    **{"budget": 7, "model": "resnet18"},
}


OWN = """
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
"""


def on_command_line(kwargs):
    return [str(word) for pair in kwargs.items() for word in pair]


@pytest.mark.parametrize(
    "source",
    [
        reinforce.PRESETS,
        finetune.PRESETS,
        check_images.Args,
        generalization.Args,
    ],
    ids=["reinforce", "finetune", "check_images", "generalization"],
)
def test_env_kwargs_become_python_values(source):
    assert read_arguments(source, ["--env-kwargs", *WORDS.split()]).env_kwargs == VALUES


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("TRUE", True), ("False", False), ("none", None), ("-3", -3), ("inf", float("inf"))),
        *(("0.5", 0.5), ("paper", "paper"), ("./none", "./none"), ("1", 1), ("", "")),
    ],
)
def test_values(word, value):
    assert read_value(word) == value
    assert type(read_value(word)) is type(value)


def test_no_cache_may_be_written_as_none(folders):
    kwargs = {k: v for k, v in folders.items() if k not in ("batch_size", "threads")}
    words = [*on_command_line(kwargs), "cache", "none"]
    argv = ["--env", "ASG-ImageFolder-v0", "--env-kwargs", *words]
    assert check_images.main(read_arguments(check_images.Args, argv)) == 0


def test_a_module_in_the_working_directory_can_be_named(folders, tmp_path):
    (tmp_path / "my_network.py").write_text(OWN)
    roots = {k: folders[k] for k in ("source_root", "target_root", "image_size")}
    kwargs = {**roots, "model": "my_network:network"}
    command = [sys.executable, REPO / "experiments/check_images.py", "--env", "ASG-ImageFolder-v0"]
    done = subprocess.run(
        [*map(str, command), "--env-kwargs", *on_command_line(kwargs)],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "51 of 51 image files" in done.stdout


@pytest.mark.parametrize(
    ("main", "default"),
    [
        (reinforce.main, reinforce.Args()),
        (finetune.main, finetune.Args()),
        (generalization.main, generalization.Args()),
    ],
    ids=["reinforce", "finetune", "generalization"],
)
def test_wrong_env_kwargs_are_one_line_and_write_nothing(main, default, tmp_path):
    args = dataclasses.replace(default, out=tmp_path / "run", env_kwargs={"gidance": 1})
    with pytest.raises(SystemExit, match=r"--env-kwargs: .*did you mean 'guidance'") as error:
        main(args)
    assert "\n" not in str(error.value)
    assert not args.out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "trian"}, "--variant: variant='trian' is not one of task 'digits'"),
        ({"test_variant": "x"}, "--test-variant: variant='x' is not one of task 'digits'"),
        ({"env": "ASG-Digit-v0"}, "--env ASG-Digit-v0 .*Known: ASG-Digits-v0"),
        ({"env_kwargs": {"window": "paper", "budget": 5}}, "budget=5 leaves no decision"),
        ({"env_kwargs": {"action": "continuous"}}, "action: leave it out, the policy sets"),
        ({"env_kwargs": {"variant": "test"}}, "variant: leave it out, --variant and"),
    ],
    ids=str,
)
def test_what_reinforce_cannot_start_with_is_one_line(change, message, tmp_path):
    args = dataclasses.replace(reinforce.Args(), out=tmp_path / "run", **change)
    with pytest.raises(SystemExit, match=message) as error:
        reinforce.main(args)
    assert "\n" not in str(error.value)
    assert not args.out.exists()


def test_variants_fit_the_task(folders):
    digits = reinforce.Args()
    assert reinforce.check(digits) == digits
    fitted = reinforce.check(reinforce.Args(env="ASG-ImageFolder-v0", env_kwargs=dict(folders)))
    assert (fitted.variant, fitted.test_variant) == (None, None)
    given = read_arguments(reinforce.PRESETS, ["--variant", "None", "--test-variant", "test:1"])
    assert (given.variant, given.test_variant) == (None, "test:1")


def test_reinforce_runs_on_a_task_without_variants(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "COMPARED", COMPARED[:1])
    words = on_command_line({**folders, "budget": 4, "window": 2})
    argv = ["--env", "ASG-ImageFolder-v0", "--updates", "1", "--num-envs", "2", "--eval-seeds", "2"]
    argv += ["--workers", "none", "--out", str(tmp_path / "run"), "--env-kwargs", *words]
    reinforce.main(read_arguments(reinforce.PRESETS, argv))
    assert json.loads((tmp_path / "run" / "args.json").read_text())["variant"] is None
    last = (tmp_path / "run" / "table.md").read_text().splitlines()[-1]
    assert last.startswith("synthetic -> real. Means over 2 fresh seeds")


@dataclasses.dataclass(frozen=True)
class Words:
    """Arguments of a script."""

    count: int = 0


def interrupted(args):
    raise KeyboardInterrupt


def without_room(args):
    raise OSError(errno.ENOSPC, "No space left on device", "run/metrics.jsonl")


def without_worker(args):
    raise WorkerDied("Worker-1 (process 7) was killed by SIGKILL")


def in_use(args):
    raise InUse("--out run is being written by process 7 on here")


ROOM = "run/metrics.jsonl: No space left on device; the same command resumes once there is room"


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda args: args.count, 3),
        (interrupted, 130),
        (without_room, f"{ROOM} on the disk"),
        (
            without_worker,
            "Worker-1 (process 7) was killed by SIGKILL; the same command resumes",
        ),
        (in_use, "--out run is being written by process 7 on here"),
    ],
    ids=["exit code", "interrupt", "room", "worker", "in use"],
)
@pytest.mark.parametrize("source", [Words, lambda argv: Words(int(argv[1]))])
def test_a_script_ends_in_one_way(main, code, source, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--count", "3"])
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as end:
        run(main, source)
    assert end.value.code == code
    assert [signal.getsignal(number) for number in SIGNALS] == handlers


def test_a_script_that_returns_nothing_just_ends(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py"])
    run(lambda args: None, Words)


@pytest.mark.parametrize(
    ("episodes", "copies", "updates"), [(640, 8, 80), (20, 8, 2), (3, 3, 1)], ids=str
)
def test_episodes_are_of_all_copies_together(episodes, copies, updates):
    args = reinforce.check(reinforce.Args(episodes=episodes))
    assert (args.num_envs, args.updates) == (copies, updates)
    assert sb3.resolve(sb3.Args(episodes=episodes)).num_envs == copies
    with pytest.raises(SystemExit, match="--episodes 0: expected >= 1"):
        reinforce.check(reinforce.Args(episodes=0))


def test_tune_refuses_more_repeats_than_episodes(tmp_path):
    args = tune.Args(episodes=2, repeats=4, out=tmp_path / "run")
    with pytest.raises(SystemExit, match="--repeats 4: expected <= --episodes, 2"):
        tune.train(args)
    assert not args.out.exists()


def test_help_says_what_numbers_may_be(capsys):
    with pytest.raises(SystemExit):
        read_arguments(tune.Args, ["--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--repeats >= 1 and <= 10000000" in said


SCRIPTS = {
    "reinforce": ["reinforce.py", "--compare", "none"],
    "sb3": ["sb3.py", "--compare", "none", "--eval-every", "0"],
    "tune": ["tune.py", "--repeats", "1", "--finalists", "1"],
}


@pytest.mark.parametrize(
    ("script", "kind"), list(zip(SCRIPTS, ("recurrent", "sb3", "family"), strict=True))
)
def test_an_agent_is_a_command_that_leaves_a_policy_of_an_id_of_ones_own(script, kind, tmp_path):
    """Run where the module is that registers the id; the copies' workers import it too."""
    (tmp_path / "my_tasks.py").write_text(
        "import gymnasium\n"
        "from asg_env.envs.factories import make_digits\n"
        "gymnasium.register('Mine-v0', entry_point=make_digits)\n"
    )
    name, *words = SCRIPTS[script]
    words += ["--env", "my_tasks:Mine-v0", "--env-kwargs", "budget", "4", "window", "2"]
    words += ["--variant", "train", "--seed", "1", "--episodes", "2", "--out", "run"]
    command = [sys.executable, str(REPO / "agents" / name), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "policy.json").read_text())["kind"] == kind
    assert not (tmp_path / "run" / "table.md").exists()
