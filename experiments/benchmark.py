"""Agents x training seeds x evaluation seeds: who sets learning rates best, with what experience?

    python experiments/benchmark.py --task digits
    python experiments/benchmark.py --task visda                              # the stand-in
    python experiments/benchmark.py --agents reinforce ppo random --seeds 3

Every agent trains on the training variants for the same number of episodes (so: the same number
of optimizer steps), from several training seeds; a tuned schedule's training is its random search.
The reference, which all are compared with, is the tuned schedule whose searches scored best on the
training variants; it gets as many trainings as the learned agents. Then all play the same episodes,
equally many of each held-out variant; so do the snapshots that the learned agents left on their
way, for the curves. Interrupt it whenever you like; the same command resumes.

It writes a folder for each training (``agents/``), records (JSONL), the table (Markdown + JSON),
``pairs.md`` (how probably one agent's return is above another's), ``reached.md`` (with how many
decisions an agent reached the reference) and plots. ``--report`` makes them again from what is
there, agents whose records are not complete left out. Statistics: agents/aggregate.py.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents import tune
from agents.reinforce import EVAL_SEED, OWN_OPTIONS
from asg_env.cli import (
    EnvKwargs,
    check_at_least,
    fitting_variant,
    make_env,
    parse,
    refuse_env_kwargs,
)
from asg_env.evaluation.compare import Episode, compare, spread
from asg_env.evaluation.parallel import run_parallel
from asg_env.evaluation.records import Record, read_records
from asg_env.files import write_atomic
from asg_env.learning.checkpoint import open_run
from asg_env.policies.base import Policy
from asg_env.policies.load import make_policy
from asg_env.policies.schedules import SchedulePolicy
from asg_env.reports.benchmark import policy_name, training_folder, write_benchmark
from asg_env.tasks.base import Task
from experiments.benchmark_agents import AGENTS, FIRST, TUNED, UPDATE, Setup
from experiments.tasks import IDS, QUICK, TaskName

MAY_CHANGE = ("agents", "processes", "seeds", "search_seeds", "eval_seeds", "report", "reference")
"""Arguments that may change between calls: what is in the folder stays true."""
DONE = "done"  # a file in the folder of a training that has ended


@dataclass(frozen=True)
class Args:
    """Benchmark agents on a task."""

    task: TaskName = "digits"
    """Which environment."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    agents: tuple[str, ...] = tuple(AGENTS)
    """Which agents, by name."""
    variant: str | None = "train"
    """Variant to train on."""
    test_variant: str | None = "test"
    """Variant to evaluate on."""
    episodes: int = 640
    """Training episodes of each agent and training seed, a multiple of 16."""
    seeds: int = 5
    """Training seeds of each learned agent."""
    search_seeds: int = 2
    """Training seeds of each tuned schedule but the reference, whose training is a search."""
    eval_seeds: int = 12
    """Evaluation episodes of each trained policy, rounded up to a multiple of the variants."""
    snapshots: int = 8
    """Policies kept on the way of a training, for the curves."""
    processes: int = 2
    """Trainings, or evaluation episodes, at a time: a process and a CPU thread each."""
    reference: str | None = None
    """The agent that all others are compared with; None: the tuned schedule whose searches (the
    first SEARCH_SEEDS of them) scored best on the training variants."""
    report: bool = False
    """Make the table and the plots from what is there; train and play nothing."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/benchmark_TASK."""
    quick: bool = False
    """A tiny run that touches every agent."""


def trainings(args: Args, reference: str | None = None) -> list[tuple[str, int]]:
    """Agent and training seed of each training, the first seeds first; more of the reference."""
    counts = {name: _seeds(args, name, reference) for name in args.agents if AGENTS[name].train}
    most = max(counts.values(), default=0)
    return [(n, seed) for seed in range(most) for n, count in counts.items() if seed < count]


def _seeds(args: Args, agent: str, reference: str | None) -> int:
    if args.quick:
        return 1
    return args.search_seeds if agent.startswith(TUNED) and agent != reference else args.seeds


