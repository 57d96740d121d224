"""Policies by name: the schedules, and learned ones from their files."""

from __future__ import annotations

from pathlib import Path

from agents.baselines import SCHEDULES, SchedulePolicy
from agents.network import LearnedPolicy, load_policy
from asg_env.records import Policy


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
            "agents/reinforce.py writes a folder with a learned policy"
        )
    shown = path.resolve().name if path.is_dir() else path.stem
    policy = LearnedPolicy(load_policy(path), greedy, shown)
    policy.name += "" if policy.greedy else "_sampled"
    return policy
