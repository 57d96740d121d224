"""Fixed schedules: what a learned policy has to beat.

Each is a function (progress in [0, 1], number of groups, rng) -> scales (G,) in [0, 1]; the groups
are in forward order and the last one is the new head. They act through ``action="continuous"``, so
that none of them is rounded to the discrete levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asg_env.policies.digest import digest

SMALL = 0.1  # the paper's factor for the backbone
LAYER_DECAY = 0.65  # factor from one group to the one before it (ELECTRA, BEiT: 0.65..0.9)
WARMUP = 0.1  # share of the run in which the paper's hand-tuned schedule warms up
POLY_END = 0.8  # share of the run after which it stays constant
POLY_POWER = 0.9

HAND_TUNED = {"action": "continuous", "decide_first": True}  # no step before the schedule begins
Schedule = Callable[[float, int, np.random.Generator], np.ndarray]


def small_backbone_scales(groups: int) -> np.ndarray:
    """The paper's hand-tuned factors: the backbone x 0.1, the head x 1."""
    scales = np.full(groups, SMALL)
    scales[-1] = 1.0
    return scales


def poly_factor(progress: float) -> float:
    """The paper's decay: (1 - min(p, .8))^.9."""
    return (1.0 - min(progress, POLY_END)) ** POLY_POWER


def warmup_poly_factor(progress: float) -> float:
    """The paper's schedule: its decay times min(.01 + .99 (p / .1)^2, 1)."""
    return min(0.01 + 0.99 * (progress / WARMUP) ** 2, 1.0) * poly_factor(progress)


def cosine_factor(progress: float) -> float:
    """Half a cosine, from 1 to 0."""
    return 0.5 * (1.0 + float(np.cos(np.pi * progress)))


def frozen_scales(groups: int) -> np.ndarray:
    """Only the head trains (the paper's "oracle on ImageNet")."""
    scales = np.zeros(groups)
    scales[-1] = 1.0
    return scales


SCHEDULES: dict[str, Schedule] = {
    "random": lambda p, g, rng: rng.integers(0, 11, g) / 10,
    "large": lambda p, g, rng: np.ones(g),
    "small_backbone": lambda p, g, rng: small_backbone_scales(g),
    "frozen_backbone": lambda p, g, rng: frozen_scales(g),
    "cosine": lambda p, g, rng: cosine_factor(p) * np.ones(g),
    "small_backbone_cosine": lambda p, g, rng: cosine_factor(p) * small_backbone_scales(g),
    "small_backbone_warmup_poly": lambda p, g, rng: (
        warmup_poly_factor(p) * small_backbone_scales(g)
    ),
    "layer_decay": lambda p, g, rng: LAYER_DECAY ** np.arange(g - 1, -1, -1.0),
    "large_warmup_poly": lambda p, g, rng: warmup_poly_factor(p) * np.ones(g),
    "frozen_backbone_warmup_poly": lambda p, g, rng: warmup_poly_factor(p) * frozen_scales(g),
    "small_backbone_poly": lambda p, g, rng: poly_factor(p) * small_backbone_scales(g),
}
"""Every baseline by name."""
COMPARED = tuple(SCHEDULES)[:8]  # those that a learned policy is compared with by default


class SchedulePolicy:
    """A baseline as a policy.

    Args:
        schedule: a key of :data:`SCHEDULES`.
        name: shown in tables; None: the schedule's.
        env_kwargs: more arguments of the environment that belong to it.
    """

    def __init__(self, schedule: str, name: str | None = None, **env_kwargs: Any) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
        self.schedule, self.name = schedule, name or schedule
        self.env_kwargs: dict[str, Any] = {**HAND_TUNED, **env_kwargs}

    @property
    def digest(self) -> str:
        """What it is."""
        return digest({"schedule": self.schedule})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode."""
        self._groups = len(group_names)
        self._progress = list(observation_names).index("progress")
        self._rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) float32 for an observation."""
        progress = float(observation[self._progress])
        scales = SCHEDULES[self.schedule](progress, self._groups, self._rng)
        return np.clip(scales, 0, 1).astype(np.float32)
