"""Agents x training seeds x evaluation seeds: who sets learning rates best, with what experience?

    python experiments/benchmark.py --task digits
    python experiments/benchmark.py --task visda                              # the stand-in
    python experiments/benchmark.py --agents reinforce ppo random --seeds 3

Every agent trains on the training variants for the same number of episodes (so: the same number
of optimizer steps), from several training seeds; a tuned schedule's training is its random search.
Then all play the same evaluation seeds on the held-out variants; so do the snapshots that the
learned agents left on their way, for the curves. Interrupt it whenever you like; the same command
resumes.

It writes a folder for each training (``agents/``), records (JSONL), the table (Markdown + JSON),
``pairs.md`` (how probably one agent's return is above another's) and plots. ``--report`` makes
table and plots from the records that are there. Statistics: agents/aggregate.py.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from agents import reinforce, sb3, tune
from agents.baselines import SchedulePolicy
from agents.checkpoint import open_run
from agents.command_line import EnvKwargs, fitting_variant, make_env, parse
from agents.evaluate import compare, worker
from agents.families import FAMILIES
from agents.policies import make_policy
from agents.reinforce import EVAL_SEED
from asg_env.envs.snapshot import write_atomic
from asg_env.records import Policy
from experiments.benchmark_report import policy_name, training_folder, write_benchmark
from experiments.generalization import IDS

TUNED = "tuned "  # how the names of tuned schedules begin
MAY_CHANGE = ("agents", "processes", "seeds", "search_seeds", "eval_seeds", "report", "reference")
"""Arguments that may change between calls: what is in the folder stays true."""
DONE = "done"  # a file in the folder of a training that has ended
SNAPSHOT_SEEDS = 6  # evaluation seeds of a snapshot
QUICK_KWARGS = {"budget": 4, "window": 2}  # optimizer steps
COPIES = 8  # environment copies of an SB3 agent, as many as REINFORCE has


class Setup(NamedTuple):
    """What all trainings of a benchmark share."""

    env: str
    env_kwargs: dict[str, Any]
    episodes: int
    snapshots: int
    variant: str | None
    test_variant: str | None


class Agent(NamedTuple):
    """``train(setup, seed, folder)`` leaves a policy in the folder; None: nothing to train."""

    about: str
    train: Callable[[Setup, int, Path], Any] | None


def _common(setup: Setup, seed: int, out: Path) -> dict[str, Any]:
    """Arguments that every training has."""
    places = {"env": setup.env, "env_kwargs": setup.env_kwargs, "variant": setup.variant}
    return {**places, "seed": seed, "out": out}


def _on_the_way(setup: Setup) -> dict[str, Any]:
    """Arguments of every learned agent's training: all in one process."""
    return {"workers": "none", "snapshots": setup.snapshots, "test_variant": setup.test_variant}


def _reinforce(preset: str, setup: Setup, seed: int, out: Path) -> Any:
    """REINFORCE in this benchmark's environment, whatever environment its preset has."""
    default = reinforce.PRESETS[preset]
    copies = min(default.num_envs, setup.episodes)
    args = dataclasses.replace(
        default,
        **_common(setup, seed, out),
        **_on_the_way(setup),
        num_envs=copies,
        updates=setup.episodes // copies,
        early_stop_epochs=0,
        budget_epochs=0,
    )
    open_run(out, dataclasses.asdict(args))
    return reinforce.train(args)


def _sb3(algo: str, setup: Setup, seed: int, out: Path) -> Any:
    args = sb3.Args(
        **_common(setup, seed, out),
        **_on_the_way(setup),
        algo=algo,
        num_envs=min(COPIES, setup.episodes),
        episodes=setup.episodes,
        eval_every=0,
    )
    open_run(out, dataclasses.asdict(args))
    return sb3.train(args)


def _tuned(family: str, setup: Setup, seed: int, out: Path) -> Any:
    args = tune.Args(**_common(setup, seed, out), family=family, episodes=setup.episodes)
    return tune.train(args)


def _agents() -> dict[str, Agent]:
    from functools import partial

    table = {
        "reinforce": Agent("agents/reinforce.py", partial(_reinforce, "fixed")),
        "reinforce_paper": Agent("the same, --preset paper", partial(_reinforce, "paper")),
    }
    for name in ("ppo", "recurrent_ppo", "a2c", "trpo", "sac", "td3"):
        table[name] = Agent(f"agents/sb3.py --algo {name}", partial(_sb3, name))
    for name, family in FAMILIES.items():
        table[f"{TUNED}{name}"] = Agent(f"random search: {family.about}", partial(_tuned, name))
    return {**table, "random": Agent("any LR scale at any time", None)}


AGENTS = _agents()
"""Every agent by name; a new one is one row."""


