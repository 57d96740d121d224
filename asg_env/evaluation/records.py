"""Every result is a record: what was run, what was done, what came out. JSON, one line each."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.arguments import json_arguments
from asg_env.files import BadFile
from asg_env.policies.base import Identity
from asg_env.sealed import numbers, sealed, unsealed, whole_lines
from asg_env.typed import from_fields
from asg_env.writing import append_lines

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
        "cpu": processor(),
    }


@lru_cache
def processor() -> str:
    """The kind of processor: PyTorch's kernels for it, and the model's name where it is known.

    PyTorch, oneDNN and MKL choose their kernels by it, and these round differently.
    """
    import torch

    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return f"{torch.backends.cpu.get_cpu_capability()}, {name}"


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
    ``context``: what the environment drew for this episode, hidden from the agent.
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
    context: dict[str, Any] = field(default_factory=dict)

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
        """One line, with a checksum; for the arguments see
        :func:`~asg_env.arguments.json_arguments`."""
        return json.dumps(sealed({**vars(self), "kwargs": json_arguments(self.kwargs)}))

    @staticmethod
    def from_json(line: str | bytes, where: str = "the record") -> Record:
        """A record of its line.

        Args:
            line: one JSON object.
            where: the file and the line, for the message.

        Raises:
            BadFile: the line is none, or is not as it was written.
        """
        with _blamed_on(where):
            record = from_fields(Record, _upgraded(unsealed(line, "it")))
            return dataclasses.replace(record, evaluations=numbers(record.evaluations))

    def check_whole(self) -> None:
        """Raise ValueError if its parts do not belong together."""
        _check_lengths(self)
        numbers = [*self.rewards, *chain(*self.actions), *chain(*self.lr_scales)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a reward, action or LR scale is no finite number")
        if not self.rewards or self.reset_seed < 0 or self.threads < 0:
            raise ValueError("no decision, or a seed or number of threads below 0")
        if self.steps != sorted(self.steps) or self.steps[0] < 0:
            raise ValueError(f"steps {self.steps} do not rise")


@contextmanager
def _blamed_on(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise BadFile(f"{where}: not a record: {error}") from error


def _check_lengths(record: Record) -> None:
    decisions, groups = len(record.rewards), len(record.groups)
    lengths = {
        "actions": (len(record.actions), decisions),
        "lr_scales": (len(record.lr_scales), decisions),
        "steps": (len(record.steps), decisions + 1),
        "losses": (len(record.losses), decisions + 1 if record.losses else 0),
        **{f"actions[{k}]": (len(row), groups) for k, row in enumerate(record.actions)},
        **{f"lr_scales[{k}]": (len(row), groups) for k, row in enumerate(record.lr_scales)},
    }
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise ValueError(
                f"{name} holds {found} entries, expected {expected} for {decisions} rewards and "
                f"{groups} groups"
            )


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of any version as those of this one: older records name who played by a label."""
    if "agent" in fields or not isinstance(fields.get("policy"), str):
        return fields
    found = LABEL.fullmatch(fields["policy"])
    agent, *numbers = found.groups() if found else (fields["policy"], None, None)
    seed, update = (None if number is None else int(number) for number in numbers)
    return {**fields, **Identity(agent, seed, update)._asdict()}


def read_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """The records of a JSONL file; a last line cut short by a crash is left out.

    Raises:
        BadFile: naming the file and the line, if it is none, or contradicts itself.
    """
    for where, line in whole_lines(path):
        record = Record.from_json(line, where)
        with _blamed_on(where):
            record.check_whole()
        yield record


def append_records(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Append records to a JSONL file, first dropping a line that a crash cut short."""
    append_lines(path, "".join(record.to_json() + "\n" for record in records))
