"""The environment: one episode is one fine-tuning run, one step is one decision."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding

from asg_env.compute import Compute, resolve_device
from asg_env.control.observations import Measurement, Observer
from asg_env.control.windows import PAPER_MIN_WINDOW, fixed_windows, paper_windows
from asg_env.data.order import epoch_length
from asg_env.envs.arguments import FinetuneConfig, config_from
from asg_env.envs.episode import Episode
from asg_env.envs.rendering import render_ansi, render_frame
from asg_env.envs.rewards import REWARDS, Transition, capped, crash_reward, rewards_of
from asg_env.envs.snapshot import Snapshot, read_snapshot, write_snapshot
from asg_env.methods.guidance import GuidedLoss
from asg_env.models.student import Student
from asg_env.seeding import cpu_threads
from asg_env.tasks.base import Problem, Task
from asg_env.training.optimizee import Optimizee, OptimizeeSettings, WindowStats

LEVELS = 11  # discrete LR scales 0, .1, ..., 1 (paper)
PORTABLE = ("device", "threads")  # arguments that a snapshot may be loaded under other values of


class FinetuneEnv(gym.Env[np.ndarray, np.ndarray]):
    """Fine-tune a pretrained network on synthetic images; the agent sets the learning rates.

    ## Action
    One number for each layer group, in forward order: `discrete` (default) `MultiDiscrete([11]*G)`,
    k means k/10 x the base learning rate (paper); `continuous` `Box(0, 1, (G,))`, the scale itself.

    ## Observation
    `Box`, float32, always finite and inside its bounds. `paper`: CE, KL, progress, mean and std of
    the head's last weight, then each group's LR scale. `layerwise` (default): these and, for each
    group, gradient norm, update-to-weight ratio, distance from the start and feature KL. Names in
    `observation_names`; formulas in :data:`asg_env.control.observations.OBSERVATIONS`.

    ## Reward
    One of :data:`asg_env.envs.rewards.REWARDS`, all in `info["rewards"]`. Default `proxy_valid`:
    the decrease of CE + lambda KL on held-out synthetic images (`outer_valid`).

    ## Episode
    `reset` builds a student from the pretrained network. Each step trains one window. It is
    `terminated` when the budget is spent (progress is observed) or the run diverged
    (`info["error_type"]`, and a return below any honest one's), `truncated` at `step_limit`.

    ## Arguments
    See :class:`~asg_env.envs.arguments.FinetuneConfig`; `render_mode` is None, "rgb_array", "ansi".

    ## Info
    `rewards`, `lr` (G,) learning rates of the last window, `losses` (train_ce, train_kl: window
    means; valid_ce, valid_kl, phi: on outer_valid; with a `regularizer` also train_penalty, the
    window's mean without its strength), `dataset`, `variant`, `steps`, `decision`, `skipped`
    (unreadable images left out so far), and `error_type` after a divergence.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(self, task: Task, render_mode: str | None = None, **arguments: Any) -> None:
        modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode={render_mode!r}: expected None or one of {modes}")
        self.task, self.render_mode = task, render_mode
        self.config: FinetuneConfig = config_from(arguments).resolved(task.defaults)
        choices = self._choices({})
        assert self.config.device is not None and self.config.channels_last is not None
        self.device = resolve_device(self.config.device)
        self.compute = Compute(self.device, self.config.channels_last, self.config.precision)
        self._threads = self._thread_count()
        if REWARDS[self.config.reward].oracle:
            warnings.warn(
                f"reward={self.config.reward!r} reads the labels of the real test split: an "
                "oracle, not a result",
                stacklevel=2,
            )
        with cpu_threads(self._threads):
            self.problem: Problem = task.load(choices[0])
        self._windows()
        self.group_names = [group.name for group in self.problem.groups]
        groups = len(self.group_names)
        self._observer = Observer(self.config.observation, self.group_names)
        self.observation_space = self._observer.space
        self.action_space = (
            spaces.MultiDiscrete([LEVELS] * groups)
            if self.config.action == "discrete"
            else spaces.Box(0.0, 1.0, (groups,), np.float32)
        )
        self._optimizee: Optimizee | None = None
        self._episode: Episode | None = None

    # -- Gymnasium's interface --------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a fresh fine-tuning run.

        Args:
            seed: of the new head, the batch order and (for "train"/"test") the variant.
            options: ``{"variant": name}`` overrides the variant for this episode.
        """
        choices = self._choices(options or {})
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(len(choices))) if len(choices) > 1 else 0
        episode_seed = int(self.np_random.integers(2**31))
        with cpu_threads(self._threads):
            self._begin(choices[drawn], episode_seed)
            measurement = self._first_measurement()
            self._record_start(measurement)
        return self._observation(measurement), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Train one window at the chosen learning rates."""
        optimizee, episode = self._running()
        scales = self._scales(action)
        episode.over = True  # unless all goes well: a window that broke off cannot be repeated
        with cpu_threads(self._threads):
            window = optimizee.train_window(scales, episode.windows[episode.decision])
            episode.advance()
            measurement = self._measure(window, scales)
            reward = self._reward(window)
        terminated = episode.error is not None or episode.budget_spent
        truncated = not terminated and self._limit_reached()
        episode.over = terminated or truncated
        return self._observation(measurement), reward, terminated, truncated, self._info()

    def render(self) -> Any:
        """``rgb_array``: a (H, W, 3) uint8 frame. ``ansi``: a table."""
        if self.render_mode is None:
            gym.logger.warn('render() needs gym.make(..., render_mode="rgb_array" or "ansi")')
            return None
        if self._episode is None:
            raise ResetNeeded("call reset() before render()")
        draw = render_frame if self.render_mode == "rgb_array" else render_ansi
        return draw(self.group_names, self._episode, self.title)

    # -- beyond Gymnasium -------------------------------------------------------------------------

    @property
    def observation_names(self) -> list[str]:
        """A name for each number of the observation; per-group ones are ``signal/group``."""
        return list(self._observer.names)

    @property
    def dataset_name(self) -> str:
        """What the images are."""
        return self.problem.dataset

    @property
    def epoch_length(self) -> int:
        """Optimizer steps in one pass over the training images."""
        assert self.config.batch_size is not None
        return epoch_length(len(self.problem.splits["train"]), self.config.batch_size)

    @property
    def decisions(self) -> int:
        """Decisions of a whole episode, of a run that does not diverge."""
        before, windows = self._windows()
        limit = self.config.step_limit or math.inf
        ends = [before + sum(windows[: i + 1]) for i in range(len(windows))]
        return next((i for i, end in enumerate(ends, 1) if end >= limit), len(ends))

    @property
    def threads(self) -> int:
        """CPU threads that it runs with."""
        return self._threads or torch.get_num_threads()

    @property
    def student(self) -> Student:
        """The network that is being fine-tuned: to read, not to change."""
        if self._optimizee is None:
            raise ResetNeeded("call reset() before asking for the student")
        return self._optimizee.student

    @property
    def title(self) -> str:
        """Task, variant and dataset, for people."""
        variant = self._episode.variant if self._episode else self.config.variant
        return f"{self.task.name}{f' {variant}' if variant else ''}: {self.dataset_name}"

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Evaluate the student as it is now.

        Args:
            split: one of the problem's splits; ``"test"`` is the real target.

        Returns:
            ``accuracy`` (mean per-class recall) and ``ce`` (nats); for "test", where the task can
            measure it, also ``retention``; accuracies in [0, 1].
        """
        self._check_split(split)
        if self._optimizee is None:
            raise ResetNeeded("call reset() before evaluate()")
        with cpu_threads(self._threads):
            return self._optimizee.evaluate(split)

    def proxy_losses(self, split: str = "outer_valid", images: int | None = None) -> GuidedLoss:
        """CE and proxy KL (nats) of the student as it is now.

        Args:
            split: one of the problem's splits.
            images: only the first ones; None: all.
        """
        if self._optimizee is None:
            raise ResetNeeded("call reset() before proxy_losses()")
        with cpu_threads(self._threads):
            return self._optimizee.losses(split, images)

    def similarity(self, split: str = "test", images: int = 256) -> dict[str, dict[str, float]]:
        """How near the student is to what it was at the reset: why it works, or does not.

        Args:
            split: on whose images the features are compared.
            images: at most so many, evenly over the split (of all its classes), >= 2.

        Returns:
            By layer group: ``distance``, the norm of the weights' change, and ``cka``, the linear
            centred kernel alignment of the features at the group's output, [0, 1].
        """
        self._check_split(split)
        if images < 2:
            raise ValueError(f"images={images}: expected >= 2")
        if self._optimizee is None:
            raise ResetNeeded("call reset() before similarity()")
        with cpu_threads(self._threads):
            found = self._optimizee.similarity(split, images)
        return {
            name: dict(zip(self.group_names, values.tolist(), strict=True))
            for name, values in found._asdict().items()
        }

    def fork(self) -> FinetuneEnv:
        """A second environment with the identical future, bit for bit (unwrapped)."""
        arguments = dataclasses.asdict(self.config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = FinetuneEnv(self.task, self.render_mode, **arguments)
        other.spec = self.spec
        other._restore(self._snapshot())
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the running episode to a file (safetensors; whole or not at all)."""
        write_snapshot(path, self._snapshot())

    def load(self, path: str | os.PathLike[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Continue an episode that :meth:`save` wrote, in this or another process.

        Returns:
            The observation and info that were current when it was saved.

        Raises:
            FileNotFoundError, ValueError: no such file; truncated, not a snapshot, or written by
                an environment made with other arguments. The running episode is then untouched.
        """
        snapshot = read_snapshot(path)
        try:
            self._check_fits(snapshot, os.fspath(path))
            self._restore(snapshot)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{os.fspath(path)!r} is no whole snapshot: {error}") from error
        assert self._episode is not None
        return np.asarray(self._episode.observation, dtype=np.float32), self._info()

    def _check_split(self, split: str) -> None:
        if split not in self.problem.splits:
            known = ", ".join(self.problem.splits)
            raise ValueError(f"unknown split {split!r}; expected one of {known}")

    # -- reset, in parts --------------------------------------------------------------------------

    def _choices(self, options: dict[str, Any]) -> list[str | None]:
        """The variants that a reset draws from."""
        unknown = set(options) - {"variant"}
        if unknown:
            raise ValueError(f"unknown reset option {sorted(unknown)[0]!r}; known: variant")
        name = options.get("variant", self.config.variant)
        self.task.check_variant(name)
        return list(self.task.variants(name)) if name in ("train", "test") else [name]

    def _begin(self, variant: str | None, seed: int) -> None:
        self.problem = self.task.load(variant)
        before, windows = self._windows()
        self._episode = Episode(variant, seed, windows, steps=before)
        self._optimizee = Optimizee(self.problem, self._settings(self.problem), seed, self.compute)

    def _settings(self, problem: Problem) -> OptimizeeSettings:
        """The inner loop's settings; ``teacher="auto"`` is decided by the budget."""
        config, train = self.config, problem.splits["train"]
        teacher = config.teacher
        if teacher == "auto":
            assert config.budget is not None and config.batch_size is not None
            once = train.key is not None and config.budget * config.batch_size < len(train)
            teacher = "online" if once else "cached"
        return dataclasses.replace(config.optimizee, teacher=teacher)

    def _windows(self) -> tuple[int, list[int]]:
        """Optimizer steps before the first decision, and those of each decision.

        Raises:
            ValueError: the budget leaves no decision.
        """
        window, budget = self.config.window, self.config.budget
        assert budget is not None
        if isinstance(window, int):
            return 0, fixed_windows(window, budget)
        windows = paper_windows(self.epoch_length, budget, PAPER_MIN_WINDOW)
        if self.config.decide_first:
            return 0, windows
        if len(windows) < 2:
            raise ValueError(
                f"budget={budget} leaves no decision: with window='paper' the first {windows[0]} "
                "optimizer steps run before it; raise budget, or pass decide_first=True"
            )
        return windows[0], windows[1:]

    def _first_measurement(self) -> Measurement:
        """What was trained before the first decision, or else a measurement of the next batch."""
        optimizee, episode = self._optimizee, self._episode
        assert optimizee is not None and episode is not None
        scales = np.ones(len(self.group_names))
        if episode.steps:
            window = optimizee.train_window(scales, episode.steps)
        else:
            window = optimizee.measure_window()
        return self._measure(window, scales)

    def _record_start(self, measurement: Measurement) -> None:
        episode = self._episode
        assert episode is not None
        self._read_losses(measurement.window)
        episode.phi_start = episode.phi = capped(episode.losses["phi"])
        episode.train_loss = self._train_loss(measurement.window)
        episode.accuracy = self._target_accuracy()
        episode.rewards = {}
        episode.history.append(self._row(0.0))

    # -- step, in parts ---------------------------------------------------------------------------

    def _running(self) -> tuple[Optimizee, Episode]:
        if self._optimizee is None or self._episode is None:
            raise ResetNeeded("call reset() before step()")
        if self._episode.over:
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        return self._optimizee, self._episode

    def _scales(self, action: Any) -> np.ndarray:
        """The LR scales (G,) float64 of a valid action; ValueError for any other."""
        values = np.asarray(action)
        shape = (len(self.group_names),)
        if values.shape != shape:
            raise ValueError(
                f"action has shape {values.shape}, expected {shape}: one number for each of "
                f"{', '.join(self.group_names)}"
            )
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError(f"action {action!r} holds something that is no finite number")
        discrete = self.config.action == "discrete"
        high = LEVELS - 1 if discrete else 1
        if (values < 0).any() or (values > high).any():
            raise ValueError(f"action {values} is out of range: expected numbers in [0, {high}]")
        if discrete and (values != np.floor(values)).any():
            raise ValueError(f"action {values}: a discrete action holds whole numbers 0..{high}")
        return values.astype(np.float64) / (LEVELS - 1 if discrete else 1)

    def _measure(self, window: WindowStats, scales: np.ndarray) -> Measurement:
        optimizee, episode = self._optimizee, self._episode
        assert optimizee is not None and episode is not None and self.config.budget is not None
        episode.scales = scales.tolist()
        return Measurement(window, optimizee.probe(), episode.steps / self.config.budget, scales)

    def _reward(self, window: WindowStats) -> float:
        """Read the losses, compute every reward, and return the chosen one."""
        episode = self._episode
        assert episode is not None
        before = episode.phi, episode.train_loss, episode.accuracy
        self._read_losses(window)
        if not (window.finite and np.isfinite(episode.losses["phi"])):
            episode.error = "diverged"
        episode.phi = capped(episode.losses["phi"])
        episode.train_loss = self._train_loss(window)
        episode.accuracy = self._target_accuracy()
        last = episode.budget_spent or self._limit_reached()
        transition = Transition(
            *(episode.phi_start, before[0], episode.phi, before[1], episode.train_loss, last),
            *(before[2], episode.accuracy),
        )
        episode.rewards = rewards_of(transition)
        reward = episode.rewards[self.config.reward]
        if episode.error:
            reward = crash_reward(self.config.reward, len(episode.windows), episode.returned)
            episode.rewards[self.config.reward] = reward
        episode.returned += reward
        episode.history.append(self._row(reward))
        return float(reward)

    def _limit_reached(self) -> bool:
        assert self._episode is not None
        limit = self.config.step_limit
        return limit is not None and self._episode.steps >= limit

    def _read_losses(self, window: WindowStats) -> None:
        assert self._optimizee is not None and self._episode is not None
        assert self.config.reward_guidance is not None
        valid = self._optimizee.losses("outer_valid", self.config.reward_images)
        ce, kl = float(valid.ce), float(valid.kl)
        self._episode.losses = {
            "train_ce": window.ce,
            "train_kl": window.kl,
            "valid_ce": ce,
            "valid_kl": kl,
            "phi": ce + self.config.reward_guidance * kl,
        }
        if window.penalty is not None:
            self._episode.losses["train_penalty"] = window.penalty

    def _train_loss(self, window: WindowStats) -> float:
        assert self.config.guidance is not None
        return capped(window.ce + self.config.guidance * window.kl)

    def _target_accuracy(self) -> float | None:
        """Target accuracy, read only if the chosen reward is the oracle."""
        if not REWARDS[self.config.reward].oracle:
            return None
        assert self._optimizee is not None
        return self._optimizee.evaluate("test")["accuracy"]

    def _row(self, reward: float) -> dict[str, Any]:
        episode = self._episode
        assert episode is not None
        return {
            "steps": episode.steps,
            "scales": list(episode.scales),
            **episode.losses,
            "reward": reward,
        }

    def _observation(self, measurement: Measurement) -> np.ndarray:
        assert self._episode is not None
        observation = self._observer.observe(measurement)
        self._episode.observation = observation.tolist()
        return observation

    def _info(self) -> dict[str, Any]:
        episode = self._episode
        assert episode is not None and self.config.base_lr is not None
        info: dict[str, Any] = {
            "rewards": dict(episode.rewards),
            "lr": np.asarray(episode.scales) * self.config.base_lr,
            "losses": dict(episode.losses),
            "dataset": self.problem.dataset,
            "variant": episode.variant or "",
            "steps": episode.steps,
            "decision": episode.decision,
            "skipped": self.problem.skipped,
        }
        if episode.error:
            info["error_type"] = episode.error
        return info

    # -- snapshots --------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        if self._optimizee is None or self._episode is None:
            raise ResetNeeded("call reset() before fork() or save()")
        state = {
            "task": self.task.name,
            "problem": self.problem.fingerprint,
            "config": dataclasses.asdict(self.config),
            "episode": dataclasses.asdict(self._episode),
            "position": self._optimizee.order.position,
            "np_random": self.np_random.bit_generator.state,
        }
        return Snapshot(self._optimizee.tensors(), state)

    def _check_fits(self, snapshot: Snapshot, path: str) -> None:
        state = snapshot.state
        if state["task"] != self.task.name:
            raise ValueError(f"{path!r} is of task {state['task']!r}, this is {self.task.name!r}")
        own = dataclasses.asdict(self.config)
        for name, value in state["config"].items():
            if name not in PORTABLE and own.get(name) != value:
                raise ValueError(
                    f"{path!r} was saved with {name}={value!r}, this environment has "
                    f"{name}={own.get(name)!r}: make it with the same arguments"
                )
        if state["problem"] != self.task.load(state["episode"]["variant"]).fingerprint:
            raise ValueError(
                f"{path!r} was saved with other images, pretrained weights, layer groups or "
                "evaluation than this environment has: make it with the same ones"
            )

    def _restore(self, snapshot: Snapshot) -> None:
        episode = Episode(**snapshot.state["episode"])
        with cpu_threads(self._threads):
            problem = self.task.load(episode.variant)
            optimizee = Optimizee(problem, self._settings(problem), episode.seed, self.compute)
            optimizee.load_tensors(snapshot.tensors, snapshot.state["position"])
        np_random, _ = seeding.np_random(0)
        np_random.bit_generator.state = snapshot.state["np_random"]
        self.problem, self._optimizee, self._episode = problem, optimizee, episode
        self.np_random = np_random

    def _thread_count(self) -> int | None:
        """CPU threads to run with; None leaves PyTorch's setting."""
        if self.config.threads is not None:
            return self.config.threads or None
        return 1 if multiprocessing.parent_process() is not None else None
