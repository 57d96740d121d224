"""The environment's tables, derived from where each fact stands: what the docstring shows."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import TypeVar

from asg_env.control.actions import ACTIONS
from asg_env.control.observations import OBSERVATIONS
from asg_env.envs.arguments import Arguments
from asg_env.envs.rewards import REWARDS

T = TypeVar("T")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def actions() -> str:
    """Kinds of action."""
    rows = [[f"`{name}`", _first(kind.__doc__)] for name, kind in ACTIONS.items()]
    return table(["action", "space and meaning"], rows)


def observations() -> str:
    """Every number that is observed, and in which sets it is."""
    rows = []
    signals = {s.name: s for kind in OBSERVATIONS.values() for s in kind}
    for name, s in signals.items():
        sets = [kind for kind, own in OBSERVATIONS.items() if s in own]
        count = "G" if s.per_group else "1"
        rows.append([f"`{name}`", count, s.formula.replace("|", "\\|"), s.low, s.high, s.source])
        rows[-1].append(", ".join(sets))
    return table(["signal", "numbers", "formula", "low", "high", "source", "sets"], rows)


def rewards() -> str:
    """Every named reward."""
    return table(["reward", "of each step"], [[f"`{n}`", t.formula] for n, t in REWARDS.items()])


def arguments() -> str:
    """Every argument, its default and what it means."""
    meanings = field_docs(Arguments)
    rows = []
    for field in dataclasses.fields(Arguments):
        default = "the task's" if field.default is None else repr(field.default)
        rows.append([f"`{field.name}`", default, meanings.get(field.name, "")])
    return table(["argument", "default", "meaning"], rows)


def field_docs(kind: type) -> dict[str, str]:
    """The strings that stand under a dataclass's fields, by field; {} without its source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return {}
    body = tree.body[0].body  # type: ignore[attr-defined]
    found = {}
    for node, after in itertools.pairwise(body):
        text = getattr(getattr(after, "value", None), "value", None)
        if isinstance(node, ast.AnnAssign) and isinstance(text, str):
            found[getattr(node.target, "id", "")] = " ".join(text.split())
    return found


def _first(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def documented(kind: type[T]) -> type[T]:
    """Put the tables in the places of a class's docstring that name them: ``{actions}``, ..."""
    tables: dict[str, Callable[[], str]] = {
        "actions": actions,
        "observations": observations,
        "rewards": rewards,
        "arguments": arguments,
    }
    text = inspect.cleandoc(kind.__doc__ or "")
    for name, make in tables.items():
        text = text.replace(f"{{{name}}}", make())
    kind.__doc__ = text
    return kind
