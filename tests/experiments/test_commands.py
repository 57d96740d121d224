"""Commands side by side: logs, failures, interrupts; agents of a benchmark as commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from asg_env.evaluation.commands import Command, run_commands
from experiments import benchmark

SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


SCRIPT = """
import signal, sys
from pathlib import Path
from asg_env.evaluation.commands import Command, run_commands
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sleeper = [sys.executable, "-c", sys.argv[2]]
    run_commands([Command(n, sleeper, Path(sys.argv[1]) / n) for n in "abc"], 2, print)
"""


def command(name, source, folder):
    return Command(name, [sys.executable, "-c", source], folder / name / "log")


def test_commands_run_in_turn_and_keep_their_output(tmp_path):
    ended = []
    run_commands([command(n, f"print({n!r})", tmp_path) for n in "abc"], 2, ended.append)
    assert sorted(c.name for c in ended) == ["a", "b", "c"]
    assert [(tmp_path / n / "log").read_text() for n in "abc"] == ["a\n", "b\n", "c\n"]


def test_a_command_that_fails_says_why_and_ends_the_others(tmp_path):
    jobs = [
        command("long", "import time; time.sleep(600)", tmp_path),
        command("bad", "import sys; print('too', 'bad'); sys.exit(3)", tmp_path),
    ]
    before = time.monotonic()
    with pytest.raises(SystemExit) as error:
        run_commands(jobs, 2, print)
    assert time.monotonic() - before < 60
    text = str(error.value)
    assert text.startswith("bad failed (exit code 3): ")
    assert "sys.exit(3)" in text  # the command
    assert "\n  too bad\n" in text  # its last lines
    assert str(jobs[1].log) in text


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_parent_is_the_end_of_its_commands(tmp_path, sent):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path), SLEEPER]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: all(p.exists() and p.read_text().strip() for p in logs(tmp_path)))
        pids = [int(path.read_text()) for path in logs(tmp_path)]
        process.send_signal(sent)
        assert process.wait(60) != 0
    wait_for(lambda: all(gone(pid) for pid in pids))
    assert not (tmp_path / "c").exists()  # it never began


def logs(folder):
    return [folder / "a", folder / "b"]


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


SETUP = benchmark.Setup("ASG-Digits-v0", {"decide_first": True, "budget": 4}, 16, 2, "train", None)


def test_every_agent_that_is_trained_is_told_the_same(tmp_path):
    for name, agent in benchmark.AGENTS.items():
        words = benchmark.command_of(name, agent, SETUP, 3, tmp_path).words
        place = words.index("--env")
        assert words[place + 1] == "ASG-Digits-v0"
        assert words[words.index("--variant") : words.index("--out")] == [
            "--variant",
            "train",
            "--seed",
            "3",
            "--episodes",
            "16",
        ]
        assert agent.tuned == name.startswith("tuned")
        assert agent.learned == ("--snapshots" in words)


def test_no_arguments_of_the_environment_are_no_option(tmp_path):
    setup = SETUP._replace(env_kwargs={})
    agent = benchmark.Agent("mine", ["mine"])
    words = benchmark.command_of("mine", agent, setup, 0, tmp_path).words
    assert words[:3] == ["mine", "--env", "ASG-Digits-v0"]
    assert "--env-kwargs" not in words


@pytest.mark.parametrize(
    "entry", ["ppo=python mine.py", "mine=", "=python mine.py", "a/b=python mine.py"]
)
def test_an_agent_of_ones_own_has_a_name_of_its_own_and_a_command(entry):
    with pytest.raises(SystemExit, match="expected NAME=COMMAND with a new name"):
        benchmark.Args(agents=(entry,)).table()


def test_an_agent_of_ones_own_joins_the_table():
    table = benchmark.Args(agents=("random", "my agent=python 'my agent.py' --depth 3")).table()
    assert table["my agent"].command == ["python", "my agent.py", "--depth", "3"]
    assert not table["my agent"].tuned
    assert benchmark.trainings(benchmark.Args(agents=("m=x",), seeds=2)) == [("m", 0), ("m", 1)]


def test_a_training_that_leaves_no_policy_is_named(tmp_path):
    done = Command("mine #0", ["mine", "--fast"], tmp_path / "log")
    with pytest.raises(SystemExit, match=r"mine #0 left no policy in .*: mine --fast"):
        benchmark.finish(done)
    (tmp_path / "policy.json").write_text("{}")
    benchmark.finish(done)
    assert (tmp_path / benchmark.DONE).exists()


OWN = """
import argparse
from pathlib import Path
from asg_env.policies.families import TunedPolicy
parser = argparse.ArgumentParser()
parser.add_argument("--env-kwargs", nargs="*")
for name in ("env", "variant", "seed", "episodes", "out", "peak"):
    parser.add_argument("--" + name)
args = parser.parse_args()
assert args.env_kwargs == ["decide_first", "True", "budget", "4", "window", "2"]
policy = TunedPolicy("constant", {"peak": float(args.peak)}, 6, "mine")
policy.save(Path(args.out) / "policy.json")
"""


def test_a_strangers_agent_is_benchmarked(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    mine = f"mine={sys.executable} {tmp_path / 'own.py'} --peak 0.5"
    args = benchmark.Args(agents=("random", mine), quick=True, out=tmp_path / "out", processes=2)
    text = benchmark.main(args)
    assert "| mine | 1 | - |" in text
    assert "| random | 1 | - |" in text
    assert benchmark.main(args) == text
