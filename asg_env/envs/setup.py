"""An environment's id and arguments: one frozen value that makes it, in any process.

A name that the caller registered travels with what it names, so that a worker knows it, too.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from asg_env.envs.arguments import NAMED
from asg_env.envs.finetune import FinetuneEnv
from asg_env.methods.regularizers import REGULARIZERS
from asg_env.registry import Registry, load_attribute, reference
from asg_env.tasks.base import TASKS

REGISTRIES: dict[str, Registry[Any]] = {**NAMED, "regularizer": REGULARIZERS, "task": TASKS}
NAMESPACE = "asg_env:"  # lets a fresh process import the package before it looks up an id


def _registered(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What the registered names among the arguments stand for, by argument: ``"module:attribute"``,
    or the thing if no module holds it; without what has no pickle either."""
    found: dict[str, Any] = {}
    for argument, registry in REGISTRIES.items():
        name = kwargs.get(argument)
        if isinstance(name, str) and name in registry:
            try:
                found[argument] = reference(argument, registry[name])
            except ValueError:
                with suppress(pickle.PicklingError, TypeError, AttributeError):
                    pickle.dumps(registry[name])
                    found[argument] = registry[name]
    return found


def _received(env: str, kwargs: dict[str, Any], registered: dict[str, Any]) -> EnvSetup:
    """The setup, in a process that may not know its names yet."""
    for argument, thing in registered.items():
        registry, name = REGISTRIES[argument], kwargs[argument]
        if name not in registry:
            found = load_attribute(thing, argument) if isinstance(thing, str) else thing
            if name not in registry:  # the module that was just imported may have done it
                registry.register(name, found)
    return EnvSetup(env, kwargs)


@dataclass(frozen=True)
class EnvSetup:
    """What ``gymnasium.make`` is called with.

    ``env``: an id, perhaps as ``"module:id"``, whose module is then imported first. ``kwargs``: the
    environment's arguments; what is added later wins.
    """

    env: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.env, dict(self.kwargs), _registered(self.kwargs))

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