@dataclass(frozen=True)
class Args:
    """Benchmark agents on a task."""

    task: Literal["digits", "visda", "image_folder"] = "digits"
    """Which environment."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    agents: tuple[str, ...] = tuple(AGENTS)
    """Which agents, by name."""
    variant: str | None = "train"
    """Variant to train on."""
    test_variant: str | None = "test"
    """Variant to evaluate on."""
    episodes: int = 800
    """Training episodes of each agent and training seed."""
    seeds: int = 5
    """Training seeds of each learned agent."""
    search_seeds: int = 2
    """Training seeds of each tuned schedule, whose training is a search."""
    eval_seeds: int = 12
    """Evaluation episodes of each trained policy."""
    snapshots: int = 6
    """Policies kept on the way of a training, for the curves."""
    processes: int = 2
    """Trainings, or evaluation episodes, at a time: a process and a CPU thread each."""
    reference: str = "tuned constant_vector"
    """The agent that all others' returns are compared with."""
    report: bool = False
    """Make the table and the plots from what is there; train and play nothing."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/benchmark_TASK."""
    quick: bool = False
    """A tiny run that touches every agent."""


def trainings(args: Args) -> list[tuple[str, int]]:
    """Agent and training seed of each training, the first seeds first."""
    counts = {name: _seeds(args, name) for name in args.agents if AGENTS[name].train}
    most = max(counts.values(), default=0)
    return [(n, seed) for seed in range(most) for n, count in counts.items() if seed < count]


def _seeds(args: Args, agent: str) -> int:
    if args.quick:
        return 1
    return args.search_seeds if agent.startswith(TUNED) else args.seeds


def train_all(args: Args, setup: Setup, out: Path) -> None:
    """Every training that has not ended yet, side by side."""
    every = [(name, seed, training_folder(out, name, seed)) for name, seed in trainings(args)]
    todo = [training for training in every if not (training[2] / DONE).exists()]
    context = multiprocessing.get_context("spawn")
    with (
        tqdm(total=len(every), initial=len(every) - len(todo), desc="trainings") as bar,
        ProcessPoolExecutor(args.processes, context, initializer=_quiet_worker) as pool,
    ):
        futures = [pool.submit(train_one, setup, *training) for training in todo]
        try:
            for future in as_completed(futures):
                bar.set_postfix_str(future.result())
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _quiet_worker() -> None:
    """One thread, no progress bars: the main process has one for all."""
    os.environ["TQDM_DISABLE"] = "1"
    worker()


def train_one(setup: Setup, agent: str, seed: int, out: Path) -> str:
    """One training; what it was."""
    train = AGENTS[agent].train
    assert train is not None
    train(setup, seed, out)
    write_atomic(out / DONE, b"")
    return policy_name(agent, seed)


def policies(args: Args, out: Path) -> list[Policy]:
    """What the trainings left, and the agents that need none."""
    made: list[Policy] = [SchedulePolicy(n) for n in args.agents if not AGENTS[n].train]
    for policy in made:
        policy.name = policy_name(policy.name, 0)
    for name, seed in trainings(args):
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


def setup_of(args: Args) -> Setup:
    """What the trainings share; SystemExit if an argument is wrong."""
    unknown = [name for name in (*args.agents, args.reference) if name not in AGENTS]
    if unknown:
        raise SystemExit(f"unknown agent {unknown[0]!r}; known: {', '.join(AGENTS)}")
    kwargs: dict[str, Any] = {**args.env_kwargs, **(QUICK_KWARGS if args.quick else {})}
    task = make_env(IDS[args.task], kwargs, f"--task {args.task}").task
    plan = (16, 2) if args.quick else (args.episodes, args.snapshots)
    return Setup(
        *(IDS[args.task], kwargs, *plan, fitting_variant(task, "--variant", args.variant)),
        fitting_variant(task, "--test-variant", args.test_variant),
    )


def main(args: Args) -> str:
    """Train, evaluate, report."""
    setup = setup_of(args)
    out = args.out or Path(f"runs/benchmark_{args.task}")
    noted = {**dataclasses.asdict(args), "setup": setup._asdict()}
    for name in MAY_CHANGE:
        del noted[name]
    open_run(out, noted)
    if not args.report:
        train_all(args, setup, out)
    path, curves = out / "records.jsonl", out / "snapshots.jsonl"
    where = setup.env, setup.env_kwargs, setup.test_variant
    numbers = [EVAL_SEED + k for k in range(2 if args.quick else args.eval_seeds)]
    records = compare(policies(args, out), *where, numbers, path, args.processes)
    later = compare(snapshots(args, out), *where, numbers[:SNAPSHOT_SEEDS], curves, args.processes)
    text = write_benchmark(records, later, out, args.reference)
    print(text)
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
