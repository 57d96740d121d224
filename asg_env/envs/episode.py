"""The part of an episode that is plain numbers: all that a snapshot needs beside tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Episode:
    """Where an episode stands.

    ``windows``: lengths of all its decisions, optimizer steps. ``steps``: optimizer steps done,
    the paper's first window, which runs before any decision, included.
    ``history``: one row for each decision, for people. ``over``: no further step is allowed.
    """

    variant: str | None
    seed: int
    windows: list[int]
    steps: int = 0
    decision: int = 0
    phi_start: float = 0.0
    phi: float = 0.0
    train_loss: float = 0.0
    accuracy: float | None = None
    returned: float = 0.0
    over: bool = False
    error: str | None = None
    scales: list[float] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    rewards: dict[str, float] = field(default_factory=dict)
    observation: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def advance(self) -> None:
        """Note that the window of the current decision has been trained."""
        self.steps += self.windows[self.decision]
        self.decision += 1

    @property
    def budget_spent(self) -> bool:
        """Whether no decision is left."""
        return self.decision == len(self.windows)
