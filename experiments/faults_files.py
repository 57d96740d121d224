"""What damaged files do: every kind of file that is read back, damaged in many ways, and read.

    python experiments/faults_files.py --mutations 300

Makes one small file of each kind, damages copies of it (flipped bits, cut, lost, repeated or zeroed
ranges, other JSON values and types, NaN, huge numbers, nesting, weights of another kind of number)
and reads each of them. A reading is

``refused``: an error that names the file; ``harmless``: what was read is what was written;
``by hand``: it is something else, and the checksum was removed with it, which is the caller's word;
``silent``: it is something else; ``traceback``: another error; ``memory``, ``hang``: it asked for
gigabytes, or took longer than ten seconds.

Exits with 1 if a reading is none of the first three. With --out it writes the table (Markdown, and
JSON with an example for each such reading).
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import io
import json
import resource
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from tqdm import tqdm

from asg_env.cli import run
from asg_env.deploy import load_student, save_student
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.damages import damaged
from asg_env.evaluation.play import play
from asg_env.evaluation.records import append_records, read_records
from asg_env.evaluation.run import Run
from asg_env.learning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from asg_env.learning.log import Log
from asg_env.learning.run_folder import open_run
from asg_env.policies import load
from asg_env.policies.families import TunedPolicy
from asg_env.policies.official import official_shapes
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.policies.schedules import SchedulePolicy
from asg_env.ranges import SEED, whole
from asg_env.reports.table import Column, Table, named
from asg_env.reports.trainings import optimizer_steps, progress_of, search_score
from asg_env.sealed import line_of

PATIENCE, ROOM = 10, 3 * 2**30  # seconds, bytes beyond what is in use, that a reading may take
GOOD = ("refused", "harmless", "by hand")
OUTCOMES = (*GOOD, "silent", "traceback", "memory", "hang")
SETUP = EnvSetup("ASG-Digits-v0", {"budget": 4, "window": 2, "threads": 1})
CONTINUOUS = SETUP.updated(action="continuous")
POLICY = PolicyArgs("layerwise", 5, 6, hidden=2, heads="shared", skip=True)


@dataclass(frozen=True)
class Args:
    """Damage every kind of file that is read back, and see what reading it does."""

    mutations: Annotated[int, whole(1)] = 300
    """Damaged copies of each kind of file."""
    kinds: tuple[str, ...] = ()
    """Which kinds; none: all."""
    seed: Annotated[int, SEED] = 0
    """Of the damages."""
    out: Path | None = None
    """Folder for faults_files.md and faults_files.json; none: only print."""
    quick: bool = False
    """Twenty copies of each."""


# -- the kinds of files ----------------------------------------------------------------------------


class Kind(NamedTuple):
    """``make(folder)`` writes the files, ``read(folder)`` gives what they say, comparable by
    :func:`same`; ``files`` are those that are damaged."""

    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    files: tuple[str, ...]


def _started() -> Any:
    env = SETUP.make().unwrapped
    env.reset(seed=3)
    env.step(np.full(6, 4))
    return env


def _make_snapshot(folder: Path) -> None:
    _started().save(folder / "snapshot.safetensors")


def _read_snapshot(folder: Path) -> Any:
    env: Any = SETUP.make().unwrapped
    _, info = env.load(folder / "snapshot.safetensors")
    generator = env.np_random.bit_generator.state
    return [info, generator, env._episode.ledger, *env._episode.optimizee.tensors().items()]


def _network() -> tuple[RecurrentPolicy, torch.optim.Optimizer]:
    network = RecurrentPolicy(POLICY)
    return network, torch.optim.Adam(network.parameters())


def _make_checkpoint(folder: Path) -> None:
    network, optimizer = _network()
    logits, _ = network(torch.ones(2, 1, 35), network.initial_state(1))
    logits.square().sum().backward()
    optimizer.step()
    write_checkpoint(folder, Checkpoint.of(network, optimizer, 3))


def _read_checkpoint(folder: Path) -> Any:
    network, optimizer = _network()
    found = read_checkpoint(folder)
    assert found is not None
    found.load_into(network, optimizer)
    again = Checkpoint.of(network, optimizer, found.update)
    return [again.update, *sorted(again.tensors.items())]


def _sb3_model() -> Any:
    from stable_baselines3 import A2C
    from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

    from asg_env.learning.sb3_copies import make_sb3_copies

    setup = CONTINUOUS.updated(observation="paper")
    envs = VecNormalize(VecMonitor(make_sb3_copies(setup, [(0,)], True)))
    return A2C("MlpPolicy", envs, n_steps=2, policy_kwargs={"net_arch": [4]}, device="cpu")


def _make_sb3_checkpoint(folder: Path) -> None:
    from asg_env.learning.sb3_state import write_state

    model = _sb3_model()
    model.learn(4)
    write_state(model, folder, 2, {"episodes": 2, "optimizer_steps": 8, "best": None})


def _read_sb3_checkpoint(folder: Path) -> Any:
    from asg_env.learning.sb3_state import read_state, write_state

    model = _sb3_model()
    update, notes = read_state(model, folder) or (0, {})
    with tempfile.TemporaryDirectory() as other:
        write_state(model, Path(other), update, notes)
        return _tensors_of(Path(other) / "checkpoint.safetensors")


def _tensors_of(path: Path) -> Any:
    with safe_open(str(path), "pt") as file:
        tensors = [(name, file.get_tensor(name)) for name in sorted(file.keys())]
        return [*tensors, json.loads(file.metadata()["state"])]


def _make_sb3_policy(folder: Path) -> None:
    from asg_env.policies.sb3 import Description, SB3Policy, save_sb3_policy

    groups, names = ["a", "head"], ["progress", "x/a", "x/head"]
    low, high = [-1.0] * 3, [1.0] * 3
    network = {"net_arch": [4], "ortho_init": True}
    about = Description("a2c", "paper", groups, names, low, high, network)
    save_sb3_policy(SB3Policy(about, about.build(), np.zeros(3), np.ones(3)), folder)


def _read_policy(folder: Path) -> Any:
    policy = load(folder)
    return [policy.digest, policy.env_kwargs, policy.name]


def _make_published(folder: Path) -> None:
    shapes = official_shapes(2, 11, 2).items()
    torch.save({name: torch.ones(shape) / 8 for name, shape in shapes}, folder / "policy.pth")


def _make_student(folder: Path) -> None:
    facts = {"rule": "last", "steps": 2}
    save_student(folder / "student.safetensors", _started(), SETUP.env, dict(SETUP.kwargs), facts)


def _read_student(folder: Path) -> Any:
    model = load_student(folder / "student.safetensors")
    return [model.classes, model.facts, *model.state_dict().items()]


def _make_records(folder: Path) -> None:
    policies = SchedulePolicy("random"), SchedulePolicy("cosine")
    append_records(folder / "records.jsonl", [play(p, CONTINUOUS, 1) for p in policies])


def _read_records(folder: Path) -> Any:
    """As whoever reads them: by policy and seed. A lost one is played again."""
    found = {(r.policy, r.reset_seed): r for r in read_records(folder / "records.jsonl")}
    return Lines([dataclasses.asdict(record) for record in found.values()])


def _make_run(folder: Path) -> None:
    setup = CONTINUOUS.updated(decide_first=True)
    env = setup.make_unwrapped()
    Run(folder, setup, env, SchedulePolicy("cosine")).train()


def _read_run(folder: Path) -> Any:
    setup = CONTINUOUS.updated(decide_first=True)
    finished = Run(folder, setup, setup.make_unwrapped(), SchedulePolicy("cosine"))
    record = finished.train()
    return [dataclasses.asdict(record), [dataclasses.asdict(row) for row in finished.rows]]


def _make_metrics(folder: Path) -> None:
    with Log(folder, 0) as log:
        for update in (1, 2, 3):
            counts = {"episodes": update, "env_steps": 2 * update, "optimizer_steps": 4 * update}
            numbers = {"return": 0.25 * update, "loss": float("nan"), "seconds": 0.5}
            log.write({"update": update, **numbers, "lr_scale": {"a": 0.5}, **counts})


def _read_metrics(folder: Path) -> Any:
    with Log(folder, 3) as log:
        return [log.last(), progress_of(folder), optimizer_steps(folder)]


def _make_search(folder: Path) -> None:
    own = {"seeds": [1, 2], "optimizer_steps": 8, "seconds": 0.5}
    rows = [{"half": half, "parameters": {"peak": 0.5}, "returns": [0.5, 0.25 * half], **own}
            for half in (1, 1, 2)]  # fmt: skip
    (folder / "search.jsonl").write_text("".join(map(line_of, rows)))


def _read_search(folder: Path) -> Any:
    return [search_score(folder), optimizer_steps(folder)]


ARGS = {"env": "ASG-Digits-v0", "env_kwargs": {"budget": 4}, "seed": 1, "lr": 0.5, "variant": None}
TUNED = TunedPolicy("constant_vector", {"scales": [0.5, 0.25, 1.0]}, 3, "tuned")
BOTH = ("policy.json", "policy.safetensors")
KINDS: dict[str, Kind] = {
    "snapshot": Kind(_make_snapshot, _read_snapshot, ("snapshot.safetensors",)),
    "checkpoint": Kind(_make_checkpoint, _read_checkpoint, ("checkpoint.safetensors",)),
    "sb3 checkpoint": Kind(_make_sb3_checkpoint, _read_sb3_checkpoint, ("checkpoint.safetensors",)),
    "policy": Kind(lambda f: save_policy(_network()[0], f), _read_policy, BOTH),
    "sb3 policy": Kind(_make_sb3_policy, _read_policy, BOTH),
    "tuned": Kind(lambda f: TUNED.save(f / "policy.json"), _read_policy, ("policy.json",)),
    "published": Kind(_make_published, lambda f: load(f / "policy.pth").digest, ("policy.pth",)),
    "student": Kind(_make_student, _read_student, ("student.safetensors",)),
    "records": Kind(_make_records, _read_records, ("records.jsonl",)),
    "run": Kind(_make_run, _read_run, ("metrics.jsonl", "snapshot.safetensors")),
    "metrics": Kind(_make_metrics, _read_metrics, ("metrics.jsonl",)),
    "search": Kind(_make_search, _read_search, ("search.jsonl",)),
    "arguments": Kind(lambda f: open_run(f, ARGS), lambda f: open_run(f, ARGS), ("args.json",)),
}
"""Every kind by name; a new one is a row."""


class Lines(list[Any]):
    """What the lines of a file say, where a lost line does no harm."""


def same(one: Any, other: Any) -> bool:
    """Whether two readings are the same, bit for bit; lost lines do not count."""
    if isinstance(one, Lines):
        return all(any(same(a, b) for b in one) for a in other)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return repr(one) == repr(other)


# -- reading ---------------------------------------------------------------------------------------


class Hang(BaseException):
    """A reading took too long."""


@contextmanager
def limited() -> Iterator[None]:
    """Raise Hang after PATIENCE seconds, MemoryError beyond ROOM, for a ``with`` block."""

    def late(*_: Any) -> None:
        raise Hang

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, limits = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def reading(kind: Kind, folder: Path, written: Any, way: str) -> tuple[str, str]:
    """What a reading of a folder comes to, one of OUTCOMES, and the error's words."""
    try:
        with limited():
            found = kind.read(folder)
    except Hang:
        return "hang", ""
    except (Exception, SystemExit) as error:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or "allocate memory" in text:
            return "memory", text
        says = isinstance(error, (ValueError, OSError, SystemExit)) and any(
            name in text for name in (*kind.files, str(folder))
        )
        return ("refused" if says else "traceback"), text
    if same(written, found):
        return "harmless", ""
    return ("by hand" if way == "by hand" else "silent"), ""


