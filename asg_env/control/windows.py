"""Decision windows: how many optimizer steps one decision lasts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PAPER_MIN_WINDOW = 10  # the paper's classification runs; 20 for segmentation


def paper_windows(epoch_length: int, budget: int, shortest: int) -> list[int]:
    """The paper's windows, in optimizer steps, the first at the initial learning rates included.

    The first lasts ``shortest`` steps. Each later one lasts max(shortest, cur + prev // 20), where
    cur counts the steps done in this epoch and prev those of earlier epochs, and ends with the
    epoch (or the budget) at the latest.
    """
    windows: list[int] = []
    done = 0
    while done < budget:
        prev, cur = done // epoch_length * epoch_length, done % epoch_length
        length = max(shortest, cur + prev // 20)
        windows.append(min(length, epoch_length - cur, budget - done))
        done += windows[-1]
    return windows


def fixed_windows(length: int, budget: int) -> list[int]:
    """Windows of ``length`` steps; the last one ends with the budget."""
    full, rest = divmod(budget, length)
    return [length] * full + ([rest] if rest else [])


def decision_windows(
    window: int | str, budget: int, epoch_length: int, decide_first: bool
) -> tuple[int, list[int]]:
    """Optimizer steps before the first decision, and those of each decision.

    Args:
        window: optimizer steps of a decision, or ``"paper"``.
        budget: of the run, optimizer steps.
        epoch_length: optimizer steps of one pass over the training images.
        decide_first: with ``"paper"``, whether the agent decides about the first window too.

    Raises:
        ValueError: the budget leaves no decision.
    """
    if isinstance(window, int):
        return 0, fixed_windows(window, budget)
    windows = paper_windows(epoch_length, budget, PAPER_MIN_WINDOW)
    if decide_first:
        return 0, windows
    if len(windows) < 2:
        raise ValueError(
            f"budget={budget} leaves no decision: with window='paper' the first {windows[0]} "
            "optimizer steps run before it; raise budget, or pass decide_first=True"
        )
    return windows[0], windows[1:]


def decisions_before(windows: Sequence[int], before: int, limit: int | None) -> int:
    """Decisions of a run that ends with its windows, or is cut at ``limit`` optimizer steps.

    ``before``: optimizer steps before the first decision.
    """
    ends = before + np.cumsum(windows)
    reached = np.flatnonzero(ends >= (limit or np.inf))
    return int(reached[0]) + 1 if len(reached) else len(windows)
