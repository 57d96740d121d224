"""A table: entries for programs, of which declared columns make rows of cells for people.

An entry is a flat dictionary, one for each row and metric: who (``name``, ...), what (``metric``,
...), a value with its interval (``mean`` and ``ci95``, or KEY and ``KEY_ci95``) and how many
``seeds`` it is over. A :class:`Column` says which of a row's entries it shows, and how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asg_env.data.names import shown
from asg_env.reports.statistics import Interval
from asg_env.writing import write_atomic

Entry = Mapping[str, Any]
Unit = Literal["", "%", "points"]
SCALES: dict[str, float] = {"": 1, "%": 100, "points": 100}
"""What a value, whose natural unit is 1, is multiplied by to be shown in a unit."""


@dataclass(frozen=True)
class Cell:
    """What one place of a table says.

    ``text`` is for people. Of a number there are also its ``interval``, in the natural unit, the
    ``unit`` and decimal ``digits`` in which the text shows it, and over how many ``seeds`` it is.
    """

    text: str
    interval: Interval | None = None
    unit: Unit = ""
    digits: int = 0
    seeds: int | None = None


@dataclass(frozen=True)
class Column:
    """One column: which entry of a row it shows, and how.

    ``where``: fields of that entry and their values; with none, the row's first. ``key``: the field
    of the number. ``ends``: whether its interval is shown: always, only where it is finite, or
    never. ``signed``: a plus before positive numbers. ``text``: words in the place of a number.
    ``mark``: what is made of a number's text, for a verdict beside it.
    """

    title: str
    where: Mapping[str, Any] = field(default_factory=dict)
    key: str = "mean"
    unit: Unit = ""
    digits: int = 3
    ends: Literal["always", "finite", "never"] = "always"
    signed: bool = False
    text: Callable[[Entry], str] | None = None
    mark: Callable[[Entry, str], str] | None = None

    def cell(self, entries: Sequence[Entry]) -> Cell:
        """The cell in a row that has these entries; empty where none is meant.

        A value that is not a number is a dash; so is a mean that is missing, while a missing
        difference leaves the cell empty.
        """
        entry = next((e for e in entries if self._means(e)), None)
        if entry is None:
            return Cell("")
        if self.text is not None:
            return Cell(self.text(entry))
        value = Interval.of(entry, self.key)
        if value is None:
            return Cell("-" if self.key == "mean" else "")
        text = self._shown(value)
        text = text if self.mark is None else self.mark(entry, text)
        return Cell(text, value, self.unit, self.digits, entry.get("seeds"))

    def _means(self, entry: Entry) -> bool:
        return all(entry[name] == value for name, value in self.where.items())

    def _shown(self, value: Interval) -> str:
        if np.isnan(value.mean):
            return "-"
        mean, low, high = (SCALES[self.unit] * x for x in value)
        sign = "+" if self.signed else ""
        text = f"{mean:{sign}.{self.digits}f}"
        hidden = self.ends == "never" or (self.ends == "finite" and not np.isfinite(low))
        if hidden or np.isnan(low):  # there is no interval
            return text
        return f"{text} [{low:.{self.digits}f}, {high:.{self.digits}f}]"


class Table:
    """Rows of cells, for people as Markdown and for programs as JSON.

    Args:
        entries: all of them; a row is what those with the same fields ``by`` make up.
        columns: of one part for people, or of several, each with the same rows.
        rows: the fields ``by`` of each row, in the order to show; None: as they appear.
        by: the fields that name a row.
        heading, note: lines above and below.
        head: JSON fields beside the entries.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        columns: Sequence[Column] | Sequence[Sequence[Column]],
        rows: Sequence[tuple[Any, ...]] | None = None,
        by: Sequence[str] = ("name",),
        heading: str = "",
        note: str = "",
        head: Mapping[str, Any] | None = None,
    ) -> None:
        self.entries, self.heading, self.note = list(entries), heading, note
        self.parts = [[*part] for part in _parts(columns)]
        self.head = dict(head or {})
        self._grouped: dict[tuple[Any, ...], list[Entry]] = {}
        for entry in self.entries:
            self._grouped.setdefault(tuple(entry[name] for name in by), []).append(entry)
        self._rows = list(self._grouped) if rows is None else list(rows)

    def cells(self, part: int = 0) -> list[list[Cell]]:
        """The rows of a part."""
        own = self.parts[part]
        return [[column.cell(self._grouped[row]) for column in own] for row in self._rows]

    def markdown(self) -> str:
        """For people; without an end of line."""
        parts = [self._part(number) for number in range(len(self.parts))]
        around = [_without_tags(text) for text in (self.heading, self.note)]
        return "\n\n".join(filter(None, [around[0], *parts, around[1]]))

    def _part(self, number: int) -> str:
        titles = [escaped(column.title) for column in self.parts[number]]
        texts = [[escaped(cell.text) for cell in row] for row in self.cells(number)]
        lines = [titles, ["---"] * len(titles), *texts]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_json(self) -> dict[str, Any]:
        """For programs: the ``head``, and the entries as ``rows``."""
        return finite({**self.head, "rows": [dict(entry) for entry in self.entries]})

    def write(
        self, folder: Path, stem: str = "table", content: Any = None, indent: int | None = 1
    ) -> str:
        """Write STEM.md and STEM.json; the Markdown.

        Args:
            folder: where; made if it is not there.
            stem: the files' name.
            content: for STEM.json; None: :meth:`to_json`.
            indent: of that file.
        """
        text = self.markdown()
        write_atomic(folder / f"{stem}.md", (text + "\n").encode())
        write_json(folder / f"{stem}.json", self.to_json() if content is None else content, indent)
        return text


def _parts(columns: Sequence[Any]) -> Sequence[Sequence[Column]]:
    return [columns] if columns and isinstance(columns[0], Column) else columns


def escaped(text: str) -> str:
    """A text in one cell of a Markdown table: in one line, without bars of its own and HTML."""
    return _without_tags(shown(re.sub(r"\s*\n\s*", " ", text))).replace("|", "\\|")


def _without_tags(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def named(title: str, field: str = "name") -> Column:
    """The column that names the rows by a field of their entries."""
    return Column(title, text=lambda entry: str(entry[field]))


def finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file, with null for what is no number."""
    write_atomic(path, (json.dumps(finite(content), indent=indent) + "\n").encode())
