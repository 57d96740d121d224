"""The ledger of an episode: plain numbers, all that a snapshot needs beside tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ledger:
    """Where an episode stands.

    ``windows``: lengths of all its decisions, optimizer steps. ``steps``: optimizer steps done,
    the paper's first window, which runs before any decision, included. ``phi_start``, ``phi``,
    ``train_loss``, ``accuracy``: what rewards compare, at the start and now. ``returned``: the
    return so far. ``history``: one row for the start and one for each decision, for people.
    ``over``: no further step is allowed. ``context``: what was drawn for this episode.
    """

    variant: str | None
    seed: int
    windows: list[int] = field(default_factory=list)
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
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Optimizer steps of the decision that comes next."""
        return self.windows[self.decision]

    def advance(self) -> None:
        """Note that the window of the current decision has been trained."""
        self.steps += self.window
        self.decision += 1

    def write_row(self, reward: float) -> None:
        """Add the moment that has just been measured to the history."""
        row = {"steps": self.steps, "scales": list(self.scales), **self.losses, "reward": reward}
        self.history.append(row)

    @property
    def budget_spent(self) -> bool:
        """Whether no decision is left."""
        return self.decision == len(self.windows)
