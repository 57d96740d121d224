"""What happens between two updates of a training: logs, evaluations, checkpoints."""

from __future__ import annotations

import json
import time
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.reinforce import EVAL_SEED
from agents.sb3_args import Args
from agents.sb3_model import Plan, policy_of
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.records import Record
from asg_env.learning.checkpoint import due
from asg_env.learning.sb3_state import write_state
from asg_env.policies.sb3 import SB3Policy, save_sb3_policy
from asg_env.policies.sb3_algorithms import Values
from asg_env.reports.comparison import finite

VALID_SEED = 2 * EVAL_SEED  # the first seed of the evaluations during the training


class Progress(BaseCallback):
    """Logs, evaluates and saves between two updates.

    Args:
        args: the run's.
        values: the hyperparameters.
        plan: the updates.
        board: TensorBoard's writer.
        done: updates done before.
        notes: what a checkpoint remembers: totals, and the best evaluation.
    """

    def __init__(
        self, args: Args, values: Values, plan: Plan, board: Any, done: int, notes: dict[str, Any]
    ) -> None:
        super().__init__()
        self.args, self.values, self.plan, self.board = args, values, plan, board
        self.update, self.notes = done, notes
        self.bar = tqdm(total=plan.updates, initial=done, desc="meta-training")
        self._played()

    def _played(self) -> None:
        """Forget what was played."""
        self.returns: list[float] = []
        self.scales: list[np.ndarray] = []
        self.began = time.perf_counter()

    def _init_callback(self) -> None:
        self.names = list(self.training_env.get_attr("group_names", 0)[0])
        self.base_lr = self.training_env.get_attr("config", 0)[0].base_lr

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.scales.append(info["lr"] / self.base_lr)
            if "episode" in info:
                self.returns.append(float(info["episode"]["r"]))
                self.notes["episodes"] += 1
                self.notes["optimizer_steps"] += info["steps"]
        return True

    def _on_rollout_start(self) -> None:
        if self.scales:  # after an update
            self._finish()

    def _on_training_end(self) -> None:
        self._finish()
        self.bar.close()

    def _finish(self) -> None:
        row = self._row()
        evaluations = self._evaluate()
        row |= evaluations
        with (self.args.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")
        log(self.board, row)
        if due(self.update, self.plan.updates, self.args.snapshots):
            policy = policy_of(self.model, self.args, self.values)
            save_sb3_policy(policy, self.args.out / "snapshots", f"{self.update:06d}")
        if self.update % self.args.save_every == 0 or self.update == self.plan.updates:
            write_state(self.model, self.args.out, self.update, self.notes)
        self.bar.update()
        self.bar.set_postfix({"return": f"{row['return']:.3f}"})
        self._played()

    def _row(self) -> dict[str, Any]:
        """The row to log, with the keys of agents/reinforce.py where there is the same."""
        self.update += 1
        returns = np.array(self.returns or [np.nan])
        recorded = {
            k.removeprefix("train/"): float(v)
            for k, v in self.logger.name_to_value.items()
            if k.startswith("train/")
        }
        self.logger.dump()
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

    # -- evaluations ------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        """Evaluate where it is due, and keep the best policy; what to log."""
        every = self.args.eval_every
        each = self.plan.episodes * self.plan.copies
        last = self.update == self.plan.updates
        if not every or not (
            last or self.update * each // every > (self.update - 1) * each // every
        ):
            return {}
        policy = policy_of(self.model, self.args, self.values)
        valid = self._play(policy, self.args.variant, VALID_SEED)
        test = self._play(policy, self.args.test_variant, VALID_SEED)
        found = {"valid_return": _mean([r.episode_return for r in valid])}
        found["test_return"] = _mean([r.episode_return for r in test])
        for key in ("accuracy", "retention"):
            found[f"test_{key}"] = _mean([r.final.get(key, float("nan")) for r in test])
        if self.notes["best"] is None or found["valid_return"] > self.notes["best"]:
            self.notes["best"] = found["valid_return"]  # the test variants choose nothing
            save_sb3_policy(policy, self.args.out, "best")
        return found

    def _play(self, policy: SB3Policy, variant: str | None, first: int) -> list[Record]:
        kwargs = {**self.args.env_kwargs, **policy.env_kwargs, "variant": variant}
        env = gym.make("asg_env:" + self.args.env, **kwargs)
        greedy, policy.greedy = policy.greedy, True
        seeds = range(first, first + self.args.eval_episodes)
        try:
            return [run_episode(env, policy, self.args.env, kwargs, seed) for seed in seeds]
        finally:
            policy.greedy = greedy
            env.close()


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def log(board: Any, row: dict[str, Any]) -> None:
    """Write a row to TensorBoard."""
    step = row["update"]
    for name, value in row.items():
        if isinstance(value, float):
            group = "eval" if name.startswith(("valid_", "test_")) else "train"
            board.add_scalar(f"{group}/{name}", value, step)
    for group, scale in row["lr_scale"].items():
        board.add_scalar(f"lr_scale/{group}", scale, step)
    for name, value in row["train"].items():
        board.add_scalar(f"sb3/{name}", value, step)
