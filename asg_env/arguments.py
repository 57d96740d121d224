"""An environment's arguments as JSON values: what a record and a student's file note of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np

from asg_env.registry import reference


def json_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as JSON values, from which the same environment can be made again.

    Paths become text, NumPy's numbers Python's, tuples lists, and a function, a class or
    an object that a module holds its name ``"module:attribute"``.

    Raises:
        TypeError, ValueError: naming the argument: a value that JSON lacks; something that
            cannot be imported by a name.
    """
    return {name: _json(name, value) for name, value in arguments.items()}


def _is_list(value: Any) -> bool:
    """Whether it is a list of values: no object that happens to be a tuple, or holds objects."""
    if not isinstance(value, (list, tuple)) or hasattr(value, "_fields"):
        return False
    known = (str, int, float, np.generic, os.PathLike, Mapping)
    return all(item is None or isinstance(item, known) or _is_list(item) for item in value)


def _json(name: str, value: Any) -> Any:
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _json(name, item) for key, item in value.items()}
    if _is_list(value):
        return [_json(name, item) for item in value]
    try:
        return reference(name, value)
    except ValueError as error:
        if isinstance(value, (FunctionType, type)):
            raise
        raise TypeError(
            f"{name}={value!r}: a {type(value).__name__} cannot be noted in a record: pass text, "
            "numbers, True, False, None, a path, something that can be imported by a name, or "
            "lists and dicts of them"
        ) from error
