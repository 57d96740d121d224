"""Nobody says which learning rate is right: who copes with it, and what does a wrong one cost?

    python experiments/context.py compare --policies runs/reinforce_0 runs/reinforce_1
    python experiments/context.py regret  --policies runs/reinforce_0 runs/reinforce_1
    python experiments/context.py regret --env ASG-ImageFolder-v0 --families --schedules \\
        runs/context_ASG-DigitsContext-v0/tuned/cosine_0 --policies runs/reinforce_0 \\
        --env-kwargs source_root cartoon target_root photo model cifar_resnet20 weights r20.th

``compare``: on held-out episodes of a context id, whose base learning rate nobody is told: learned
policies, the schedules and rivals that agents/tune.py finds on training contexts (searched here, or
found by an earlier call), optimizers without a learning rate, and bounds: the best of many
schedules on the very episode, the head alone, and each policy shown another episode's observations.

``regret``: the same agents where the base learning rate is wrong by a known factor, 1/30 to 30
times the task's own, in half decades. Both write into one folder and share what they find there;
interrupt them whenever you like, the same command resumes. They write records (JSONL), tables
(Markdown + JSON) and plots: ``compare``, ``seeds`` (each training by itself), ``regret``.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro
from tqdm import tqdm

from asg_env.cli import blamed_on, check_ranges, fitting_variant, refuse_env_kwargs, run
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.commands import Command, run_commands
from asg_env.evaluation.compare import Entrant, Episode, as_entrants, check_names, compare, spread
from asg_env.evaluation.observed import observations_of
from asg_env.evaluation.records import Record
from asg_env.experiment import OWN_OPTIONS, TaskArgs
from asg_env.learning.copies import EVAL_SEED
from asg_env.learning.run_folder import only_run
from asg_env.policies import load
from asg_env.policies.base import Identity
from asg_env.policies.families import TunedPolicy
from asg_env.policies.rivals import RIVALS, SEARCHED
from asg_env.policies.schedules import SchedulePolicy
from asg_env.policies.shuffled import ShuffledPolicy
from asg_env.ranges import Range, whole
from asg_env.registry import check_choice
from asg_env.reports.context import (
    CEILING,
    FROZEN,
    compare_rows,
    compare_table,
    played,
    regret_rows,
    regret_table,
    seed_rows,
    seed_table,
)
from asg_env.reports.context_plots import BOUND, LEARNED, RIVAL, SCHEDULE, plot_compare, plot_regret
from asg_env.reports.trainings import SEARCH, best_search, identity_of

TUNE = Path(__file__).resolve().parent.parent / "agents" / "tune.py"
BANK_SEED = 700_000  # the first seed of the episodes whose observations are shown to others
ERRORS = tuple(k / 2 for k in range(-3, 4))  # log10 of base LR / the task's own
GRID_DECADES = 4.0  # over which the oracle's learning rates lie, around the task's own
ORACLE = ("cosine", "small_backbone_cosine")
QUICK_SEARCH = 4  # episodes


@dataclass(frozen=True)
class Args(TaskArgs):
    """Compare who sets learning rates where the base learning rate is hidden, or wrong."""

    question: tyro.conf.Positional[Literal["compare", "regret"]] = "compare"
    """Hidden learning rates, or wrong ones."""
    env: str | None = "ASG-DigitsContext-v0"
    """Environment id. Of one without a context of its own the base learning rate is hidden."""
    policies: tuple[str, ...] = ()
    """Folders NAME_SEED of learned policies; those of one NAME are trainings of one agent."""
    schedules: tuple[str, ...] = ()
    """Folders of agents/tune.py, searched before, or names of schedules."""
    families: tuple[str, ...] = tuple(SEARCHED)
    """What is searched here on training contexts, by agents/tune.py; write none for none."""
    rivals: tuple[str, ...] = ("ldog", "prodigy")
    """Rivals that take part without a search."""
    trust: tuple[str, ...] = ()
    """Modules that a policy's files may name as their loader."""
    variant: str | None = "train"
    """Variant to search on."""
    test_variant: str | None = "test"
    """Variant to play on."""
    search_episodes: Annotated[int, whole(1)] = 960
    """Training episodes of each search."""
    episodes: Annotated[int, whole(1)] = 60
    """Held-out episodes of ``compare``, rounded up to a multiple of the variants."""
    wrong_episodes: Annotated[int, whole(1)] = 20
    """Of these, at each wrong learning rate of ``regret``."""
    oracle_points: Annotated[int, whole(0)] = 9
    """Learning rates that the oracle tries for each of its two schedules; 0: no oracle."""
    bank: Annotated[int, whole(0)] = 16
    """Other episodes whose observations a policy is shown; 0: none is."""
    decades: Annotated[float, Range(above=0, at_most=12)] = 4.0
    """Width of the hidden learning rates where the id has no context of its own."""
    processes: Annotated[int, whole(1, 1024)] = 2
    """Searches, or episodes, at a time: a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/context_ENV."""
    quick: bool = False
    """A tiny run that touches every agent."""
    may_change = (
        *("question", "policies", "schedules", "families", "rivals", "trust", "episodes"),
        *("wrong_episodes", "oracle_points", "bank", "processes", "out"),
    )


