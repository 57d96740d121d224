"""Starts scripts, sends them signals, and looks at what they leave."""

from __future__ import annotations

from pathlib import Path

from support import REPO

from asg_env.evaluation import processes
from asg_env.evaluation.processes import End, Script

PATIENCE = 10.0  # seconds that a script may take to end
TINY = ["--env-kwargs", "budget", "4", "window", "2"]
LONG = ["--env-kwargs", "budget", "2000", "window", "500"]
SCRIPTS: dict[str, list[str]] = {
    "reinforce": ["agents/reinforce.py", "--num-envs", "2", "--updates", "500", *TINY],
    "sb3": ["agents/sb3.py", "--num-envs", "2", *TINY],
    "tune": ["agents/tune.py", *TINY],
    "finetune": ["experiments/finetune.py", *LONG],
    "benchmark": ["experiments/benchmark.py", "--agents", "reinforce", "ppo", *LONG],
    "generalization": ["experiments/generalization.py", *LONG],
    "reward_validity": ["experiments/reward_validity.py", "--policies", "50", *LONG],
    "transfer": ["experiments/transfer.py", "--policies", "small_backbone_cosine", *LONG],
    "action_behavior": ["experiments/action_behavior.py"],
    "bench_step": ["experiments/bench_step.py"],
    "bench_loader": ["experiments/bench_loader.py"],
    "pretrain_digits": ["experiments/pretrain_digits.py"],
    "pretrain_visda_standin": ["experiments/pretrain_visda_standin.py"],
    "conformance": ["experiments/conformance.py"],
    "headroom": ["experiments/headroom.py", "--records", "{out}"],
    "replay": ["experiments/replay.py", "{out}/records.jsonl"],
    "check_images": ["experiments/check_images.py"],
    "contact_sheet": ["experiments/contact_sheet.py"],
}
"""Words of each script, long enough to be interrupted; ``{out}`` is its folder."""
NO_OUT = ("replay", "check_images", "contact_sheet", "headroom")


def start(name: str, folder: Path, *more: str) -> Script:
    """A script of SCRIPTS, with its folder in ``folder``."""
    out = folder / "out"
    path, *words = [word.format(out=out) for word in SCRIPTS[name]]
    words += more if name in NO_OUT else [*more, "--out", str(out)]
    return Script([str(REPO / path), *words], out, folder)


def semaphores() -> set[str]:
    """Named semaphores of the machine that multiprocessing made."""
    return {path.name for path in Path("/dev/shm").glob("sem.mp-*")}


def ended(script: Script) -> End:
    """Wait for its end."""
    return processes.ended(script, PATIENCE * 6)


def interrupt(script: Script, number: int, group: bool) -> End:
    """Send a signal and wait for the end."""
    script.send(number, group)
    return ended(script)
