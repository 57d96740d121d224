"""Policies by name: the schedules, and learned ones from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from asg_env.policies.base import Policy
from asg_env.policies.families import load_tuned
from asg_env.policies.recurrent import LearnedPolicy, load_policy
from asg_env.policies.schedules import SCHEDULES, SchedulePolicy

if TYPE_CHECKING:
    from asg_env.policies.sb3 import SB3Policy


def make_policy(name: str, greedy: bool | None = None) -> Policy:
    """The policy of a name.

    Args:
        name: a key of SCHEDULES, or the folder or a file of a learned policy. A folder that is
            named like a schedule is ``./NAME``.
        greedy: a learned policy does not explore; False: it samples, and its name says so. None:
            as it was made for.

    Raises:
        ValueError: neither a schedule nor a file, or the file is damaged.
        FileNotFoundError: the folder holds no policy.
    """
    if name in SCHEDULES:
        return SchedulePolicy(name)
    path = Path(name)
    if not name or not (path.exists() or path.with_suffix(".safetensors").exists()):
        raise ValueError(
            f"{name!r} is no schedule and no file; the schedules are {', '.join(SCHEDULES)}; "
            "agents/reinforce.py and agents/sb3.py write a folder with a learned policy"
        )
    shown = path.resolve().name if path.is_dir() else path.stem
    tuned = path / "policy.json" if path.is_dir() else path.with_suffix(".json")
    if _entry(tuned, "family") is not None:
        return load_tuned(tuned)
    policy = _learned(path, greedy, shown)
    policy.name += "" if policy.greedy else "_sampled"
    return policy


def _learned(path: Path, greedy: bool | None, name: str) -> LearnedPolicy | SB3Policy:
    """A policy of the kind that its JSON names; without one, of agents/reinforce.py."""
    file = path / "policy.safetensors" if path.is_dir() else path.with_suffix(".safetensors")
    if _entry(file.with_suffix(".json"), "kind") != "sb3" or not file.is_file():
        return LearnedPolicy(load_policy(path), greedy, name)
    from asg_env.policies.sb3 import load_sb3_policy  # slow to import

    return load_sb3_policy(file, greedy, name)


def _entry(path: Path, name: str) -> str | None:
    """An entry of a JSON file, or None."""
    try:
        return json.loads(path.read_text())[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever loads it says what is wrong
