"""What is fine-tuned: one module per task."""

from asg_env.tasks.base import SPLITS, Defaults, Problem, Task

__all__ = ["SPLITS", "Defaults", "Problem", "Task"]