def train_all(plan: Iterable[tuple[str, int]], setup: Setup, out: Path, processes: int) -> None:
    """Every training that has not ended yet, side by side."""
    every = [(setup, name, seed, training_folder(out, name, seed)) for name, seed in plan]
    todo = [job for job in every if not (job[-1] / DONE).exists()]
    with tqdm(total=len(every), initial=len(every) - len(todo), desc="trainings") as bar:

        def ended(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        if todo:
            run_parallel(train_one, todo, processes, ended)


def train_one(setup: Setup, agent: str, seed: int, out: Path) -> str:
    """One training; what it was."""
    train = AGENTS[agent].train
    assert train is not None
    train(setup, seed, out)
    write_atomic(out / DONE, b"")
    return policy_name(agent, seed)


def reference_of(args: Args, out: Path) -> str:
    """The agent to compare with; chosen by searches that saw the training variants only."""
    if args.reference is not None:
        return args.reference
    scores: dict[str, list[float]] = {}
    for name, seed in trainings(args):
        folder = training_folder(out, name, seed)
        if name.startswith(TUNED) and (folder / DONE).exists():
            scores.setdefault(name, []).append(tune.final_score(folder))
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    return max(means, key=lambda name: means[name], default=args.agents[0])


def policies(args: Args, reference: str, out: Path) -> list[Policy]:
    """What the trainings left, and the agents that need none."""
    made: list[Policy] = [SchedulePolicy(n) for n in args.agents if not AGENTS[n].train]
    for policy in made:
        policy.name = policy_name(policy.name, 0)
    for name, seed in trainings(args, reference):
        policy = make_policy(str(training_folder(out, name, seed)))
        policy.name = policy_name(name, seed)
        made.append(policy)
    return made


def snapshots(args: Args, out: Path) -> list[Policy]:
    """The policies that the learned agents left on their way."""
    made: list[Policy] = []
    for name, seed in trainings(args):
        kept = training_folder(out, name, seed) / "snapshots"
        for path in sorted(kept.glob("*.safetensors")):
            policy = make_policy(str(path))
            policy.name = f"{policy_name(name, seed)} @{int(path.stem)}"
            made.append(policy)
    return made


def checked(args: Args) -> tuple[Setup, Task]:
    """What the trainings share, and the task; SystemExit if an argument is wrong."""
    check_at_least(1, args, "episodes", "seeds", "search_seeds", "eval_seeds", "processes")
    check_at_least(0, args, "snapshots")
    for name in (*args.agents, *([args.reference] if args.reference else [])):
        if name not in AGENTS:
            raise SystemExit(f"unknown agent {name!r}; known: {', '.join(AGENTS)}")
    if not args.agents:
        raise SystemExit(f"--agents: expected at least one of {', '.join(AGENTS)}")
    if args.episodes % UPDATE:
        raise SystemExit(f"--episodes {args.episodes}: expected a multiple of {UPDATE}")
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    kwargs: dict[str, Any] = {**FIRST, **args.env_kwargs, **(QUICK if args.quick else {})}
    task = make_env(IDS[args.task], kwargs, f"--task {args.task}").task
    plan = (16, 2) if args.quick else (args.episodes, args.snapshots)
    setup = Setup(
        *(IDS[args.task], kwargs, *plan, fitting_variant(task, "--variant", args.variant)),
        fitting_variant(task, "--test-variant", args.test_variant),
    )
    return setup, task


def complete(path: Path, names: Sequence[str], episodes: Sequence[Episode]) -> list[Record]:
    """The records of the agents and snapshots that have played every episode; it names others."""
    seeds = {episode.seed for episode in episodes}
    found: dict[str, dict[int, Record]] = {}
    for record in read_records(path):
        if record.reset_seed in seeds:
            found.setdefault(record.policy, {})[record.reset_seed] = record
    left_out = [name for name in names if len(found.get(name, {})) < len(seeds)]
    if left_out:
        print(f"not complete in {path}, left out: {', '.join(left_out)}")
    return [r for name in names if name not in left_out for _, r in sorted(found[name].items())]


def main(args: Args) -> str:
    """Train, evaluate, report."""
    setup, task = checked(args)
    out = args.out or Path(f"runs/benchmark_{args.task}")
    noted = {**dataclasses.asdict(args), "setup": setup._asdict()}
    for name in MAY_CHANGE:
        del noted[name]
    open_run(out, noted)
    path, curves = out / "records.jsonl", out / "snapshots.jsonl"
    count = 1 if args.quick else args.eval_seeds
    episodes = spread(task, setup.test_variant, EVAL_SEED, count)
    once = spread(task, setup.test_variant, EVAL_SEED, 1)
    if args.report:
        reference = reference_of(args, out)
        names = [policy_name(name, 0) for name in args.agents if not AGENTS[name].train]
        names += [policy_name(*training) for training in trainings(args, reference)]
        records = complete(path, names, episodes)
        later = complete(curves, sorted({r.policy for r in read_records(curves)}), once)
    else:
        train_all(trainings(args), setup, out, args.processes)
        reference = reference_of(args, out)
        train_all(trainings(args, reference), setup, out, args.processes)
        where = setup.env, setup.env_kwargs
        made = policies(args, reference, out)
        records = compare(made, *where, episodes, path, args.processes)
        later = compare(snapshots(args, out), *where, once, curves, args.processes)
    if not records:
        raise SystemExit(f"{path} has no complete agent yet; run it without --report")
    text = write_benchmark(records, later, out, reference)
    print(text)
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
