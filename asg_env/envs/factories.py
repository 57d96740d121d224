"""What ``gymnasium.make`` calls: one function for each id."""

from __future__ import annotations

from typing import Any

from asg_env.envs.finetune import FinetuneEnv


def make_digits(data_root: str | None = None, **arguments: Any) -> FinetuneEnv:
    """``ASG-Digits-v0``. See :mod:`asg_env.tasks.digits`."""
    from asg_env.tasks.digits import DIGITS  # fonts and images load only when asked for

    if data_root is not None:
        raise ValueError(
            f"data_root={data_root!r}: ASG-Digits-v0 is embedded and reads no folder; leave it out"
        )
    return FinetuneEnv(DIGITS, **arguments)
