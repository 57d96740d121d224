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

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from asg_env.cli import blamed_on, check_ranges, fitting_variant, refuse_env_kwargs, run
from asg_env.evaluation.compare import Entrant, compare, spread
from asg_env.experiment import FIRST, OWN_OPTIONS, TaskArgs, TaskName
from asg_env.learning.copies import EVAL_SEED
from asg_env.learning.run_folder import only_run
from asg_env.policies import load
from asg_env.ranges import whole
from asg_env.reports.benchmark import write_benchmark
from asg_env.reports.trainings import best_search, identity_of


@dataclass(frozen=True)
class Args(TaskArgs):
    """Deploy policies on another task than the one that they were trained on."""

    policies: tuple[str, ...] = ()
    """Folders NAME_SEED of policies that were trained elsewhere."""
    opponents: tuple[str, ...] = ()
    """Folders NAME_SEED of trainings on this task, or names of schedules."""
    trust: tuple[str, ...] = ()
    """Modules that a policy's files may name as their loader."""
    task: TaskName = "visda"
    """The task that they play on."""
    test_variant: str | None = "test"
    """Variant to play on; "test" draws one for each seed."""
    eval_seeds: Annotated[int, whole(1)] = 12
    """Episodes of each policy, rounded up to a multiple of the variants."""
    processes: Annotated[int, whole(1, 1024)] = 2
    """Episodes at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/transfer_TASK."""
    quick: bool = False
    """A tiny run: two episodes of two decisions."""
    may_change = ("policies", "opponents", "trust", "eval_seeds", "processes", "out")


def entrants(
    paths: Sequence[str], trust: Sequence[str], option: str, prefix: str = ""
) -> list[Entrant]:
    """The policies of folders NAME_SEED (or of schedules), named for the table."""
    made = []
    for path in paths:
        with blamed_on(f"{option} {path}"):
            policy = load(path, trust=tuple(trust))
        who = identity_of(path)
        made.append(Entrant(policy, who._replace(agent=prefix + who.agent)))
    return made


def reference_of(paths: Sequence[str]) -> str:
    """The opponent to compare with: the best mean score of its searches, else the first one."""
    folders: dict[str, list[Path]] = {}
    for path in paths:
        folders.setdefault(identity_of(path).agent, []).append(Path(path))
    return best_search(folders, next(iter(folders), ""))


def check_names(args: Args, players: Sequence[Entrant]) -> None:
    """SystemExit if there is no policy, or if two have one name: nobody could tell them apart."""
    if not args.policies:
        raise SystemExit("--policies: expected at least one folder NAME_SEED")
    names = [player.label for player in players]
    if len(set(names)) < len(names):
        listed = ", ".join(names)
        raise SystemExit(f"--policies and --opponents: names {listed}: expected each once")


def main(args: Args) -> str:
    """Play and report."""
    check_ranges(args)
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    out = args.out or args.folder("transfer")
    setup = args.setup(**FIRST)
    task = args.make(setup).task
    variant = fitting_variant(task, "--test-variant", args.test_variant)
    opponents = entrants(args.opponents, args.trust, "--opponents")
    players = [*entrants(args.policies, args.trust, "--policies", "transferred "), *opponents]
    check_names(args, players)
    with only_run(out, args.noted()):
        episodes = spread(task, variant, EVAL_SEED, 1 if args.quick else args.eval_seeds)
        records = compare(players, setup, episodes, out / "records.jsonl", args.processes)
        tuned = {opponent.identity.agent for opponent in opponents}
        text = write_benchmark(records, [], out, reference_of(args.opponents), tuned)
        print(text)
        return text


if __name__ == "__main__":
    run(main, Args)
