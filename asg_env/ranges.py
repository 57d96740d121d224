"""Ranges of numbers, declared beside an argument and checked in one place.

``lr: Annotated[float | None, Range(above=0)]`` in a dataclass says what ``--lr`` or ``lr=`` may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_type_hints

MANY = 10**7
"""More than any count that makes sense; what a count may be at most unless it says otherwise."""


@dataclass(frozen=True)
class Range:
    """What a number may be; None: no bound on that side.

    ``infinite``: infinity is a value, too. ``whole``: an int; else an int or a float. NaN never is.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if isinstance(value, float) and not (math.isfinite(value) or self.infinite):
            return False
        return not (
            value != value
            or (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        )

    def __str__(self) -> str:
        """The bounds, as ``> 0 and <= 1``."""
        signs = {">=": self.at_least, ">": self.above, "<=": self.at_most, "<": self.below}
        parts = [f"{sign} {bound}" for sign, bound in signs.items() if bound is not None]
        endless = self.at_most is None and self.below is None and not self.infinite
        return " and ".join([*parts, *(["finite"] if endless else [])])

    @property
    def words(self) -> str:
        """What is expected: ``an int >= 1 and <= 9``, ``a number in [0, 1)``."""
        if self.whole:
            return f"an int {self}"
        low = f"({self.above}" if self.above is not None else f"[{self.at_least}"
        high = f"{self.at_most}]" if self.at_most is not None else f"{self.below or math.inf})"
        return f"a number in {low}, {high[:-1] + ']' if self.infinite else high}"


def whole(at_least: int, at_most: int = MANY) -> Range:
    """Whole numbers, both bounds included."""
    return Range(at_least=at_least, at_most=at_most, whole=True)


SEED = whole(0, 2**31 - 1)
"""Seeds: what NumPy, PyTorch and Stable-Baselines3 all take."""


def ranges_of(kind: type) -> dict[str, Range]:
    """The ranges of a dataclass's fields, by name: those that declare one."""
    hints = get_type_hints(kind, include_extras=True).items()
    found = {name: _declared(hint) for name, hint in hints}
    return {name: one for name, one in found.items() if one is not None}


def _declared(hint: Any) -> Range | None:
    marks = getattr(hint, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Range)), None)


def outside(arguments: Any) -> tuple[str, Any, Range] | None:
    """The first field of a dataclass whose value is not in its range: name, value and range.

    None is never outside; of a tuple every element counts.
    """
    for name, allowed in ranges_of(type(arguments)).items():
        value = getattr(arguments, name)
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and one not in allowed:
                return name, one, allowed
    return None
