"""A policy that sees other episodes than the one it plays: does it read what it is shown?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asg_env.policies.base import Policy
from asg_env.policies.digest import digest


class ShuffledPolicy:
    """Plays what another policy would play on the observations of an episode of a bank, each at its
    decision.

    Args:
        inner: the policy.
        bank: of each episode (a different context), the observations (decisions, D); from them each
            of its own episodes draws one by its seed.
        name: shown in tables.

    Raises:
        ValueError: the bank holds no observation.
    """

    def __init__(self, inner: Policy, bank: Sequence[np.ndarray], name: str) -> None:
        if not bank or any(np.ndim(seen) != 2 or not len(seen) for seen in bank):
            raise ValueError("bank: expected at least one episode of observations (decisions, D)")
        self.inner, self.name = inner, name
        self.bank = [np.asarray(seen, dtype=np.float32) for seen in bank]
        self.env_kwargs = dict(inner.env_kwargs)

    @property
    def digest(self) -> str:
        """Of the policy and of what it is shown."""
        return digest({"inner": self.inner.digest, "bank": [seen.tolist() for seen in self.bank]})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode; ValueError if the bank is of other observations."""
        wrong = [seen.shape[1] for seen in self.bank if seen.shape[1] != len(observation_names)]
        if wrong:
            raise ValueError(
                f"{self.name!r}: the bank's observations hold {wrong[0]} numbers, those of this "
                f"environment {len(observation_names)}"
            )
        self.inner.begin(group_names, observation_names, seed)
        self._shown = self.bank[int(np.random.default_rng(seed).integers(len(self.bank)))]
        self._decision = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) for the bank's observation; its last one where its episode was over."""
        seen = self._shown[min(self._decision, len(self._shown) - 1)]
        self._decision += 1
        return self.inner.act(seen)
