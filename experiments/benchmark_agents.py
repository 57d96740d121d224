"""The benchmark's agents: what each is, and how one is trained in the benchmark's environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from agents import reinforce, sb3, tune
from asg_env.learning.checkpoint import open_run
from asg_env.policies.families import FAMILIES
from asg_env.policies.sb3_algorithms import ALGORITHMS

TUNED = "tuned "  # how the names of tuned schedules begin
FIRST = {"decide_first": True}  # no step before the first decision, for all as for schedules
COPIES = 8  # environment copies of an SB3 agent, as many as REINFORCE has
UPDATE = COPIES * max(row.run["episodes"].value for row in ALGORITHMS.values())
"""Episodes of the longest update: a training has a multiple, so that all have the same number."""


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


def _reinforce(preset: str, setup: Setup, seed: int, out: Path, **changes: Any) -> Any:
    """REINFORCE in this benchmark's environment, whatever environment its preset has."""
    default = dataclasses.replace(reinforce.PRESETS[preset], **changes)
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
    open_run(out, sb3.noted(args))
    return sb3.train(args)


def _tuned(family: str, setup: Setup, seed: int, out: Path) -> Any:
    args = tune.Args(**_common(setup, seed, out), family=family, episodes=setup.episodes)
    return tune.train(args)


def _agents() -> dict[str, Agent]:
    heads: dict[str, Any] = {"heads": "separate", "scale": "categorical"}  # what SB3's agents have
    table = {
        "reinforce": Agent("agents/reinforce.py", partial(_reinforce, "fixed")),
        "reinforce_categorical": Agent(
            "the same, --heads separate --scale categorical, as PPO has",
            partial(_reinforce, "fixed", **heads),
        ),
        "reinforce_paper": Agent(
            "the same, --preset paper, which deploys it sampling", partial(_reinforce, "paper")
        ),
    }
    for name in ALGORITHMS:
        table[name] = Agent(f"agents/sb3.py --algo {name}", partial(_sb3, name))
    for name, family in FAMILIES.items():
        table[f"{TUNED}{name}"] = Agent(f"random search: {family.about}", partial(_tuned, name))
    return {**table, "random": Agent("any LR scale at any time", None)}


AGENTS = _agents()
"""Every agent by name; a new one is one row."""
