"""The environments' ids: one row each."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

ENTRY_POINTS = {
    "ASG-Digits-v0": "asg_env.envs.asg_env:make_digits",
    "ASG-VisDA-v0": "asg_env.envs.asg_env:make_visda",
    "ASG-DigitsContext-v0": "asg_env.envs.asg_env:make_digits_context",
    "ASG-VisDAContext-v0": "asg_env.envs.asg_env:make_visda_context",
    "ASG-ImageFolder-v0": "asg_env.envs.asg_env:make_image_folder",
}


def register_envs() -> None:
    """Register every id with Gymnasium, once."""
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point)
