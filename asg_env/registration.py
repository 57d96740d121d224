"""The environments' ids: one row each."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from asg_env.envs.finetune import FinetuneEnv


def make_digits(data_root: str | None = None, **arguments: Any) -> FinetuneEnv:
    """``ASG-Digits-v0``. See :mod:`asg_env.tasks.digits`."""
    from asg_env.tasks.digits import DIGITS  # fonts and images load only when asked for

    if data_root is not None:
        raise ValueError(
            f"data_root={data_root!r}: ASG-Digits-v0 is embedded and reads no folder; leave it out"
        )
    return FinetuneEnv(DIGITS, **arguments)


ENTRY_POINTS = {"ASG-Digits-v0": "asg_env.registration:make_digits"}


def register_envs() -> None:
    """Register every id with Gymnasium, once."""
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point=entry_point)
