"""The Gymnasium environment."""

from asg_env.envs.finetune import FinetuneEnv

__all__ = ["FinetuneEnv"]
