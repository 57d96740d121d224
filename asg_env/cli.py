"""What the command lines share: the environment's arguments, presets, how a script ends."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TypeVar

import gymnasium as gym
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.files import BadFile
from asg_env.interrupts import WATCH, work
from asg_env.locks import InUse
from asg_env.ranges import outside, ranges_of
from asg_env.registration import ENTRY_POINTS
from asg_env.tasks.base import Task
from asg_env.workers import WorkerDied

Arguments = TypeVar("Arguments")
Value = int | float | bool | str | None
TASKS = {
    "digits": "ASG-Digits-v0",
    "visda": "ASG-VisDA-v0",
    "image_folder": "ASG-ImageFolder-v0",
}
"""``--task NAME`` is a short way to say ``--env ID``."""
LEARNERS_OWN = {
    "action": "the policy sets discrete levels",
    "observation": "--observation chooses it",
    "variant": "--variant and --test-variant choose it",
}
"""Arguments of the environment that --env-kwargs may not set where a policy is learned."""
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


REMEDIES = {
    errno.ENOSPC: " once there is room on the disk",
    errno.EDQUOT: " once there is room in your quota",
    errno.EFBIG: " where files may be larger (ulimit -f)",
    errno.EMFILE: " where a process may open more files (ulimit -n)",
    errno.ENFILE: " once the system has fewer files open",
    errno.EACCES: " once that is allowed",
    errno.EROFS: " once that can be written",
}
"""What is said after "the same command resumes", by the reason why it cannot be written."""


def parse(kind: type[Arguments], argv: Sequence[str], default: Any = None) -> Arguments:
    """Arguments of a command line, a dataclass.

    From then on, modules in the working directory can be imported, as with ``python -m``: for
    ``model module:factory`` and ``groups module:function``.

    Raises:
        SystemExit: a number is not in the range that its field declares.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    given = {} if default is None else {"default": default}
    args = tyro.cli(kind, args=argv, description=_description(kind), **given)
    check_ranges(args)
    return args


def _description(kind: type[Any]) -> str:
    """What ``--help`` begins with: the class's docstring, and the ranges of its numbers."""
    ranges = [f"--{n.replace('_', '-')} {r}" for n, r in ranges_of(kind).items()]
    said = [inspect.cleandoc(kind.__doc__ or "")]
    return "\n\n".join([*said, *([f"Ranges: {'; '.join(ranges)}."] if ranges else [])])


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


def check_ranges(args: Any) -> None:
    """SystemExit, naming option, value and range, if a number is not in its field's range."""
    if (found := outside(args)) is not None:
        name, value, allowed = found
        raise SystemExit(f"--{name.replace('_', '-')} {value}: expected {allowed}")


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


def fit_variants(args: Arguments, task: Task) -> Arguments:
    """The same arguments, their ``variant`` and ``test_variant`` by :func:`fitting_variant`."""
    found = {
        name: fitting_variant(task, f"--{name.replace('_', '-')}", getattr(args, name))
        for name in ("variant", "test_variant")
        if hasattr(args, name)
    }
    return dataclasses.replace(args, **found)  # type: ignore[type-var]


def check_env(setup: EnvSetup, option: str | None = None) -> FinetuneEnv:
    """The environment, without wrappers; SystemExit, in one line, if its arguments are wrong.

    Args:
        setup: its id and arguments.
        option: what chose the id on the command line; None: ``--env``.
    """
    with blamed_on(f"{option or f'--env {setup.env}'} with --env-kwargs"):
        try:
            env = setup.make().unwrapped
        except gym.error.UnregisteredEnv as error:
            raise ValueError(f"{error} Known: {', '.join(ENTRY_POINTS)}") from error
        if not isinstance(env, FinetuneEnv):
            raise ValueError(f"no fine-tuning; known: {', '.join(ENTRY_POINTS)}")
    return env


def run(
    main: Callable[[Any], object],
    source: type[Any] | Mapping[str, Any] | Callable[[Sequence[str]], Any],
) -> None:
    """Run a script: its arguments are read, ``main(args)`` is called, and the process ends.

    A signal, a damaged file, a disk without room, a worker that died or another process that writes
    there ends it with one line; a whole number that ``main`` returns is the exit code.

    Args:
        main: what the script does.
        source: a dataclass of arguments, presets for :func:`parse_preset`, or a function of the
            words after the script's name.
    """
    try:
        with work():
            result = main(read_arguments(source, sys.argv[1:]))
    except BaseException as error:
        if (end := ending(error)) is None:
            raise
        sys.exit(end)
    if isinstance(result, int):
        sys.exit(result)


def ending(error: BaseException) -> int | str | None:
    """The exit code, or the line, with which an error ends a script; None: it is a bug."""
    number = WATCH.received or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0)
    if number:
        return WATCH.leave(number)
    text = " ".join(str(error).split())
    if isinstance(error, (BadFile, InUse)):
        return text
    if isinstance(error, WorkerDied):
        return f"{text}; {WATCH.advice}"
    if isinstance(error, OSError):
        where = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
        return f"{where}; {WATCH.advice}{REMEDIES.get(error.errno or 0, '')}"
    return None


def read_arguments(
    source: type[Any] | Mapping[str, Any] | Callable[[Sequence[str]], Any], argv: Sequence[str]
) -> Any:
    """The arguments that a command line gives to a ``source`` of :func:`run`."""
    if isinstance(source, Mapping):
        return parse_preset(source, argv)
    return parse(source, argv) if dataclasses.is_dataclass(source) else source(argv)
