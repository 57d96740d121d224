"""A campaign of faults: how many tries of each kind end as they should, in one table.

    python experiments/faults.py

The kinds: random calls of environments; random command lines of every script; SIGKILLs of the
scripts that write, resumed to the end; two of them on one folder; a full disk; damaged files
(experiments/faults_files.py); Ctrl-C, SIGTERM and SIGHUP at random moments.

``fine``: it did what it promises, or said in one line why not, and what was resumed has the bits of
an uninterrupted run. ``silent wrong``: other bits, without a word. ``traceback``: any other end.
``left behind``: processes, locks, half-written files. Exits with 1 unless all is fine.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from asg_env.cli import read_arguments, run
from asg_env.evaluation.endings import Writer, killed, signalled, started_twice, without_room
from asg_env.evaluation.random_calls import DIGITS, SETUPS, random_calls
from asg_env.evaluation.tally import FINE, HANG, LEFT, OUTCOMES, TRACEBACK, Hang, Tally, in_time
from asg_env.learning.run_folder import only_run
from asg_env.ranges import SEED, whole
from asg_env.registry import check_choice
from asg_env.reports.table import Column, Table, named

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds for a command line to be read
MANY = ("reinforce", "sb3", "tune", "finetune", "generalization", "reward_validity")
KIND = Literal["calls", "lines", "kills", "writers", "disk", "files", "signals"]


@dataclass(frozen=True)
class Args:
    """Count how faults of every kind end."""

    kinds: tuple[KIND, ...] = get_args(KIND)
    """Which kinds."""
    scripts: tuple[str, ...] = MANY
    """Which scripts are killed and sent signals: keys of WRITERS in this file."""
    calls: Annotated[int, whole(1)] = 5000
    """Random calls."""
    lines: Annotated[int, whole(1)] = 500
    """Random command lines."""
    kills: Annotated[int, whole(1)] = 10
    """SIGKILLs of each script."""
    signals: Annotated[int, whole(1)] = 1
    """Of each kind to each script."""
    mutations: Annotated[int, whole(1)] = 300
    """Damaged copies of each kind of file."""
    seed: Annotated[int, SEED] = 0
    """Of all that is random."""
    out: Path = Path("runs/faults")
    """Folder for everything it writes; what it has counted already is not tried again."""
    quick: bool = False
    """Small counts."""


QUICK: dict[str, Any] = {
    "calls": 60,
    "lines": 60,
    "kills": 1,
    "signals": 1,
    "mutations": 5,
    "scripts": ("tune",),
}

# -- the scripts -----------------------------------------------------------------------------------

TINY = ("--env-kwargs", "budget", "4", "window", "2")
LONG = ("--env-kwargs", "budget", "2000", "window", "500")
AGENTS = ("reinforce", "ppo", "tuned constant", "random")  # of the benchmark, one of each kind
TWO = ("--num-envs", "2", "--compare", "none")


def _writer(path: str, words: Sequence[str], long: Sequence[str]) -> Writer:
    script = str(ROOT / path)
    return Writer(Path(path).stem, (script, *words), (script, *long))


WRITERS = {
    writer.name: writer
    for writer in (
        _writer(
            "agents/reinforce.py",
            (*TWO, "--updates", "12", "--snapshots", "3", *TINY),
            (*TWO, "--updates", "5000", *TINY),
        ),
        _writer(
            "agents/sb3.py",
            (*TWO, "--episodes", "40", "--eval-every", "16", "--eval-episodes", "2", *TINY),
            (*TWO, "--episodes", "100000", *TINY),
        ),
        _writer("agents/tune.py", ("--episodes", "80", *TINY), ("--episodes", "100000", *TINY)),
        _writer("experiments/finetune.py", ("--env-kwargs", "budget", "100", "window", "4"), LONG),
        _writer("experiments/generalization.py", ("--quick",), LONG),
        _writer("experiments/reward_validity.py", ("--quick",), LONG),
        _writer("experiments/benchmark.py", ("--quick", "--agents", *AGENTS), LONG),
    )
}
"""Scripts that write a folder and resume, with the command lines they are tried with."""

# -- command lines ---------------------------------------------------------------------------------

CHECKS = {"reinforce": "check", "sb3": "resolve", "tune": "check", "finetune": "prepare"}
CHECKS |= {"benchmark": "checked"}
"""What a script looks at before it writes anything, by its name."""
SCRIPTS = [
    path
    for folder in ("agents", "experiments")
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.stem != "__init__"
]
NUMBERS: tuple[str, ...] = (
    "0",
    "1",
    "3",
    "16",
    "0.5",
    "1e-3",
    "-1",
    "nan",
    "inf",
    "1e400",
    "9" * 99,
    "x",
    "",
    "None",
)
TEXTS: tuple[str, ...] = (
    "None",
    "train",
    "test:0",
    "x",
    "",
    "a b",
    "\u00e4\n",
    "*",
    "-x",
    "digits",
    "a:b",
    "random",
)
PATHS = ("out", "a/b", "", "~", "missing/file.json", "\u00e4 b")
PAIRS: tuple[str, ...] = (
    "budget 4 window 2",
    "window paper",
    "base_lr nan",
    "gidance 1",
    "budget",
    "action log",
)
PAIRS += ("batch_size 10000000000", "optimizer sgdd", "budget -1", "variant test", "", "threads 0")


@cache
def script_at(path: Path) -> ModuleType:
    """A script's module, which is not run."""
    name = f"faults_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def choices_of(hint: Any) -> Iterator[str]:
    """Words that an annotation may or may not allow."""
    if get_origin(hint) is Literal:
        yield from map(str, (*get_args(hint), "x", ""))
    elif hint in (int, float):
        yield from NUMBERS
    elif hint is Path:
        yield from PATHS
    elif hint is str:
        yield from TEXTS
    for inner in get_args(hint) if get_origin(hint) is not Literal else ():
        yield from choices_of(inner) if not isinstance(inner, list) else ()


