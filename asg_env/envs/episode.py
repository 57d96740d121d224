"""One episode: a fine-tuning run, its inner loop and its ledger in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from asg_env.control.meter import WindowStats
from asg_env.control.observations import Measurement, Observer
from asg_env.control.windows import decision_windows
from asg_env.data.order import epoch_length
from asg_env.envs.arguments import Resolved
from asg_env.envs.context import draw_context
from asg_env.envs.ledger import Ledger
from asg_env.envs.rewards import Transition, capped, crash_reward, no_rewards, rewards_of
from asg_env.envs.snapshot import Snapshot
from asg_env.seeding import cpu_threads
from asg_env.tasks.base import Task
from asg_env.tasks.guidance import GuidedLoss
from asg_env.tasks.problem import Problem
from asg_env.training.optimizee import Optimizee

ATTEMPTS = 100  # draws of a context before giving up
Result = TypeVar("Result")


def on_its_threads(method: Callable[..., Result]) -> Callable[..., Result]:
    """Run a method of an episode with the episode's number of CPU threads."""

    @wraps(method)
    def run(self: Episode, *args: Any, **kwargs: Any) -> Result:
        with cpu_threads(self.config.cpu_threads):
            return method(self, *args, **kwargs)

    return run


def counted(images: Any, least: int) -> int:
    """A number of images as an int; TypeError or ValueError unless it is whole, and enough."""
    if isinstance(images, bool) or not isinstance(images, (int, np.integer)):
        raise TypeError(f"images={images!r}: expected an int >= {least}")
    if images < least:
        raise ValueError(f"images={images}: expected >= {least}")
    return int(images)


def epoch_length_of(problem: Problem, config: Resolved) -> int:
    """Optimizer steps in one pass over the training images."""
    return epoch_length(len(problem.splits["train"]), config.batch_size)


def plan(problem: Problem, config: Resolved) -> tuple[int, list[int]]:
    """Optimizer steps before the first decision, and those of each decision."""
    epoch = epoch_length_of(problem, config)
    return decision_windows(config.window, config.budget, epoch, config.decide_first)


