"""The rows of the paper's generalization table as data, with the candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SMALL_AT_ONCE = "small_backbone_poly"  # no warm-up, as the learned policies
LARGE, SMALL, FROZEN = (
    f"{name}_warmup_poly" for name in ("large", "small_backbone", "frozen_backbone")
)
NO_GUIDANCE = {"guidance": 0.0}
STRENGTH = "regularizer_strength"
WEAK, STRONG = (1e-3, 100.0), (0.139, 1.39e4)  # spans: five decades each, of one grid
NO_WARMUP = "small backbone LR + guidance, no warm-up"


class Row(NamedTuple):
    """One row.

    ``schedule``: of SCHEDULES; None: the learned policy. ``kwargs``: of the environment.
    ``coefficient``: the environment's argument that is searched, between ``span``. ``against``: the
    row that it is compared with, the same without its penalty, or with the paper's schedule.
    ``of``, ``rule``: it reads the runs of another row, and which moment of theirs it keeps
    (asg_env/evaluation/selection.py).
    ``cited``: the paper's VisDA-17 and ImageNet accuracy with ResNet-101, % (Chen et al., 2020).
    """

    name: str
    schedule: str | None
    kwargs: dict[str, Any]
    cited: tuple[float, float] | None
    against: str | None = None
    coefficient: str | None = None
    span: tuple[float, float] = (0.03, 3.0)
    of: str | None = None
    rule: str = "last"


def _penalty(
    name: str,
    regularizer: str,
    cited: tuple[float, float] | None,
    span: tuple[float, float] = WEAK,
) -> Row:
    """A regulariser in the place of guidance, on the small backbone LR."""
    kwargs = {**NO_GUIDANCE, "regularizer": regularizer}
    return Row(name, SMALL, kwargs, cited, "small backbone LR", STRENGTH, span)


GUIDED = "small backbone LR + guidance"
ASG = Row("ASG", None, {"decide_first": True}, (61.5, 76.7), GUIDED, "guidance")
ROWS = (
    Row("large LR", LARGE, NO_GUIDANCE, (28.2, 0.8)),
    Row("large LR + guidance", LARGE, {}, (58.7, 76.2), "large LR", "guidance"),
    Row(
        "large LR, early stopping",
        LARGE,
        NO_GUIDANCE,
        None,
        "large LR",
        of="large LR",
        rule="early_stopping",
    ),
    Row("small backbone LR", SMALL, NO_GUIDANCE, (49.3, 33.1)),
    Row(GUIDED, SMALL, {}, (60.2, 76.5), "small backbone LR", "guidance"),
    Row(NO_WARMUP, SMALL_AT_ONCE, {}, None, GUIDED, "guidance"),
    Row("frozen backbone (oracle on ImageNet)", FROZEN, NO_GUIDANCE, (53.3, 77.4)),
    _penalty("ROAD (feature L2)", "feature_l2", (57.1, 77.4)),
    _penalty("vanilla L2 (L2-SP)", "l2_sp", (56.4, 49.1)),
    _penalty("SI", "si", (57.6, 53.9), STRONG),
    _penalty("EWC", "ewc", None, STRONG),
    _penalty("MAS", "mas", None),
    _penalty("LwF, T = 2", "lwf", None),
    ASG,
    Row("ASG, the same runs", None, {}, None, NO_WARMUP, of="ASG"),
)
"""Every row; the table is in this order."""


def played(rows: Sequence[Row]) -> list[Row]:
    """Those that have runs of their own."""
    return [row for row in rows if row.of is None]


def candidates(row: Row, count: int) -> list[float]:
    """Coefficients to try, evenly on a logarithmic scale; two: the ends of the span."""
    return [float(f"{value:.3g}") for value in np.geomspace(*row.span, count)]


def candidate_name(row: Row, coefficient: float) -> str:
    """Of a candidate, in the records of the search."""
    return f"{row.name}: {row.coefficient} {coefficient:g}"
