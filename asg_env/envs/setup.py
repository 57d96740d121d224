"""An environment's id and arguments: one frozen value that makes it, in any process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from asg_env.envs.finetune import FinetuneEnv

NAMESPACE = "asg_env:"  # lets a fresh process import the package before it looks up an id


@dataclass(frozen=True)
class EnvSetup:
    """What ``gymnasium.make`` is called with.

    ``env``: an id, perhaps as ``"module:id"``, whose module is then imported first. ``kwargs``: the
    environment's arguments; what is added later wins.
    """

    env: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, **kwargs: Any) -> EnvSetup:
        """The same with more arguments."""
        return dataclasses.replace(self, kwargs={**self.kwargs, **kwargs})

    def make(self) -> gym.Env[Any, Any]:
        """The environment, as Gymnasium wraps it.

        Raises:
            gymnasium.error.Error, TypeError, ValueError: as ``gymnasium.make`` does.
        """
        env_id = self.env if ":" in self.env else NAMESPACE + self.env
        return gym.make(env_id, **self.kwargs)

    def make_unwrapped(self) -> FinetuneEnv:
        """The environment itself; ValueError if the id is of another kind of environment."""
        env = self.make().unwrapped
        if not isinstance(env, FinetuneEnv):
            raise ValueError(f"{self.env}: a {type(env).__name__}, which does no fine-tuning")
        return env
