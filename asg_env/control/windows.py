"""Decision windows: how many optimizer steps one decision lasts."""

from __future__ import annotations

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
