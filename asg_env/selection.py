"""Which moment of a fine-tuning run is kept: rules for choosing a checkpoint, by name.

A rule reads the run's evaluations and names one of them. It may look at any number of them, but it
never goes back to one that it passed over: if it chooses row k of a run, it also chooses row k of
the run that ended there. So the weights to keep are known when they are there to be kept. A rule of
another kind (a patience, a fraction of the run) is one class and one row of :data:`SELECTIONS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

METRIC = "accuracy"  # what the rules compare, an entry of ``evaluate``


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run.

    ``steps``: optimizer steps done; ``epoch``: the same in epochs; ``progress``: as a share of the
    budget, in [0, 1]. ``inner_valid``, ``test``: what ``evaluate`` said of these splits.
    """

    steps: int
    epoch: float
    progress: float
    inner_valid: Mapping[str, float]
    test: Mapping[str, float]


class Selection(ABC):
    """A rule. ``oracle`` rules read target labels, and their names say so."""

    name: ClassVar[str]
    oracle: ClassVar[bool] = False

    @abstractmethod
    def choose(self, rows: Sequence[Evaluation]) -> int:
        """Index of the evaluation to keep, of at least one, in order of time."""


class Last(Selection):
    """The end of the run."""

    name = "last"

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The last one."""
        return len(rows) - 1


class InnerValid(Selection):
    """Best accuracy on held-out synthetic images; among equals the lowest CE, then the earliest.

    Accuracy first, because it is what the target is judged by; CE breaks the ties, because
    synthetic accuracy is soon perfect.
    """

    name = "inner_valid"

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The best one so far."""
        return _first_best((r.inner_valid[METRIC], -r.inner_valid["ce"]) for r in rows)


class OracleTarget(Selection):
    """Best accuracy on the real target (as the official code chooses); the earliest among equals.

    It reads the labels of the target: a bound on what a rule could reach, not a result.
    """

    name = "oracle"
    oracle = True

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The best one so far."""
        return _first_best((r.test[METRIC],) for r in rows)


def _first_best(keys: Iterable[tuple[float, ...]]) -> int:
    """Index of the first largest key; NaN is below every number."""
    ordered = [tuple(-math.inf if math.isnan(x) else x for x in key) for key in keys]
    return ordered.index(max(ordered))


SELECTIONS: dict[str, Selection] = {
    rule.name: rule for rule in (Last(), InnerValid(), OracleTarget())
}
"""Every rule by name."""
