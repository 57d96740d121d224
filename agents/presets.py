"""Command lines whose defaults come from a named preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

Arguments = TypeVar("Arguments")


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
    args: Any = tyro.cli(type(default), default=bare, args=argv)
    return dataclasses.replace(args, env_kwargs={**own, **args.env_kwargs})
