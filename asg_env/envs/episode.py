"""The part of an episode that is plain numbers: all that a snapshot needs beside tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Episode:
    """Where an episode stands.

    ``windows``: lengths of all its decisions, optimizer steps. ``steps``: optimizer steps done.
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

    @property
    def last_decision(self) -> bool:
        """Whether the decision about to be taken is the last of the budget."""
        return self.decision == len(self.windows) - 1
