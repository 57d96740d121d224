"""A policy on a task that it was not trained on, against schedules that were tuned on that task.

    python experiments/transfer.py --task visda \\
        --policies runs/benchmark_digits/agents/reinforce_* \\
        --opponents runs/benchmark_visda/agents/tuned_*

``--policies`` were trained elsewhere, on other images, another network and another number of layer
groups (agents/reinforce.py with its shared heads fits any); nothing is trained here.
``--opponents`` are trainings on this task: what agents/tune.py or experiments/benchmark.py left.
All play the same episodes, equally many of each held-out variant. The reference is the opponent
whose searches scored best on this task's training variants. Interrupt it whenever you like; the
same command resumes. It writes records (JSONL), the table (Markdown + JSON), ``pairs.md`` and
plots.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agents import tune
from agents.reinforce import EVAL_SEED, OWN_OPTIONS
from asg_env.cli import (
    EnvKwargs,
    blamed_on,
    check_at_least,
    fitting_variant,
    make_env,
    parse,
    refuse_env_kwargs,
)
from asg_env.evaluation.compare import check_names, compare, spread
from asg_env.learning.checkpoint import open_run
from asg_env.policies.base import Policy
from asg_env.policies.load import make_policy
from asg_env.reports.benchmark import policy_name, write_benchmark
from experiments.benchmark_agents import FIRST
from experiments.tasks import IDS, QUICK, TaskName

MAY_CHANGE = ("policies", "opponents", "eval_seeds", "processes", "out")
"""Arguments that may change between calls: what is in the folder stays true."""


@dataclass(frozen=True)
class Args:
    """Deploy policies on another task than the one that they were trained on."""

    policies: tuple[str, ...]
    """Folders NAME_SEED of policies that were trained elsewhere."""
    opponents: tuple[str, ...] = ()
    """Folders NAME_SEED of trainings on this task, or names of schedules."""
    task: TaskName = "visda"
    """The task that they play on."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    test_variant: str | None = "test"
    """Variant to play on; "test" draws one for each seed."""
    eval_seeds: int = 12
    """Episodes of each policy, rounded up to a multiple of the variants."""
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


def reference_of(paths: Sequence[str], players: Sequence[Policy]) -> str:
    """The opponent to compare with: the best mean score of its searches, else the first one."""
    scores: dict[str, list[float]] = {}
    for path, policy in zip(paths, players, strict=True):
        if (Path(path) / tune.SEARCH).exists():
            agent = policy.name.rpartition(" #")[0]
            scores.setdefault(agent, []).append(tune.final_score(Path(path)))
    first = players[0].name.rpartition(" #")[0]
    return max(scores, key=lambda name: sum(scores[name]) / len(scores[name]), default=first)


def main(args: Args) -> str:
    """Play and report."""
    check_at_least(1, args, "eval_seeds", "processes")
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    out = args.out or Path(f"runs/transfer_{args.task}")
    kwargs = {**FIRST, **args.env_kwargs, **(QUICK if args.quick else {})}
    env = make_env(IDS[args.task], kwargs, f"--task {args.task}")
    variant = fitting_variant(env.task, "--test-variant", args.test_variant)
    opponents = named(args.opponents, "")
    players = [*named(args.policies, "transferred "), *opponents]
    with blamed_on("--policies and --opponents"):
        check_names(players)
    noted = dataclasses.asdict(args)
    open_run(out, {name: value for name, value in noted.items() if name not in MAY_CHANGE})
    episodes = spread(env.task, variant, EVAL_SEED, 1 if args.quick else args.eval_seeds)
    where = IDS[args.task], kwargs, episodes, out / "records.jsonl"
    records = compare(players, *where, args.processes)
    reference = reference_of(args.opponents, opponents) if opponents else ""
    text = write_benchmark(records, [], out, reference)
    print(text)
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