def random_line(kind: type[Any], rng: np.random.Generator) -> list[str]:
    """A command line of a dataclass of arguments: good and bad options and values."""

    def one_of(values: Sequence[str]) -> str:
        return values[int(rng.integers(len(values)))]

    hints, words = get_type_hints(kind), list[str]()
    fields = [field for field in dataclasses.fields(kind)]
    for k in rng.permutation(len(fields))[: int(rng.integers(0, 5))]:
        name, hint = fields[k].name, hints[fields[k].name]
        option = f"--{name.replace('_', '-')}"
        if get_origin(hint) is dict:
            words += [option, *one_of(PAIRS).split()]
        elif hint is bool:
            words += [one_of([option, option.replace("--", "--no-", 1)])]
        else:
            count = int(rng.integers(0, 4)) if get_origin(hint) is tuple else 1
            words += [option, *(one_of([*choices_of(hint)] or ["x"]) for _ in range(count))]
    if (chance := rng.random()) < 0.1:
        words += [one_of(["--zzz", "--", "-q", "--out=", "--sed", "---"]), "3"]
    elif chance < 0.2:
        words = words[:-1]
    elif chance < 0.25:
        words = [*words, "--help"]
    elif chance < 0.35:
        words = [one_of(TEXTS), *words]
    return words


def line_outcome(path: Path, rng: np.random.Generator) -> tuple[str, str]:
    """How a random command line of a script ends, and what there is to say of it."""
    script, said = script_at(path), io.StringIO()
    words = random_line(script.Args, rng)
    about = f"{path.name} {words!r}: "
    try:
        with in_time(PATIENCE), redirect_stdout(said), redirect_stderr(said):
            args = read_arguments(getattr(script, "PRESETS", script.Args), words)
            if path.stem in CHECKS:
                getattr(script, CHECKS[path.stem])(args)
    except Hang:
        return HANG, about
    except SystemExit as end:
        if isinstance(end.code, str):  # one line, as Python prints it
            return (
                FINE if end.code.strip() and "\n" not in end.code else TRACEBACK
            ), about + end.code
        good = end.code == 2 or (end.code == 0 and "--help" in words)
        return (FINE if good and said.getvalue().strip() else TRACEBACK), f"{about}{end.code}"
    except Exception as error:
        return TRACEBACK, f"{about}{type(error).__name__}: {error}"
    return FINE, about


