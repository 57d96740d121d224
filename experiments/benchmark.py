"""Agents x training seeds x evaluation seeds: who sets learning rates best, with what experience?

    python experiments/benchmark.py --task digits
    python experiments/benchmark.py --task visda                              # the stand-in
    python experiments/benchmark.py --agents reinforce ppo random --seeds 3
    python experiments/benchmark.py --agents reinforce "mine=python my_agent.py --depth 3"

Every agent trains on the training variants for the same number of episodes (so: the same number
of optimizer steps), from several training seeds; a tuned schedule's training is its random search.
The reference, which all are compared with, is the tuned schedule whose searches scored best on the
training variants; it gets as many trainings as the learned agents. Then all play the same episodes,
equally many of each held-out variant; so do the snapshots that the learned agents left on their
way, for the curves. Interrupt it whenever you like; the same command resumes.

An agent is a command that leaves a policy in a folder. It is told ``--env ID --env-kwargs NAME
VALUE ... --variant NAME --seed SEED --episodes COUNT --out FOLDER`` (what is empty is left out).
``NAME=COMMAND`` among the ``--agents`` adds one; ``kind`` in its policy.json says who loads the
policy, and ``--trust`` which modules may.

It writes a folder for each training (``agents/``), records (JSONL), the table (Markdown + JSON),
``pairs.md`` (how probably one agent's return is above another's), ``reached.md`` (with how many
decisions an agent reached the reference) and plots. ``--report`` makes them again from what is
there, agents whose records are not complete left out. Statistics: asg_env/reports/bootstrap.py.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from tqdm import tqdm

from asg_env.cli import blamed_on, check_ranges, fitting_variant, refuse_env_kwargs, run
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.commands import Command, run_commands
from asg_env.evaluation.compare import Entrant, Episode, compare, spread
from asg_env.evaluation.records import Record, read_records
from asg_env.experiment import FIRST, OWN_OPTIONS, TaskArgs
from asg_env.learning.copies import EVAL_SEED
from asg_env.learning.run_folder import only_run, open_run
from asg_env.policies import load
from asg_env.policies.base import Identity
from asg_env.policies.families import FAMILIES
from asg_env.policies.sb3_algorithms import ALGORITHMS
from asg_env.ranges import whole
from asg_env.reports.benchmark import write_benchmark
from asg_env.reports.trainings import METRICS, best_search, training_folder
from asg_env.tasks.base import Task
from asg_env.writing import write_atomic

DONE = "done"  # a file in the folder of a training that has ended
LOG = "training.log"  # what it printed
SCRIPTS = Path(__file__).resolve().parent.parent / "agents"
UPDATE = 8 * max(row.run["episodes"].value for row in ALGORITHMS.values())
"""Episodes of the longest update, of eight copies of the environment: a training has a multiple, so
that all have the same number."""


# -- agents ----------------------------------------------------------------------------------------


class Agent(NamedTuple):
    """``command``: the words that train it, before those of :func:`common_words`; None: there is
    nothing to train. ``tuned``: the training is the search of a schedule. ``learned``: it is one of
    ours, and leaves snapshots."""

    about: str
    command: Sequence[str] | None
    tuned: bool = False
    learned: bool = False


def _learned(about: str, script: str, *words: str) -> Agent:
    return Agent(about, [sys.executable, str(SCRIPTS / script), *words], learned=True)


def _tuned(family: str) -> Agent:
    about = f"random search: {FAMILIES[family].about}"
    words = [sys.executable, str(SCRIPTS / "tune.py"), "--family", family]
    return Agent(about, words, tuned=True)


FIXED = ("--preset", "fixed")
CATEGORICAL = (*FIXED, "--heads", "separate", "--scale", "categorical")  # what SB3's agents have
PAPER = ("--preset", "paper", "--early-stop-epochs", "0", "--budget-epochs", "0")
AGENTS: dict[str, Agent] = {
    "reinforce": _learned("agents/reinforce.py --preset fixed", "reinforce.py", *FIXED),
    "reinforce_categorical": _learned(
        "the same, --heads separate --scale categorical, as PPO has", "reinforce.py", *CATEGORICAL
    ),
    "reinforce_paper": _learned(
        "the same, --preset paper, which deploys it sampling", "reinforce.py", *PAPER
    ),
    **{
        name: _learned(
            f"agents/sb3.py --algo {name}", "sb3.py", "--algo", name, "--eval-every", "0"
        )
        for name in ALGORITHMS
    },
    **{f"tuned {family}": _tuned(family) for family in FAMILIES},
    "random": Agent("any LR scale at any time", None),
}
"""Every agent by name; a new one is one row."""
PRESET_KWARGS = {"reinforce_paper": {"window": None, "optimizer": None}}
"""Arguments of the environment that a preset sets: the environment's defaults again."""


