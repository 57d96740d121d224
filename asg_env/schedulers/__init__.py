"""A policy as a learning-rate scheduler in anyone's training loop."""

from asg_env.schedulers.groups import param_groups
from asg_env.schedulers.policy_lr import PolicyLR

__all__ = ["PolicyLR", "param_groups"]
