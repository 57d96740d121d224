"""Every result is a record: what was run, what was done, what came out. JSON, one line each."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np

from asg_env.arguments import json_arguments


class Policy(Protocol):
    """What every agent offers. ``env_kwargs`` are the spaces it was made for."""

    name: str
    env_kwargs: dict[str, Any]

    @property
    def digest(self) -> str:
        """What it is, in a few characters: others' differ."""

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action for an observation."""


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
            return Record(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"not a record: {line[:80]!r}... ({error})") from error


@dataclass(frozen=True)
class Decision:
    """What a policy did once and what came of it; see :class:`Record` for the units."""

    action: list[float]
    reward: float
    lr_scale: list[float]
    steps: int
    terminated: bool
    truncated: bool
    error_type: str | None

    @property
    def last(self) -> bool:
        """Whether the episode ended with it."""
        return self.terminated or self.truncated


def decide(
    env: gym.Env[Any, Any], policy: Policy, observation: np.ndarray
) -> tuple[Decision, np.ndarray, dict[str, Any]]:
    """Let a policy take one decision; return it and the observation and info that followed."""
    u: Any = env.unwrapped
    action = policy.act(observation)
    observation, reward, terminated, truncated, info = env.step(action)
    decision = Decision(
        action=np.asarray(action).tolist(),
        reward=float(reward),
        lr_scale=(info["lr"] / u.config.base_lr).tolist(),
        steps=info["steps"],
        terminated=bool(terminated),
        truncated=bool(truncated),
        error_type=info.get("error_type"),
    )
    return decision, observation, info


def record_of(
    env: gym.Env[Any, Any],
    policy: Policy,
    run: tuple[str, dict[str, Any], int],
    moments: Sequence[tuple[int, dict[str, float]]],
    decisions: Sequence[Decision],
    final: dict[str, float],
) -> Record:
    """The record of an episode of ``env``.

    Args:
        env: what it was played on.
        policy: who played it.
        run: the environment's id and arguments, and the reset's seed.
        moments: optimizer steps done and ``info["losses"]``, at the start and after each decision.
        decisions: all of them.
        final: ``evaluate("test")`` at the end.
    """
    u: Any = env.unwrapped
    last = decisions[-1]
    return Record(
        *(
            policy.name,
            *run,
            u.group_names,
            [d.action for d in decisions],
            [d.reward for d in decisions],
        ),
        *([d.lr_scale for d in decisions], [steps for steps, _ in moments], final),
        terminated=last.terminated,
        truncated=last.truncated,
        error_type=last.error_type,
        device=u.device.type,
        threads=u.threads,
        dataset=u.dataset_name,
        problem=u.problem.fingerprint,
        losses=[losses for _, losses in moments],
        policy_digest=policy.digest,
    )


def look(env: gym.Env[Any, Any], steps: int) -> dict[str, Any]:
    """What there is to see of a student: ``steps`` done, what ``evaluate`` says of ``inner_valid``
    (with ``kl``, nats) and ``test``, and ``similarity`` to the start on images of ``test``."""
    u: Any = env.unwrapped
    kl = float(u.proxy_losses("inner_valid").kl)
    inner_valid = {**u.evaluate("inner_valid"), "kl": kl}
    found = {"inner_valid": inner_valid, "test": u.evaluate("test"), "similarity": u.similarity()}
    return {"steps": steps, **found}


Watch = Literal["nothing", "end", "all"]
"""When :func:`run_episode` looks at the student: never, at the end, at every decision."""


def run_episode(
    env: gym.Env[Any, Any],
    policy: Policy,
    env_id: str,
    kwargs: dict[str, Any],
    seed: int,
    watch: Watch = "nothing",
) -> Record:
    """Play one episode of ``env``, made by ``gymnasium.make(env_id, **kwargs)``, with a policy.

    Raises:
        TypeError, ValueError: before the first step: an argument that no record could note.
    """
    u: Any = env.unwrapped
    run = env_id, json_arguments(kwargs), seed
    observation, info = env.reset(seed=seed)
    policy.begin(u.group_names, u.observation_names, seed)
    moments, decisions = [(info["steps"], info["losses"])], list[Decision]()
    seen = [look(env, info["steps"])] if watch == "all" else []
    while not (decisions and decisions[-1].last):
        decision, observation, info = decide(env, policy, observation)
        decisions.append(decision)
        moments.append((info["steps"], info["losses"]))
        if watch == "all" or (watch == "end" and decision.last):
            seen.append(look(env, info["steps"]))
    final = seen[-1]["test"] if seen else u.evaluate("test")
    record = record_of(env, policy, run, moments, decisions, final)
    return dataclasses.replace(record, evaluations=seen)


class _Replayed:
    """A policy that repeats a record's actions."""

    def __init__(self, record: Record, dtype: Any) -> None:
        self.name, self.env_kwargs = record.policy, dict(record.kwargs)
        self.digest = record.policy_digest
        self._actions = iter(np.asarray(a, dtype=dtype) for a in record.actions)

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Nothing to prepare."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The next recorded action."""
        return next(self._actions)


def _watched(record: Record) -> Watch:
    if not record.evaluations:
        return "nothing"
    return "all" if len(record.evaluations) > 1 else "end"


def replay(record: Record) -> list[str]:
    """Run a record's episode again.

    Returns:
        The differences found, in words; empty if rewards and final evaluation match exactly.
    """
    setup = {"device": record.device, "threads": record.threads}
    env = gym.make(record.env_id, **{**record.kwargs, **setup})
    policy = _Replayed(record, env.action_space.dtype)
    try:
        watch = _watched(record)
        again = run_episode(env, policy, record.env_id, record.kwargs, record.reset_seed, watch)
    except StopIteration:
        return [f"the episode goes on after the recorded {len(record.actions)} decisions"]
    finally:
        env.close()
    found = []
    for name in (f.name for f in dataclasses.fields(Record) if f.name != "versions"):
        was, now = getattr(record, name), getattr(again, name)
        unnoted = name in ("dataset", "problem", "losses") and not was
        if repr(was) != repr(now) and not unnoted:  # repr, so that NaN equals NaN
            found.append(f"{name}: recorded {was}, now {now}")
    if found and again.versions != record.versions:
        found.append(f"versions: recorded {record.versions}, now {again.versions}")
    return found


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