@dataclass(frozen=True)
class Args(TaskArgs):
    """Benchmark agents on a task."""

    agents: tuple[str, ...] = tuple(AGENTS)
    """Which agents, by name; NAME=COMMAND is one of your own."""
    trust: tuple[str, ...] = ()
    """Modules that a policy's files may name as their loader."""
    variant: str | None = "train"
    """Variant to train on."""
    test_variant: str | None = "test"
    """Variant to evaluate on."""
    episodes: Annotated[int, whole(1)] = 640
    """Training episodes of each agent and training seed, a multiple of 16."""
    seeds: Annotated[int, whole(1)] = 5
    """Training seeds of each learned agent."""
    search_seeds: Annotated[int, whole(1)] = 2
    """Training seeds of each tuned schedule but the reference, whose training is a search."""
    eval_seeds: Annotated[int, whole(1)] = 12
    """Evaluation episodes of each trained policy, rounded up to a multiple of the variants."""
    snapshots: Annotated[int, whole(0)] = 8
    """Policies kept on the way of a training, for the curves."""
    processes: Annotated[int, whole(1, 1024)] = 2
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
    may_change = (
        *("agents", "trust", "processes", "seeds", "search_seeds", "eval_seeds", "report"),
        *("reference", "out"),
    )

    def table(self) -> dict[str, Agent]:
        """The agents that take part, those of your own among them; SystemExit if one is wrong."""
        found: dict[str, Agent] = {}
        for entry in self.agents:
            name, own, words = entry.partition("=")
            if own and (name in AGENTS or not words.strip() or not name.strip() or "/" in name):
                raise SystemExit(f"--agents {entry}: expected NAME=COMMAND with a new name")
            if not own and name not in AGENTS:
                raise SystemExit(f"unknown agent {name!r}; known: {', '.join(AGENTS)}")
            found[name] = Agent(words, shlex.split(words)) if own else AGENTS[name]
        if not found:
            raise SystemExit(f"--agents: expected at least one of {', '.join(AGENTS)}")
        if self.reference is not None and self.reference not in found | AGENTS:
            raise SystemExit(f"unknown agent {self.reference!r}; known: {', '.join(AGENTS)}")
        return found


class Setup(NamedTuple):
    """What all trainings of a benchmark share."""

    env: str
    env_kwargs: Mapping[str, Any]
    episodes: int
    snapshots: int
    variant: str | None
    test_variant: str | None


# -- training --------------------------------------------------------------------------------------


def common_words(setup: Setup, kwargs: Mapping[str, Any], seed: int, out: Path) -> list[str]:
    """What every command is told."""
    pairs = [str(word) for pair in kwargs.items() for word in pair]
    return [
        *("--env", setup.env),
        *(["--env-kwargs", *pairs] if pairs else []),
        *("--variant", str(setup.variant)),
        *("--seed", str(seed)),
        *("--episodes", str(setup.episodes)),
        *("--out", str(out)),
    ]


def command_of(name: str, agent: Agent, setup: Setup, seed: int, out: Path) -> Command:
    """The command of one training, into the folder ``out``."""
    kwargs = {**PRESET_KWARGS.get(name, {}), **setup.env_kwargs}
    words = [*(agent.command or ()), *common_words(setup, kwargs, seed, out)]
    if agent.learned:
        words += ["--snapshots", str(setup.snapshots), "--compare", "none", "--workers", "none"]
    return Command(Identity(name, seed).label, words, out / LOG)


def trainings(args: Args, reference: str | None = None) -> list[tuple[str, int]]:
    """Agent and training seed of each training, the first seeds first; more of the reference."""
    table = args.table()
    counts = {n: _seeds(args, n, a, reference) for n, a in table.items() if a.command is not None}
    most = max(counts.values(), default=0)
    return [(n, seed) for seed in range(most) for n, count in counts.items() if seed < count]


def _seeds(args: Args, name: str, agent: Agent, reference: str | None) -> int:
    if args.quick:
        return 1
    return args.search_seeds if agent.tuned and name != reference else args.seeds


def train_all(plan: Iterable[tuple[str, int]], args: Args, setup: Setup, out: Path) -> None:
    """Every training that has not ended yet, side by side."""
    table = args.table()
    every = [
        command_of(name, table[name], setup, seed, training_folder(out, name, seed))
        for name, seed in plan
    ]
    todo = [command for command in every if not (command.log.parent / DONE).exists()]
    with tqdm(total=len(every), initial=len(every) - len(todo), desc="trainings") as bar:

        def ended(command: Command) -> None:
            finish(command)
            bar.set_postfix_str(command.name)
            bar.update()

        run_commands(todo, args.processes, ended)


def finish(command: Command) -> None:
    """Note that a training has ended; SystemExit if it left no policy."""
    folder = command.log.parent
    if not any(folder.glob("policy.*")):
        raise SystemExit(f"{command.name} left no policy in {folder}: {shlex.join(command.words)}")
    write_atomic(folder / DONE, b"")


def reference_of(args: Args, out: Path) -> str:
    """The agent to compare with; chosen by searches that saw the training variants only."""
    if args.reference is not None:
        return args.reference
    table, folders = args.table(), dict[str, list[Path]]()
    for name, seed in trainings(args):
        folder = training_folder(out, name, seed)
        if table[name].tuned and (folder / DONE).exists():
            folders.setdefault(name, []).append(folder)
    return best_search(folders, next(iter(table)))


