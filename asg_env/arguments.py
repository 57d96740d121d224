"""An environment's arguments as JSON values: what a record and a student's file note of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np


def json_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as JSON values, from which the same environment can be made again.

    Paths become text, NumPy's numbers Python's, tuples lists, and a function its name
    ``"module:function"``.

    Raises:
        TypeError, ValueError: naming the argument: a value that JSON lacks; a function that cannot
            be imported by a name.
    """
    return {name: _json(name, value) for name, value in arguments.items()}


def _json(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _json(name, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(name, item) for item in value]
    if isinstance(value, FunctionType):
        return _function_name(name, value)
    raise TypeError(
        f"{name}={value!r}: a {type(value).__name__} cannot be noted in a record: pass text, "
        "numbers, True, False, None, a path or a function, or lists and dicts of them"
    )


def _function_name(name: str, function: FunctionType) -> str:
    module, attribute = function.__module__, function.__qualname__
    if module == "__main__" or getattr(sys.modules.get(module), attribute, None) is not function:
        raise ValueError(
            f"{name}={function!r}: cannot be imported by a name, so no record could note it: put "
            f"it at the top level of a module file and pass {name}='module:function'"
        )
    return f"{module}:{attribute}"
