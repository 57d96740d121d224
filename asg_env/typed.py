"""JSON values as the fields of a dataclass, after a look at their types."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from asg_env.ranges import outside

T = TypeVar("T")
LARGEST = 2**63  # of a whole number, which NumPy and PyTorch must hold


def from_fields(kind: type[T], fields: Mapping[str, Any]) -> T:
    """A dataclass of JSON values.

    Fields may be declared as bool, int, float, str, None, Any, Literal, another dataclass, and
    lists, tuples (from lists), dicts (of text) and unions of them. A float may be a whole
    number, an int no float.

    Raises:
        ValueError: a field is missing, unknown, or not what its annotation says; the range that it
            declares (asg_env/ranges.py) included.
    """
    hints = get_type_hints(kind)
    own = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unset = dataclasses.MISSING
    needed = [n for n, f in own.items() if f.default is unset and f.default_factory is unset]
    if missing := [name for name in needed if name not in fields]:
        raise ValueError(f"missing {', '.join(missing)}")
    if unknown := [name for name in fields if name not in own]:
        raise ValueError(f"unknown {', '.join(map(repr, unknown[:3]))}; known: {', '.join(own)}")
    made = kind(**{name: _value(hints[name], v, name) for name, v in fields.items()})
    if (found := outside(made)) is not None:
        name, value, allowed = found
        raise ValueError(f"{name} is {_short(value)}, expected {allowed}")
    return made


def _value(hint: Any, value: Any, name: str) -> Any:
    """The value, dataclasses in it made; ValueError if it does not fit."""
    if hint is Any:
        return value
    if get_origin(hint) in (Union, types.UnionType):
        return _of_union(get_args(hint), value, name)
    if get_origin(hint) is list and isinstance(value, list):
        return [_value(get_args(hint)[0], v, f"{name}[{k}]") for k, v in enumerate(value)]
    if get_origin(hint) is tuple and isinstance(value, list):
        return _as_tuple(get_args(hint), value, name)
    if get_origin(hint) in (dict, Mapping) and isinstance(value, dict):
        return {k: _value(get_args(hint)[1], v, f"{name}[{k!r}]") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        try:
            return from_fields(cast(type[Any], hint), value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if hint is float and value in (None, "Infinity", "-Infinity"):  # see sealed.strict
        return math.nan if value is None else float(value)
    if not _fits(hint, value):
        raise ValueError(f"{name} is {_short(value)}, expected {_said(hint)}")
    return value


def _as_tuple(hints: tuple[Any, ...], value: list[Any], name: str) -> tuple[Any, ...]:
    if len(value) != len(hints):
        raise ValueError(f"{name} has {len(value)} entries, expected {len(hints)}")
    pairs = enumerate(zip(hints, value, strict=True))
    return tuple(_value(hint, v, f"{name}[{k}]") for k, (hint, v) in pairs)


def _of_union(hints: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in hints:
        return None
    left = [hint for hint in hints if hint is not type(None)]
    for hint in left[:-1]:
        try:
            return _value(hint, value, name)
        except ValueError:
            continue
    return _value(left[-1], value, name)


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(hint))
    number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    if hint is float:
        return number or isinstance(value, float)
    if hint is int:
        return number
    return hint in (bool, str, dict, list) and isinstance(value, hint)


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST else "a huge number"
    return text if len(text) < 60 else f"{text[:60]}..."


def _said(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(
        hint, f"a {getattr(get_origin(hint) or hint, '__name__', hint)}"
    )
