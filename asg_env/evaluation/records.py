"""Every result is a record: what was run, what was done, what came out. JSON, one line each."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.arguments import json_arguments
from asg_env.policies.base import Identity

LABEL = re.compile(r"(.+?) #(\d+)(?: @(\d+))?")  # of records that do not know who played


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import torch

    import asg_env

    return {
        "asg_env": asg_env.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Record:
    """One episode.

    ``reset_seed`` seeded the reset, ``groups`` (G) are the layer groups, ``lr_scales``
    (decisions, G) the scales in force, ``steps`` (decisions + 1) the optimizer steps done at the
    start and after each decision, ``final`` is ``evaluate("test")`` at the end. ``device`` and
    ``threads`` (CPU) are what it ran on. ``dataset`` says what the images were, ``problem`` is the
    fingerprint of images and network; ``losses`` (decisions + 1) is ``info["losses"]`` at the start
    and after each decision. ``policy_digest`` is the policy's. These four are empty in records of
    older versions. ``evaluations``: what was looked at on the way (:func:`look`), if anything.
    ``agent``, ``training_seed`` and ``update`` are who played, ``policy`` is what tables call it.
    """

    policy: str
    env_id: str
    kwargs: dict[str, Any]
    reset_seed: int
    groups: list[str]
    actions: list[list[float]]
    rewards: list[float]
    lr_scales: list[list[float]]
    steps: list[int]
    final: dict[str, float]
    terminated: bool
    truncated: bool
    error_type: str | None
    device: str
    threads: int
    versions: dict[str, str] = field(default_factory=versions)
    dataset: str = ""
    problem: str = ""
    losses: list[dict[str, float]] = field(default_factory=list)
    policy_digest: str = ""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    agent: str = ""
    training_seed: int | None = None
    update: int | None = None

    @property
    def identity(self) -> Identity:
        """Who played."""
        return Identity(self.agent or self.policy, self.training_seed, self.update)

    def by(self, identity: Identity) -> Record:
        """The same, played by this one."""
        return dataclasses.replace(self, policy=identity.label, **identity._asdict())

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards."""
        return float(sum(self.rewards))

    def to_json(self) -> str:
        """One line; for the arguments see :func:`~asg_env.arguments.json_arguments`."""
        return json.dumps({**vars(self), "kwargs": json_arguments(self.kwargs)})

    @staticmethod
    def from_json(line: str) -> Record:
        """A record of its line; ValueError if the line is none."""
        try:
            return Record(**_upgraded(json.loads(line)))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"not a record: {line[:80]!r}... ({error})") from error


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of any version as those of this one: older records name who played by a label."""
    if "agent" in fields:
        return fields
    found = LABEL.fullmatch(fields["policy"])
    agent, *numbers = found.groups() if found else (fields["policy"], None, None)
    seed, update = (None if number is None else int(number) for number in numbers)
    return {**fields, **Identity(agent, seed, update)._asdict()}


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The records of a JSONL file; a last line cut short by a crash is left out."""
    text = Path(path).read_text() if Path(path).exists() else ""
    whole = text[: text.rfind("\n") + 1]
    yield from (Record.from_json(line) for line in whole.splitlines() if line.strip())


def append_records(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Append records to a JSONL file, first dropping a line that a crash cut short."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "a+b") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.write("".join(record.to_json() + "\n" for record in records).encode())
