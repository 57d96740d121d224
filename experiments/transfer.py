"""A policy on a task that it was not trained on, against schedules that were tuned on that task.

    python experiments/transfer.py --task visda \\
        --policies runs/benchmark_digits/agents/reinforce_* \\
        --opponents runs/benchmark_visda/agents/tuned_*

``--policies`` were trained elsewhere, on other images, another network and another number of layer
groups (agents/reinforce.py with its shared heads fits any); nothing is trained here.
``--opponents`` are trainings on this task: what agents/tune.py or experiments/benchmark.py left.
All play the same evaluation seeds on the held-out variants. Interrupt it whenever you like; the
same command resumes. It writes records (JSONL), the table (Markdown + JSON), ``pairs.md`` and
plots.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.checkpoint import open_run
from agents.command_line import EnvKwargs, blamed_on, fitting_variant, make_env, parse
from agents.evaluate import compare, spread
from agents.policies import make_policy
from agents.reinforce import EVAL_SEED
from asg_env.records import Policy
from experiments.benchmark_report import policy_name, score_tables, write_benchmark
from experiments.generalization import IDS

QUICK = {"budget": 4, "window": 2}  # optimizer steps


@dataclass(frozen=True)
class Args:
    """Deploy policies on another task than the one that they were trained on."""

    policies: tuple[str, ...]
    """Folders NAME_SEED of policies that were trained elsewhere."""
    opponents: tuple[str, ...] = ()
    """Folders NAME_SEED of trainings on this task, or names of schedules."""
    task: Literal["digits", "visda", "image_folder"] = "visda"
    """The task that they play on."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    test_variant: str | None = "test"
    """Variant to play on; "test" draws one for each seed."""
    eval_seeds: int = 12
    """Episodes of each policy."""
    processes: int = 2
    """Episodes at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/transfer_TASK."""
    quick: bool = False
    """A tiny run: two episodes of two decisions."""


def named(paths: Sequence[str], prefix: str) -> list[Policy]:
    """The policies of folders NAME_SEED (or of schedules), named for the table."""
    made = []
    for path in paths:
        with blamed_on(f"{prefix or 'opponents'} {path}"):
            policy = make_policy(path)
        name, _, seed = Path(path).name.rpartition("_")
        if not seed.isdigit():
            name, seed = Path(path).name, "0"
        policy.name = prefix + policy_name(name, int(seed))
        made.append(policy)
    return made


def main(args: Args) -> str:
    """Play and report."""
    out = args.out or Path(f"runs/transfer_{args.task}")
    kwargs = {**args.env_kwargs, **(QUICK if args.quick else {})}
    env = make_env(IDS[args.task], kwargs, f"--task {args.task}")
    variant = fitting_variant(env.task, "--test-variant", args.test_variant)
    players = [*named(args.policies, "transferred "), *named(args.opponents, "")]
    open_run(out, {**dataclasses.asdict(args), "processes": None})
    episodes = spread(env.task, variant, EVAL_SEED, 1 if args.quick else args.eval_seeds)
    where = IDS[args.task], kwargs, episodes, out / "records.jsonl"
    records = compare(players, *where, args.processes)
    tables = score_tables(records, "return")
    own = [name for name in tables if not name.startswith("transferred ")]
    reference = max(own, key=lambda name: tables[name].mean(), default=next(iter(tables)))
    text = write_benchmark(records, [], out, reference)
    print(text)
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
