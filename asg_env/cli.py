"""What the scripts' command lines share: arguments of the environment, presets, one-line errors."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TypeVar

import gymnasium as gym
import tyro
from tyro.constructors import PrimitiveConstructorSpec

import asg_env  # noqa: F401 - registers the ids
from asg_env.envs import FinetuneEnv
from asg_env.envs.registration import ENTRY_POINTS
from asg_env.tasks.base import Task

Arguments = TypeVar("Arguments")
Value = int | float | bool | str | None
WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


def read_value(word: str) -> Value:
    """True, False or None in any case, an int, a float, or else the word itself."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word)
    return word


EnvKwargs = dict[
    str,
    Annotated[
        Value,
        PrimitiveConstructorSpec(
            nargs=1,
            metavar="VALUE",
            instance_from_str=lambda words: read_value(words[0]),
            is_instance=lambda value: isinstance(value, (int, float, str, type(None))),
            str_from_instance=lambda value: [str(value)],
        ),
    ],
]
"""Arguments of an environment, as pairs on a command line."""


def parse(kind: type[Arguments], argv: Sequence[str], default: Any = None) -> Arguments:
    """Arguments of a command line, a dataclass.

    From then on, modules in the working directory can be imported, as with ``python -m``: for
    ``model module:factory`` and ``groups module:function``.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return tyro.cli(kind, args=argv, **({} if default is None else {"default": default}))


def parse_preset(presets: Mapping[str, Arguments], argv: Sequence[str]) -> Arguments:
    """Arguments of a command line; ``--preset`` chooses the defaults, else the first preset.

    ``--env-kwargs`` are added to the preset's own, and win over them.

    Args:
        presets: dataclasses of one kind, with fields ``preset`` and ``env_kwargs``.
        argv: the words after the script's name.
    """
    chosen = next(iter(presets))
    for i, word in enumerate(argv):
        if word.startswith("--preset"):
            chosen = word.partition("=")[2] or "".join(argv[i + 1 : i + 2])
    default: Any = presets.get(chosen, next(iter(presets.values())))
    own = default.env_kwargs  # not shown to tyro, which would then accept no other keys
    bare = dataclasses.replace(default, env_kwargs={})
    args: Any = parse(type(default), argv, bare)
    return dataclasses.replace(args, env_kwargs={**own, **args.env_kwargs})


@contextmanager
def blamed_on(option: str) -> Iterator[None]:
    """Turn what a wrong argument raises into one line that names the option (SystemExit)."""
    try:
        yield
    except (gym.error.Error, TypeError, ValueError, OSError, ImportError) as error:
        text = " ".join(str(error).split()).partition(" was raised from the environment creator")[0]
        raise SystemExit(f"{option}: {text}") from error


def check_at_least(low: int, args: Any, *names: str) -> None:
    """SystemExit if one of the named arguments is below ``low``."""
    for name in names:
        if getattr(args, name) < low:
            option = name.replace("_", "-")
            raise SystemExit(f"--{option} {getattr(args, name)}: expected >= {low}")


def refuse_env_kwargs(kwargs: Mapping[str, Any], own: Mapping[str, str]) -> None:
    """SystemExit if one of ``kwargs`` is in ``own``: who sets it instead, by name."""
    for name, who in own.items():
        if name in kwargs:
            raise SystemExit(f"--env-kwargs {name}: leave it out, {who}")


def fitting_variant(task: Task, option: str, name: str | None) -> str | None:
    """The variant of an option; None for "train" and "test" where the task has none to draw from.

    Raises:
        SystemExit: the task has no such variant.
    """
    if name is not None and name in ("train", "test") and not task.variants(name):
        return None
    with blamed_on(option):
        task.check_variant(name)
    return name


def make_env(env_id: str, kwargs: Mapping[str, Any], option: str | None = None) -> FinetuneEnv:
    """The environment, without wrappers; SystemExit, in one line, if its arguments are wrong.

    Args:
        env_id: its id.
        kwargs: its arguments.
        option: what chose the id on the command line; None: ``--env``.
    """
    with blamed_on(f"{option or f'--env {env_id}'} with --env-kwargs"):
        try:
            env = gym.make(env_id, **kwargs).unwrapped
        except gym.error.UnregisteredEnv as error:
            raise ValueError(f"{error} Known: {', '.join(ENTRY_POINTS)}") from error
        if not isinstance(env, FinetuneEnv):
            raise ValueError(f"no fine-tuning; known: {', '.join(ENTRY_POINTS)}")
    return env