class Where(NamedTuple):
    """``setup``: what is played on, whose base learning rate ``context`` draws; ``own``: the task's
    base learning rate. ``episodes``: all that there are; ``bank``: others."""

    setup: EnvSetup
    context: Mapping[str, Any]
    own: float
    episodes: list[Episode]
    bank: list[Episode]
    title: str
    out: Path

    def at(self, lr: float) -> dict[str, Any]:
        """The context with that base learning rate; whatever else it draws stays the same."""
        return {**self.context, "base_lr": ("uniform", lr, math.nextafter(lr, math.inf))}


class Cast(NamedTuple):
    """Who takes part, what kind each agent is (a key of COLOURS) and whom all are compared with."""

    players: list[Entrant]
    kinds: dict[str, str]
    reference: str


# -- who takes part --------------------------------------------------------------------------------


def search_commands(args: Args, where: Where) -> dict[str, Command]:
    """The search of each family, by its folder's name."""
    pairs = [
        str(word) for pair in where.setup.kwargs.items() for word in pair if pair[0] != "context"
    ]
    found = {}
    for family in args.families:
        folder = where.out / "tuned" / f"{family}_0"
        words = [sys.executable, str(TUNE), "--family", family, "--env", where.setup.env]
        words += ["--env-kwargs", *pairs] if pairs else []
        words += ["--variant", str(args.variant), "--out", str(folder)]
        words += ["--episodes", str(QUICK_SEARCH if args.quick else args.search_episodes)]
        words += ["--repeats", "2", "--finalists", "1"] if args.quick else []
        found[str(folder)] = Command(f"search of {family}", words, folder / "search.log")
    return found


def search(args: Args, where: Where) -> list[str]:
    """Search every family that has not been searched; the folders."""
    commands = search_commands(args, where)
    if commands and "context" in where.setup.kwargs:
        raise SystemExit(
            f"--families: {where.setup.env} has no context of its own to search on: write "
            "--families without a name, and --schedules for what was searched elsewhere"
        )
    left = [c for folder, c in commands.items() if not (Path(folder) / "policy.json").exists()]
    with tqdm(total=len(commands), initial=len(commands) - len(left), desc="searches") as bar:
        run_commands(left, args.processes, lambda command: bar.update())
    return list(commands)


def learned(args: Args) -> list[Entrant]:
    """The learned policies."""
    made = []
    for path in args.policies:
        with blamed_on(f"--policies {path}"):
            made.append(Entrant(load(path, trust=args.trust), identity_of(path)))
    return made


def shuffled(players: Sequence[Entrant], where: Where, processes: int) -> list[Entrant]:
    """Each policy shown the observations of other episodes, its own there."""
    if not where.bank or not players:
        return []
    inner = [who.policy for who in players]
    seen = observations_of(inner, where.setup, where.bank, where.out / "bank.jsonl", processes)
    made = []
    for who, bank in zip(players, seen, strict=True):
        identity = who.identity._replace(agent=f"{who.identity.agent}, shuffled")
        made.append(Entrant(ShuffledPolicy(who.policy, bank, identity.label), identity))
    return made