# -- evaluation ------------------------------------------------------------------------------------


def untrained(args: Args) -> list[Identity]:
    """The agents that need no training."""
    return [Identity(name, 0) for name, agent in args.table().items() if agent.command is None]


def entrants(args: Args, reference: str, out: Path) -> list[Entrant]:
    """The agents that need no training, and what the trainings left."""
    made = [Entrant(load(who.agent), who) for who in untrained(args)]
    for name, seed in trainings(args, reference):
        folder = training_folder(out, name, seed)
        with blamed_on(f"policy of {name}, {folder}"):
            made.append(Entrant(load(str(folder), trust=args.trust), Identity(name, seed)))
    return made


def snapshots(args: Args, out: Path) -> list[Entrant]:
    """The policies that trainings which keep metrics left on their way."""
    made = []
    for name, seed in trainings(args):
        folder = training_folder(out, name, seed)
        kept = (folder / "snapshots").glob("*.safetensors") if (folder / METRICS).exists() else ()
        for path in sorted(kept):
            policy = load(str(path), trust=args.trust)
            made.append(Entrant(policy, Identity(name, seed, int(path.stem))))
    return made


def complete(path: Path, who: Sequence[Identity], episodes: Sequence[Episode]) -> list[Record]:
    """The records of the agents and snapshots that have played every episode; it names others."""
    seeds = {episode.seed for episode in episodes}
    found: dict[Identity, dict[int, Record]] = {}
    for record in read_records(path):
        if record.reset_seed in seeds:
            found.setdefault(record.identity, {})[record.reset_seed] = record
    left_out = [one for one in who if len(found.get(one, {})) < len(seeds)]
    if left_out:
        print(f"not complete in {path}, left out: {', '.join(one.label for one in left_out)}")
    return [r for one in who if one not in left_out for _, r in sorted(found[one].items())]


# -- everything ------------------------------------------------------------------------------------


def checked(args: Args) -> tuple[Setup, Task]:
    """What the trainings share, and the task; SystemExit if an argument is wrong."""
    check_ranges(args)
    args.table()
    if args.episodes % UPDATE:
        raise SystemExit(f"--episodes {args.episodes}: expected a multiple of {UPDATE}")
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    setup = args.setup(**FIRST)
    task = args.make(setup).task
    plan = (16, 2) if args.quick else (args.episodes, args.snapshots)
    variant = fitting_variant(task, "--variant", args.variant)
    test_variant = fitting_variant(task, "--test-variant", args.test_variant)
    return Setup(setup.env, dict(setup.kwargs), *plan, variant, test_variant), task


def played(
    args: Args, setup: Setup, out: Path, episodes: Sequence[Episode], once: Sequence[Episode]
) -> tuple[str, list[Record], list[Record]]:
    """The reference, and records of the agents and of the snapshots, after what is left to do."""
    train_all(trainings(args), args, setup, out)
    reference = reference_of(args, out)
    train_all(trainings(args, reference), args, setup, out)
    where = EnvSetup(setup.env, setup.env_kwargs)
    every = entrants(args, reference, out)
    records = compare(every, where, episodes, out / "records.jsonl", args.processes)
    later = compare(snapshots(args, out), where, once, out / "snapshots.jsonl", args.processes)
    return reference, records, later


def read(
    args: Args, out: Path, episodes: Sequence[Episode], once: Sequence[Episode]
) -> tuple[str, list[Record], list[Record]]:
    """The same of what is there already, whatever is complete."""
    reference, path = reference_of(args, out), out / "snapshots.jsonl"
    who = [*untrained(args), *(Identity(*training) for training in trainings(args, reference))]
    records = complete(out / "records.jsonl", who, episodes)
    snapshots = {record.policy: record.identity for record in read_records(path)}
    return reference, records, complete(path, [snapshots[n] for n in sorted(snapshots)], once)


def main(args: Args) -> str:
    """Train, evaluate, report."""
    setup, task = checked(args)
    out = args.out or args.folder("benchmark")
    noted = {**args.noted(), "setup": setup._asdict()}
    count = 1 if args.quick else args.eval_seeds
    episodes = spread(task, setup.test_variant, EVAL_SEED, count)
    once = spread(task, setup.test_variant, EVAL_SEED, 1)
    if args.report:  # while another process goes on, perhaps
        open_run(out, noted)
        reference, records, later = read(args, out, episodes, once)
    else:
        with only_run(out, noted):
            reference, records, later = played(args, setup, out, episodes, once)
    if not records:
        raise SystemExit(f"{out / 'records.jsonl'} has no complete agent yet; run without --report")
    tuned = [name for name, agent in args.table().items() if agent.tuned]
    text = write_benchmark(records, later, out, reference, tuned)
    print(text)
    return text


if __name__ == "__main__":
    run(main, Args)
