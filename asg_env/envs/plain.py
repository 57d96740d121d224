"""Plain Python values: of the arguments that are given, and in the spec that Gymnasium notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from asg_env.arguments import json_arguments


def plain_values(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, a NumPy scalar as Python's; ValueError for a larger array, naming it."""
    plain = {}
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError(f"{name}={value!r}: expected one value, not an array of them")
        plain[name] = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return plain


class PlainSpec(gym.Env[np.ndarray, np.ndarray]):
    """An environment whose ``spec`` holds JSON values, so that ``spec.to_json()`` works.

    What Python can import stands there as ``"module:attribute"``; other objects stay.
    """

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What ``gymnasium.make`` made it of."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            kwargs = dict(spec.kwargs)
            for name in kwargs:
                with suppress(TypeError, ValueError):
                    kwargs |= json_arguments({name: kwargs[name]})
            spec = dataclasses.replace(spec, kwargs=kwargs)
        self._spec = spec
