"""What is fine-tuned: one module per task."""

from asg_env.tasks.base import SPLITS, Batch, Defaults, Problem, Task, TensorSplit

__all__ = ["SPLITS", "Batch", "Defaults", "Problem", "Task", "TensorSplit"]