def random_lines(count: int, seed: int, folder: Path, tally: Tally) -> None:
    """Read random command lines of every script, in an empty folder, which must stay so."""
    with working_in(folder), patch.object(sys, "path", [*sys.path]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in tqdm(range(count), "command lines", leave=False):
            rng = np.random.default_rng([seed, number])
            outcome, text = line_outcome(SCRIPTS[number % len(SCRIPTS)], rng)
            written = [str(path) for path in folder.iterdir()]
            if written and outcome == FINE:
                outcome, text = LEFT, f"{text} wrote {', '.join(written)}"
            tally.add(outcome, text)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """The working directory, for a ``with`` block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# -- the campaign ----------------------------------------------------------------------------------


class Task(NamedTuple):
    """A row of the table: ``asked`` is what its counts depend on
    beside the seed, ``run(folder, tally)`` tries."""

    name: str
    asked: list[Any]
    run: Callable[[Path, Tally], object]


def tasks(args: Args) -> Iterator[Task]:
    """The rows of the kinds that are asked for."""
    writers, seed = [WRITERS[name] for name in args.scripts], args.seed
    if "calls" in args.kinds:
        setups = DIGITS if args.quick else SETUPS
        calls = lambda folder, tally: random_calls(args.calls, seed, folder, tally, setups)  # noqa: E731
        yield Task("calls of an environment", [args.calls], calls)
    if "lines" in args.kinds:
        yield Task("command lines", [args.lines], partial(random_lines, args.lines, seed))
    for writer in writers if "kills" in args.kinds else ():
        yield Task(
            f"SIGKILLs of {writer.name}", [args.kills], partial(killed, writer, args.kills, seed)
        )
    if "writers" in args.kinds:
        yield Task("two writers of a folder", [args.quick], partial(two_writers, args.quick))
    if "disk" in args.kinds:
        yield Task("a full disk", [], full_disk)
    if "files" in args.kinds:
        yield Task("damaged files", [args.mutations], partial(damaged_files, args.mutations, seed))
    for writer in writers if "signals" in args.kinds else ():
        told = partial(signalled, writer, args.signals, seed)
        yield Task(f"signals to {writer.name}", [args.signals], told)


def two_writers(quick: bool, folder: Path, tally: Tally) -> None:
    """Two runs on one folder at once."""
    for name in ("tune",) if quick else ("tune", "finetune", "reinforce"):
        started_twice(WRITERS[name], folder, tally)


def full_disk(folder: Path, tally: Tally) -> None:
    """A disk that is full before the first line, or later."""
    without_room(WRITERS["tune"], (4096, 8192, 12288), folder, tally)
    without_room(WRITERS["reinforce"], (8192, 65536, 196608, 262144), folder, tally)


def damaged_files(mutations: int, seed: int, folder: Path, tally: Tally) -> None:
    """What the script of that name counts."""
    words = [sys.executable, str(ROOT / "experiments/faults_files.py")]
    words += ["--mutations", str(mutations), "--seed", str(seed), "--out", str(folder)]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not (folder / "faults_files.json").exists():
        raise SystemExit(f"experiments/faults_files.py ended early: {done.stderr[-500:]}")
    found = json.loads((folder / "faults_files.json").read_text())
    ends = {"silent": "silent wrong", "memory": HANG, "hang": HANG, "traceback": TRACEBACK}
    for row in found["rows"]:
        for name, count in row.items():
            if name != "kind":
                tally.counts[ends.get(name, FINE)] += count
    tally.examples += found["examples"]


def counted(task: Task, seed: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A task's row: that of before if it is the same, else after trying."""
    asked = [*task.asked, seed]
    for row in rows:
        if row["kind"] == task.name and row["asked"] == asked:
            return row
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="faults_") as folder:
        task.run(Path(folder), tally)
    return {"kind": task.name, "asked": asked, **tally.row(), "examples": tally.examples}


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """The counts."""

    def count(key: str) -> Column:
        return Column(key, text=lambda row: str(row[key]))

    return Table(rows, [named("kind", "kind"), *map(count, ("tried", *OUTCOMES))], by=("kind",))


def main(args: Args) -> int:
    """Try, count, report; 1 unless all is fine."""
    if args.quick:
        args = dataclasses.replace(args, **QUICK)
    for name in args.scripts:
        try:
            check_choice("--scripts", name, WRITERS)
        except ValueError as error:
            raise SystemExit(str(error)) from error
    with only_run(args.out):
        path = args.out / "faults.json"
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        for task in (bar := tqdm([*tasks(args)], "faults")):
            bar.set_postfix_str(task.name)
            row = counted(task, args.seed, rows)
            rows = [*(r for r in rows if r["kind"] != task.name), row]
            table_of(rows).write(args.out, "faults")
        print(table_of(rows).markdown())
        bad = [f"{row['kind']}: {example}" for row in rows for example in row["examples"]]
        print("\n".join(bad))
    return int(bool(bad))


if __name__ == "__main__":
    run(main, Args)
