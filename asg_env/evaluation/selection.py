"""Which moment of a fine-tuning run is kept: rules for choosing a checkpoint, by name.

A rule reads the run's evaluations and names one of them. It may look at any number of them, but it
never goes back to one that it passed over: if it chooses row k of a run, it also chooses row k of
the run that ended there. So the weights to keep are known when they are there to be kept. A rule of
another kind is one class, registered in :data:`SELECTIONS` or named by ``"module:attribute"``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from asg_env.registry import Registry

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

    name: str
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
        return _first_best(_synthetic(r) for r in rows)


class EarlyStopping(Selection):
    """The best on inner_valid before ``patience`` evaluations in a row brought nothing better.

    What is better is as in :class:`InnerValid`. It says where a run would have stopped; the run
    itself goes on, so that all rules speak of the same one.

    Args:
        patience: evaluations, >= 1.
    """

    name = "early_stopping"

    def __init__(self, patience: int = 3) -> None:
        if patience < 1:
            raise ValueError(f"patience={patience}: expected >= 1")
        self.patience = patience

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The best one until the patience ran out."""
        best = 0
        for k, row in enumerate(rows):
            if _better(_synthetic(row), _synthetic(rows[best])):
                best = k
            elif k - best >= self.patience:
                break
        return best


class FixedFraction(Selection):
    """The first evaluation at or after a share of the budget; the last one if none is.

    Args:
        name: of the rule.
        share: of the budget, (0, 1].
    """

    def __init__(self, name: str, share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: expected a number in (0, 1]")
        self.name, self.share = name, share

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The one nearest after the share."""
        late = [k for k, row in enumerate(rows) if row.progress >= self.share]
        return late[0] if late else len(rows) - 1


class OracleTarget(Selection):
    """Best accuracy on the real target (as the official code chooses); the earliest among equals.

    It reads the labels of the target: a bound on what a rule could reach, not a result.
    """

    name = "oracle"
    oracle = True

    def choose(self, rows: Sequence[Evaluation]) -> int:
        """The best one so far."""
        return _first_best((r.test[METRIC],) for r in rows)


def _synthetic(row: Evaluation) -> tuple[float, ...]:
    return row.inner_valid[METRIC], -row.inner_valid["ce"]


def _better(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return _first_best([other, one]) == 1


def _first_best(keys: Iterable[tuple[float, ...]]) -> int:
    """Index of the first largest key; NaN is below every number."""
    ordered = [tuple(-math.inf if math.isnan(x) else x for x in key) for key in keys]
    return ordered.index(max(ordered))


SELECTIONS: Registry[Selection] = Registry("select", needs=("name", "oracle", "choose"))
"""Every rule by name; :meth:`~asg_env.registry.Registry.register` adds one."""
for rule in (Last(), InnerValid(), EarlyStopping(), FixedFraction("half", 0.5), OracleTarget()):
    SELECTIONS.register(rule.name, rule)