def try_kind(name: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How many of the readings of a kind came to what, and examples of the bad ones."""
    kind, outcomes, examples = KINDS[name], Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as temporary, _silence():
        folder = Path(temporary)
        kind.make(folder)
        whole = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        written = kind.read(folder)
        for number in tqdm(range(count), name, leave=False):
            rng = np.random.default_rng([seed, list(KINDS).index(name), number])
            for path, content in whole.items():
                path.write_bytes(content)
            target = folder / kind.files[int(rng.integers(len(kind.files)))]
            way, content = damaged(target, rng)
            target.write_bytes(content)
            outcome, text = reading(kind, folder, written, way)
            outcomes[outcome] += 1
            if outcome not in GOOD:
                words = text.partition("\n")[0][:200].replace(temporary, "")
                examples.append(f"{name} {number}: {target.name}, {way}: {outcome} {words}")
    return outcomes, examples


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def main(args: Args) -> int:
    """Damage, read, count; 1 if a reading is none of GOOD."""
    if unknown := [name for name in args.kinds if name not in KINDS]:
        raise SystemExit(f"--kinds {unknown[0]}: expected some of {', '.join(KINDS)}")
    rows, examples = list[dict[str, Any]](), list[str]()
    for name in args.kinds or KINDS:
        outcomes, bad = try_kind(name, 20 if args.quick else args.mutations, args.seed)
        rows.append({"kind": name, **{key: outcomes[key] for key in OUTCOMES}})
        examples += bad
    columns = [named("kind", "kind"), *(Column(k, text=_count(k)) for k in OUTCOMES)]
    table = Table(rows, columns, by=("kind",), head={"examples": examples})
    print(table.markdown() if args.out is None else table.write(args.out, "faults_files"))
    print("\n".join(examples))
    return int(bool(examples))


def _count(key: str) -> Callable[[Any], str]:
    return lambda row: str(row[key])


if __name__ == "__main__":
    run(main, Args)
