"""How a training with Stable-Baselines3 is cut into updates, and what each of them played."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from asg_env.evaluation.play import lr_scales


@dataclass(frozen=True)
class Linear:
    """A learning rate that falls linearly, from ``start`` in the first of ``updates`` to an
    ``updates``-th of it in the last."""

    start: float
    updates: int

    def __call__(self, left: float) -> float:
        """The learning rate; ``left`` is SB3's share of the training that is left *after* the
        rollout, so that it would be 0 in the last update."""
        return self.start * (left + 1 / self.updates)


@dataclass(frozen=True)
class Plan:
    """How a training is cut into updates.

    ``decisions`` of an episode, ``episodes`` of each copy in an update, ``updates`` in all.
    """

    decisions: int
    episodes: int
    copies: int
    updates: int

    @property
    def rollout(self) -> int:
        """Decisions of each copy in an update."""
        return self.decisions * self.episodes

    @property
    def env_steps(self) -> int:
        """Decisions of all copies in the whole training."""
        return self.rollout * self.copies * self.updates

    def crosses(self, update: int, every: int) -> bool:
        """Whether a multiple of ``every`` episodes was reached in an update."""
        each = self.episodes * self.copies
        return update * each // every > (update - 1) * each // every


class UpdateCallback(BaseCallback):
    """Collects what is played for an update, and calls ``after_update(row)`` after it.

    Args:
        done: updates done before.
        notes: what a checkpoint remembers; ``episodes`` and ``optimizer_steps`` are counted here.
    """

    def __init__(self, done: int, notes: dict[str, Any]) -> None:
        super().__init__()
        self.update, self.notes = done, notes
        self._forget()

    @abstractmethod
    def after_update(self, row: dict[str, Any]) -> None:
        """Log, evaluate and save; ``row`` has the keys of agents/reinforce.py where there is the
        same, and ``train``: what SB3 recorded."""

    def _forget(self) -> None:
        """Forget what was played."""
        self.returns: list[float] = []
        self.scales: list[np.ndarray] = []
        self.began = time.perf_counter()

    def _init_callback(self) -> None:
        self.names = list(self.training_env.get_attr("group_names", 0)[0])
        self.base_lr = self.training_env.get_attr("config", 0)[0].base_lr

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.scales.append(lr_scales(info, self.base_lr))
            if "episode" in info:
                self.returns.append(float(info["episode"]["r"]))
                self.notes["episodes"] += 1
                self.notes["optimizer_steps"] += info["steps"]
        return True

    def _on_rollout_start(self) -> None:
        if self.scales:  # after an update
            self._end_update()

    def _on_training_end(self) -> None:
        self._end_update()

    def _end_update(self) -> None:
        self.update += 1
        self.after_update(self._row())
        self._forget()

    def _row(self) -> dict[str, Any]:
        returns, recorded = np.array(self.returns or [np.nan]), self._recorded()
        row = {
            "update": self.update,
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "lr_scale": dict(zip(self.names, np.mean(self.scales, 0).tolist(), strict=True)),
            "episodes": self.notes["episodes"],
            "env_steps": self.model.num_timesteps,
            "optimizer_steps": self.notes["optimizer_steps"],
            "train": recorded,
            "seconds": time.perf_counter() - self.began,
        }
        if "loss" in recorded:
            row["loss"] = recorded["loss"]
        if "entropy_loss" in recorded:  # over all groups; REINFORCE's is the mean
            row["entropy"] = -recorded["entropy_loss"] / len(self.names)
        return row

    def _recorded(self) -> dict[str, float]:
        """What SB3 recorded since the last update."""
        values = self.logger.name_to_value.items()
        found = {k.removeprefix("train/"): float(v) for k, v in values if k.startswith("train/")}
        self.logger.dump()
        return found
