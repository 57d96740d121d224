"""What every agent offers: the protocol of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """What every agent offers. ``env_kwargs`` are the spaces it was made for."""

    name: str
    env_kwargs: dict[str, Any]

    @property
    def digest(self) -> str:
        """What it is, in a few characters: others' differ."""

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action for an observation."""
