"""What the experiments' command lines share: the task, and how small ``--quick`` is."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from asg_env.cli import TASKS, EnvKwargs, check_env
from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.setup import EnvSetup

TaskName = Literal["digits", "visda", "image_folder"]
QUICK = {"budget": 4, "window": 2}  # optimizer steps
FIRST = {"decide_first": True}  # no step before the first decision, for all as for schedules
OWN_OPTIONS = {  # arguments of the environment that --env-kwargs may not set
    "action": "the policies set it",
    "observation": "the policies set it",
    "variant": "--variant and --test-variant choose it",
}


@dataclass(frozen=True)
class TaskArgs:
    """Arguments of an experiment on a task.

    ``may_change``: those that may change between calls; what is in the folder stays true.
    """

    task: TaskName = "digits"
    """Which environment, by a short name."""
    env: str | None = None
    """Its id instead; "module:id" imports the module that registers it."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    quick: bool = False
    """A tiny run: four optimizer steps."""
    may_change: ClassVar[tuple[str, ...]] = ("out",)

    @property
    def option(self) -> str:
        """What chose the environment on the command line."""
        return f"--task {self.task}" if self.env is None else f"--env {self.env}"

    def setup(self, **first: Any) -> EnvSetup:
        """The environment; ``first`` are arguments that --env-kwargs may change."""
        small = QUICK if self.quick else {}
        return EnvSetup(self.env or TASKS[self.task], {**first, **self.env_kwargs, **small})

    def make(self, setup: EnvSetup | None = None) -> FinetuneEnv:
        """The environment of a setup, by default of :meth:`setup`; SystemExit if an argument is
        wrong."""
        return check_env(self.setup() if setup is None else setup, self.option)

    def folder(self, experiment: str) -> Path:
        """Where an experiment writes that was told no folder."""
        return Path(f"runs/{experiment}_{re.sub('[^A-Za-z0-9._-]', '_', self.env or self.task)}")

    def noted(self) -> dict[str, Any]:
        """What the folder remembers: the arguments that must not change."""
        every = dataclasses.asdict(self)
        return {name: value for name, value in every.items() if name not in self.may_change}