class Episode:
    """A fine-tuning run under way.

    Args:
        task: whose variant is played.
        config: how; what the ledger's context drew wins.
        observer: what is seen of it.
        ledger: where it stands.
    """

    def __init__(self, task: Task, config: Resolved, observer: Observer, ledger: Ledger) -> None:
        self.config = config = config.drawn(ledger.context)
        self.observer, self.ledger = observer, ledger
        with cpu_threads(config.cpu_threads):
            self.problem = task.load(ledger.variant)
            self.optimizee = self._fresh()

    def _fresh(self) -> Optimizee:
        """The run as it starts."""
        settings, compute = self.config.training(self.problem), self.config.compute
        directions = self.observer.directions
        return Optimizee(self.problem, settings, self.ledger.seed, compute, directions)

    @classmethod
    def begin(cls, task: Task, config: Resolved, observer: Observer, ledger: Ledger) -> Episode:
        """A fresh run: what is trained before the first decision, if anything, and measured.

        A context in which every first action would diverge at once is drawn anew.

        Raises:
            ValueError: all that are drawn do.
        """
        for attempt in range(ATTEMPTS if config.context else 1):
            ledger.context = draw_context(config.context or {}, ledger.seed, attempt)
            episode = cls(task, config, observer, ledger)
            ledger.steps, ledger.windows = plan(episode.problem, episode.config)
            episode._start()
            if not (config.context and episode._hopeless(config.base_lr)):
                return episode
        raise ValueError(
            f"context={config.context!r}: {ATTEMPTS} draws in a row diverge at once whatever the "
            "first action is: lower base_lr or momentum"
        )

    @on_its_threads
    def _hopeless(self, tame: float) -> bool:
        """Whether even the gentlest first action diverges; not tried up to the LR ``tame``."""
        if not np.isfinite(self.ledger.losses["phi"]):
            return True
        scale = self.config.action_kind.gentlest(self.config.first_scale)
        if scale * self.config.base_lr <= tame:
            return False
        scales, trial = np.full(len(self.problem.groups), scale), self._fresh()
        if self.ledger.steps:
            trial.train_window(np.full(len(scales), self.config.first_scale), self.ledger.steps)
        return not trial.train_window(scales, self.ledger.window).finite

    @on_its_threads
    def _start(self) -> None:
        ledger, optimizee = self.ledger, self.optimizee
        scales = np.full(len(self.problem.groups), self.config.first_scale)
        if ledger.steps:
            self._measure(optimizee.train_window(scales, ledger.steps), scales, ledger.steps)
        else:
            self._measure(optimizee.measure_window(), scales, 0)
        ledger.phi_start = ledger.phi
        ledger.rewards = no_rewards(self.config.reward, ledger.accuracy is not None)
        ledger.write_row(0.0)

    # -- one decision -----------------------------------------------------------------------------

    @on_its_threads
    def play(self, scales: np.ndarray) -> float:
        """Train a window at LR scales (G,), measure what that did, and reward it.

        If it breaks off, the episode is lost: a window cannot be repeated.
        """
        ledger = self.ledger
        before = ledger.phi, ledger.train_loss, ledger.accuracy
        window = self.optimizee.train_window(scales, ledger.window)
        steps = ledger.window
        ledger.advance()
        self._measure(window, scales, steps)
        reward = self._reward(*before)
        ledger.over = self.terminated or self.truncated
        return reward

    def _measure(self, window: WindowStats, scales: np.ndarray, steps: int) -> None:
        """Observe the run as it is now, after a window of ``steps``, and read its losses."""
        ledger = self.ledger
        ledger.scales = scales.tolist()
        seen = Measurement(
            window=window,
            probe=self.optimizee.probe(),
            progress=ledger.steps / self.config.budget,
            lr_scale=scales,
            steps=steps,
            left=len(ledger.windows) - ledger.decision,
            ce_before=ledger.losses.get("train_ce", np.nan),
            ce_start=ledger.history[0]["train_ce"] if ledger.history else np.nan,
            start_scale=self.config.first_scale,
        )
        ledger.observation = self.observer.observe(seen).tolist()
        ledger.losses = self._losses(window)
        if ledger.decision and not (window.finite and np.isfinite(ledger.losses["phi"])):
            ledger.error = "diverged"
        ledger.phi = capped(ledger.losses["phi"])
        ledger.train_loss = capped(window.ce + self.config.guidance * window.kl)
        if self.config.reward_term.oracle:
            ledger.accuracy = self.optimizee.evaluate("test")[self.problem.objective.metric]

    def _losses(self, window: WindowStats) -> dict[str, float]:
        valid = self.optimizee.losses("outer_valid", self.config.reward_images)
        ce, kl = float(valid.ce), float(valid.kl)
        losses = {
            "train_ce": window.ce,
            "train_kl": window.kl,
            "valid_ce": ce,
            "valid_kl": kl,
            "phi": ce + self.config.reward_guidance * kl,
        }
        return losses if window.penalty is None else {**losses, "train_penalty": window.penalty}

    def _reward(self, phi: float, train_loss: float, accuracy: float | None) -> float:
        """The reward in use, of what has just been measured; the arguments are from before."""
        ledger, config = self.ledger, self.config
        transition = Transition(
            phi_start=ledger.phi_start,
            phi_before=phi,
            phi=ledger.phi,
            train_loss_before=train_loss,
            train_loss=ledger.train_loss,
            last=ledger.budget_spent or self._limit_reached,
            accuracy_before=accuracy,
            accuracy=ledger.accuracy,
        )
        ledger.rewards = rewards_of(transition, config.reward)
        if ledger.error:
            crash = crash_reward(config.reward, len(ledger.windows), ledger.returned)
            ledger.rewards[config.reward_name] = crash
        reward = ledger.rewards[config.reward_name]
        ledger.returned += reward
        ledger.write_row(reward)
        return float(reward)

    # -- what there is to see ---------------------------------------------------------------------

    @property
    def terminated(self) -> bool:
        """Whether the run is at its end: the budget is spent, or it diverged."""
        return self.ledger.error is not None or self.ledger.budget_spent

    @property
    def truncated(self) -> bool:
        """Whether an outer limit cut a run that could go on."""
        return not self.terminated and self._limit_reached

    @property
    def _limit_reached(self) -> bool:
        limit = self.config.step_limit
        return limit is not None and self.ledger.steps >= limit

    @property
    def observation(self) -> np.ndarray:
        """The newest one, float32."""
        return np.asarray(self.ledger.observation, dtype=np.float32)

    @property
    def info(self) -> dict[str, Any]:
        """See :class:`~asg_env.envs.finetune.FinetuneEnv`."""
        ledger = self.ledger
        info: dict[str, Any] = {
            "rewards": dict(ledger.rewards),
            "lr": np.asarray(ledger.scales) * self.config.base_lr,
            "losses": dict(ledger.losses),
            "dataset": self.problem.dataset,
            "variant": ledger.variant or "",
            "steps": ledger.steps,
            "decision": ledger.decision,
            "context": dict(ledger.context),
            "skipped": self.problem.skipped,
        }
        return {**info, "error_type": ledger.error} if ledger.error else info

    @on_its_threads
    def evaluate(self, split: str) -> dict[str, float]:
        """The objective's score on a split, and retention on "test"; ValueError without such a
        split, as of the two below."""
        self.problem.check_split(split)
        return self.optimizee.evaluate(split)

    @on_its_threads
    def proxy_losses(self, split: str, images: int | None) -> GuidedLoss:
        """CE and proxy KL on the first images of a split; None: on all."""
        self.problem.check_split(split)
        return self.optimizee.losses(split, images if images is None else counted(images, 1))

    @on_its_threads
    def similarity(self, split: str, images: int) -> dict[str, dict[str, float]]:
        """How near the student is to the start, by measure and layer group."""
        self.problem.check_split(split)
        images = counted(images, 2)
        names = [group.name for group in self.problem.groups]
        found = self.optimizee.similarity(split, images)._asdict()
        return {k: dict(zip(names, v.tolist(), strict=True)) for k, v in found.items()}

    # -- snapshots --------------------------------------------------------------------------------

    def snapshot(self, **more: Any) -> Snapshot:
        """All that its future depends on; ``more``: JSON values to keep beside it."""
        state = {
            "problem": self.problem.fingerprint,
            "episode": dataclasses.asdict(self.ledger),
            "position": self.optimizee.order.position,
            **more,
        }
        return Snapshot(self.optimizee.tensors(), state)

    @classmethod
    def restored(
        cls, task: Task, config: Resolved, observer: Observer, snapshot: Snapshot
    ) -> Episode:
        """The episode of a :meth:`snapshot`."""
        episode = cls(task, config, observer, Ledger(**snapshot.state["episode"]))
        episode.optimizee.load_tensors(snapshot.tensors, snapshot.state["position"])
        return episode
