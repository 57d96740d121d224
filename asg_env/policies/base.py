"""What every agent offers: the protocol of a policy; and who an agent is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

NEEDS = ("name", "env_kwargs", "digest", "begin", "act")


class Policy(Protocol):
    """What every agent offers; any object with these five is a policy.

    ``name`` is shown in tables, ``env_kwargs`` are the environment's arguments that it was made
    for, such as its spaces.
    """

    name: str
    env_kwargs: dict[str, Any]

    @property
    def digest(self) -> str:
        """What it is, in a few characters: others' differ."""

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode.

        Args:
            group_names: the layer groups (G) in forward order; the last one is the new head.
            observation_names: of the numbers that it will see, (D,).
            seed: of what it draws.

        Raises:
            ValueError: it does not fit this environment.
        """

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) for an observation (D,) float32."""


def check_policy(policy: Any) -> None:
    """Raise TypeError, naming what is missing, unless an object is a :class:`Policy`."""
    if isinstance(policy, type):
        raise TypeError(f"policy {policy!r} is a class: pass an object of it")
    missing = [name for name in NEEDS if not hasattr(policy, name)]
    if missing:
        raise TypeError(
            f"policy {policy!r} lacks {', '.join(missing)}; a policy has {', '.join(NEEDS)}"
        )


class Identity(NamedTuple):
    """Who played: the agent, the seed of its training, the training's update that it is of."""

    agent: str
    training_seed: int | None = None
    update: int | None = None

    @property
    def label(self) -> str:
        """``AGENT``, ``AGENT #SEED`` or ``AGENT #SEED @UPDATE``, for tables."""
        seed = "" if self.training_seed is None else f" #{self.training_seed}"
        return self.agent + seed + ("" if self.update is None else f" @{self.update}")
