"""What trainings left in their folders: how long they took, how a search scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from asg_env.files import BadFile
from asg_env.policies.base import Identity
from asg_env.ranges import Range, whole
from asg_env.sealed import unsealed, whole_lines
from asg_env.typed import LARGEST, from_fields

NUMBER = Range(at_least=-LARGEST, at_most=LARGEST)
METRICS, SEARCH = "metrics.jsonl", "search.jsonl"  # logs of a learned agent, of a random search
AXES = (  # key in METRICS, label, whether it is a sum over the lines
    ("env_steps", "environment steps", False),
    ("optimizer_steps", "optimizer steps of the fine-tuning runs", False),
    ("seconds", "wall-clock seconds of training", True),
)


def training_folder(out: Path, agent: str, seed: int) -> Path:
    """Where a training writes."""
    return out / "agents" / f"{agent.replace(' ', '_')}_{seed}"


def identity_of(folder: str | Path) -> Identity:
    """Who a folder NAME_SEED is of; of another name, the first training of that name."""
    name, _, seed = Path(folder).name.rpartition("_")
    return Identity(name, int(seed)) if seed.isdigit() else Identity(Path(folder).name, 0)


@dataclass(frozen=True)
class Candidate:
    """A line of ``search.jsonl``: what a search played in its ``half`` (1 or 2), one of the
    ``returns`` for each of the ``seeds``; ``optimizer_steps`` and ``seconds`` of all of it."""

    half: Annotated[int, whole(1, 2)]
    parameters: dict[str, Any]
    seeds: list[int]
    returns: list[float]
    optimizer_steps: Annotated[int, whole(0, LARGEST)]
    seconds: Annotated[float, Range(at_least=0)]

    @property
    def score(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))


def read_search(path: Path) -> list[Candidate]:
    """What a search has played so far; without the last line if a crash cut it short.

    Raises:
        BadFile: naming the file and the line.
    """
    found = []
    for where, line in whole_lines(path):
        fields = unsealed(line, where)
        try:
            one = from_fields(Candidate, fields)
        except ValueError as error:
            raise BadFile(f"{where} is no line of a search: {error}") from error
        if not len(one.returns) == len(one.seeds) > 0 or not np.isfinite(one.returns).all():
            raise BadFile(f"{where}: expected a finite return for each seed")
        found.append(one)
    return found


def read_metrics(path: Path, *keys: str) -> list[dict[str, Any]]:
    """The rows of a training's log, without a last line that a crash cut short.

    Args:
        path: of ``metrics.jsonl``.
        keys: what each row has, a number, or None for one that JSON lacks.

    Raises:
        BadFile: naming the file and the line.
    """
    rows = []
    for where, line in whole_lines(path):
        row = unsealed(line, where)
        for key in ("update", *keys):
            value = row.get(key, "missing")
            number = value in NUMBER or (value is None and key != "update")
            if not number or (key == "update" and not isinstance(value, int)):
                raise BadFile(f"{where}: {key} is {str(value)[:60]}, expected a number")
        rows.append(row)
    if not rows:
        raise BadFile(
            f"{path} holds no update: restore it, or delete {path.parent} and train again"
        )
    return rows


def optimizer_steps(folder: Path) -> int | None:
    """How many optimizer steps a training took, by its log; None without one."""
    if (folder / METRICS).exists():
        return int(read_metrics(folder / METRICS, "optimizer_steps")[-1]["optimizer_steps"])
    if (folder / SEARCH).exists():
        return sum(line.optimizer_steps for line in read_search(folder / SEARCH))
    return None


def progress_of(folder: Path) -> dict[str, dict[int, float]]:
    """For each of AXES, its value after each update of a training."""
    rows = read_metrics(folder / METRICS, *(key for key, _, _ in AXES))
    found: dict[str, dict[int, float]] = {}
    for key, _, summed in AXES:
        values = np.array([row[key] for row in rows], dtype=float)
        values = values.cumsum() if summed else values
        found[key] = {row["update"]: float(v) for row, v in zip(rows, values, strict=True)}
    return found


def search_score(folder: Path) -> float:
    """Mean return of a search's winner on the fresh seeds of its second half: of the training
    variants."""
    scores = [line.score for line in read_search(folder / SEARCH) if line.half == 2]
    if not scores:
        raise BadFile(f"{folder / SEARCH}: the search has not ended; the same command resumes it")
    return max(scores)


def best_search(folders: Mapping[str, Sequence[Path]], default: str) -> str:
    """The agent whose searches scored best on average; ``default`` if there is none.

    Args:
        folders: of the trainings, by agent; those that are no search do not count.
        default: an agent.
    """
    scores = {
        agent: [search_score(folder) for folder in own if (folder / SEARCH).exists()]
        for agent, own in folders.items()
    }
    means = {agent: sum(own) / len(own) for agent, own in scores.items() if own}
    return max(means, key=lambda agent: means[agent], default=default)
