"""What trainings left in their folders: how long they took, how a search scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.policies.base import Identity

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


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, without a last line that a crash cut short."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def optimizer_steps(folder: Path) -> int | None:
    """How many optimizer steps a training took, by its log; None without one."""
    if (folder / METRICS).exists():
        return int(read_lines(folder / METRICS)[-1]["optimizer_steps"])
    if (folder / SEARCH).exists():
        return sum(line["optimizer_steps"] for line in read_lines(folder / SEARCH))
    return None


def progress_of(folder: Path) -> dict[str, dict[int, float]]:
    """For each of AXES, its value after each update of a training."""
    rows = read_lines(folder / METRICS)
    found: dict[str, dict[int, float]] = {}
    for key, _, summed in AXES:
        values = np.array([row[key] for row in rows], dtype=float)
        values = values.cumsum() if summed else values
        found[key] = {row["update"]: float(v) for row, v in zip(rows, values, strict=True)}
    return found


def search_score(folder: Path) -> float:
    """Mean return of a search's winner on the fresh seeds of its second half: of the training
    variants."""
    return max(
        float(np.mean(line["returns"])) for line in read_lines(folder / SEARCH) if line["half"] == 2
    )


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