def cast(args: Args, where: Where) -> Cast:
    """Everybody, after the searches."""
    own = learned(args)
    folders, kinds = (
        [*search(args, where), *args.schedules],
        {w.identity.agent: LEARNED for w in own},
    )
    others, searched = list[Entrant](), dict[str, list[Path]]()
    for path in [*folders, *args.rivals]:
        with blamed_on(f"--schedules {path}"):
            policy = load(path, trust=args.trust)
        others.append(Entrant(policy, Identity(policy.name)))
        is_schedule = isinstance(policy, (TunedPolicy, SchedulePolicy))
        kinds[policy.name] = SCHEDULE if is_schedule else RIVAL
        if is_schedule and (Path(path) / SEARCH).exists():
            searched.setdefault(policy.name, []).append(Path(path))
    schedules = [name for name, kind in kinds.items() if kind == SCHEDULE]
    if not schedules:
        raise SystemExit("--families or --schedules: expected a schedule to compare with")
    frozen = SchedulePolicy("frozen_backbone", FROZEN, context=where.at(where.own))
    mixed = shuffled(own, where, args.processes) if args.question == "compare" else []
    players = [*own, *others, *mixed, *as_entrants([frozen])]
    with blamed_on("--policies, --schedules and --rivals"):
        check_names(players)
    kinds |= {CEILING: BOUND, FROZEN: BOUND, **{who.identity.agent: BOUND for who in mixed}}
    return Cast(players, kinds, best_search(searched, schedules[0]))


def oracle(args: Args, where: Where, episodes: Sequence[Episode]) -> list[Record]:
    """Many schedules at many learning rates on each of the episodes."""
    exponents = np.linspace(-GRID_DECADES / 2, GRID_DECADES / 2, max(1, args.oracle_points))
    tried = [
        SchedulePolicy(name, f"{name} {lr:.4g}", context=where.at(lr))
        for name in ORACLE
        for lr in (where.own * 10.0**exponents).tolist()
    ]
    if not args.oracle_points:
        return []
    return compare(tried, where.setup, episodes, where.out / "oracle.jsonl", args.processes)


# -- the two questions -----------------------------------------------------------------------------


def compare_hidden(args: Args, where: Where, who: Cast) -> str:
    """Everybody on all episodes, each with a learning rate of its own."""
    path = where.out / "records.jsonl"
    records = compare(who.players, where.setup, where.episodes, path, args.processes)
    found = played(records, oracle(args, where, where.episodes))
    rows = compare_rows(found, who.reference)
    table = compare_table(rows, who.reference, where.title, found.left_out)
    text = table.write(where.out, "compare")
    seed_table(seed_rows(found)).write(where.out, "seeds")
    plot_compare(rows, who.kinds, who.reference, where.title, where.out / "compare.png")
    return text


def compare_wrong(args: Args, where: Where, who: Cast) -> str:
    """Everybody on some episodes, at each wrong learning rate."""
    episodes, by_error = where.episodes[: args.wrong_episodes], {}
    for error in ERRORS:
        setup = where.setup.updated(context=where.at(where.own * 10.0**error))
        path = where.out / f"error_{error:+.1f}.jsonl"
        by_error[error] = compare(who.players, setup, episodes, path, args.processes)
    rows = regret_rows(by_error, oracle(args, where, episodes))
    text = regret_table(rows, where.title).write(where.out, "regret")
    plot_regret(rows, who.kinds, who.reference, where.title, where.out / "regret.png")
    return text


QUESTIONS = {"compare": compare_hidden, "regret": compare_wrong}


def find(args: Args, out: Path) -> Where:
    """What is played on; SystemExit if an argument is wrong."""
    check_ranges(args)
    refuse_env_kwargs(args.env_kwargs, {**OWN_OPTIONS, "context": "it is the id's"})
    with blamed_on("--families and --rivals"):
        for family in args.families:
            check_choice("family", family, SEARCHED)
        for rival in args.rivals:
            check_choice("rival", rival, RIVALS)
    setup = args.setup()
    task = args.make(setup).task
    fitting_variant(task, "--variant", args.variant)
    variant = fitting_variant(task, "--test-variant", args.test_variant)
    env = args.make(setup.updated(variant=variant))
    own, context = env.config.base_lr, env.config.context
    if context is None:
        low, high = (own * 10.0**d for d in (-args.decades / 2, args.decades / 2))
        context = {"base_lr": ("log_uniform", low, high)}
        setup = setup.updated(context=context)
    count, banked = (1, min(args.bank, 1)) if args.quick else (args.episodes, args.bank)
    bank = spread(task, variant, BANK_SEED, banked)
    episodes = spread(task, variant, EVAL_SEED, count)
    return Where(setup, context, own, episodes, bank, f"{setup.env}, {env.dataset_name}", out)


def main(args: Args) -> str:
    """Search, play, report."""
    out = args.out or args.folder("context")
    where = find(args, out)
    with only_run(out, args.noted()):
        text = QUESTIONS[args.question](args, where, cast(args, where))
        print(text)
        return text


if __name__ == "__main__":
    run(main, Args)
