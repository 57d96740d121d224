"""The environment: one episode is one fine-tuning run, one step is one decision."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded

from asg_env.control.observations import Observer
from asg_env.control.windows import decisions_before
from asg_env.envs.arguments import resolve, variant_of
from asg_env.envs.copies import CopiedEnv
from asg_env.envs.episode import Episode, epoch_length_of, plan
from asg_env.envs.ledger import Ledger
from asg_env.envs.plain import plain_values
from asg_env.envs.rendering import render_ansi, render_frame
from asg_env.envs.spec import documented
from asg_env.isolation import isolated
from asg_env.models.student import Student
from asg_env.registry import check_choice
from asg_env.seeding import cpu_threads
from asg_env.tasks.base import TASKS, Task
from asg_env.tasks.guidance import GuidedLoss
from asg_env.tasks.problem import Problem

ORACLE = "reward={!r} reads the labels of the real test split: an oracle, not a result"


@documented
class FinetuneEnv(CopiedEnv):
    """Fine-tune a pretrained network on synthetic images; the agent sets the learning rates.

    `reset` builds a student from the pretrained network; each `step` trains one window of optimizer
    steps at the learning rates that the action asks for. G is the number of layer groups.

    ## Action
    One number for each layer group, in forward order; LR = scale x base learning rate.

    {actions}

    ## Observation
    `Box`, float32, always finite and inside its bounds: the global signals, then each per-group
    signal for all groups in order. `observation_names` names every number.

    {observations}

    ## Reward
    One of these. Phi: CE + lambda KL on held-out synthetic images (`outer_valid`), capped at 20.

    {rewards}

    ## Episode
    The seed decides the fresh head, the batch order and, of "train" and "test", the variant, unless
    `options={"variant": name}` does. `terminated`: the budget is spent (progress is observed), or
    the run diverged, with a return below any honest one's. `truncated`: `step_limit` cut it.

    ## Arguments
    `task` is given by the id, or a Task, or `"module:attribute"`; `render_mode`: see the metadata.

    {arguments}

    ## Info
    | key | value |
    | --- | --- |
    | `rewards` | every reward of the step, by name; 0 at the reset |
    | `lr` | (G,) float64, learning rates of the last window |
    | `losses` | window means `train_ce`, `train_kl`, `train_penalty` (of a regulariser, without \
its strength); on outer_valid `valid_ce`, `valid_kl`, `phi`; nats |
    | `dataset`, `variant` | what the images are; the variant in play |
    | `context` | what was drawn for this episode, hidden from the agent |
    | `steps`, `decision` | optimizer steps and decisions done |
    | `skipped` | unreadable images left out so far |
    | `error_type` | only after a divergence |

    Version history: v0 is the first.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    @isolated
    def __init__(self, task: Task | str, render_mode: str | None = None, **arguments: Any) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.task, self.render_mode = TASKS.find(task), render_mode
        self._given, self._episode = plain_values(arguments), None
        self._set_up()
        if self.config.reward_term.oracle:
            warnings.warn(ORACLE.format(self.config.reward_name), stacklevel=3)
        self.observation_space = self._observer.space
        self.action_space = self._action.space(len(self.group_names))

    def _set_up(self) -> None:
        self.config = config = resolve(self._given, self.task.defaults)
        choices = self.task.choices(config.variant)
        self.device, self._action = config.compute.device, config.action_kind
        with cpu_threads(config.cpu_threads):
            self._loaded = self.task.load(choices[0])
        plan(self._loaded, config)
        self.group_names = [group.name for group in self._loaded.groups]
        self._observer = Observer(config.signals, self.group_names)

    @isolated
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a fresh fine-tuning run; see the class for ``seed`` and ``options``.

        If it breaks off, no episode is running, and the same call would start the same one.
        """
        choices = self.task.choices(variant_of(options or {}, self.config.variant))
        before = copy.deepcopy(self._np_random), self._np_random_seed
        try:
            super().reset(seed=seed)
            self._episode = None
            variant = choices[int(self.np_random.integers(len(choices))) if choices[1:] else 0]
            ledger = Ledger(variant, int(self.np_random.integers(2**31)))
            episode = Episode.begin(self.task, self.config, self._observer, ledger)
            found = episode.observation, episode.info
            self._episode = episode
        except BaseException:
            self._np_random, self._np_random_seed = before
            raise
        return found

    @isolated
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Train one window at the chosen learning rates. If it breaks off, the episode is lost."""
        episode = self._running("step()")
        if episode.ledger.over:
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        scales = self._action.scales(action, np.array(episode.ledger.scales), self.group_names)
        self._episode = None  # until the window is whole
        reward = episode.play(scales)
        ends = episode.terminated, episode.truncated
        found = episode.observation, reward, *ends, episode.info
        self._episode = episode
        return found

    @isolated
    def render(self) -> Any:
        """``rgb_array``: a (H, W, 3) uint8 frame. ``ansi``: a table."""
        if self.render_mode is None:
            return gym.logger.warn('render() needs render_mode="rgb_array" or "ansi"')
        ledger = self._running("render()").ledger
        if self.render_mode == "ansi":
            return render_ansi(self.group_names, ledger, self.title)
        return render_frame(self.group_names, ledger, self.title, self._action.highest)

    # -- beyond Gymnasium -------------------------------------------------------------------------

    @property
    def problem(self) -> Problem:
        """What is fine-tuned: of this episode, or of the first variant."""
        return self._episode.problem if self._episode else self._loaded

    @property
    def observation_names(self) -> list[str]:
        """A name for each number of the observation; per-group ones are ``signal/group``."""
        return list(self._observer.names)

    @property
    def epoch_length(self) -> int:
        """Optimizer steps in one pass over the training images."""
        return epoch_length_of(self.problem, self.config)

    @property
    def decisions(self) -> int:
        """Decisions of a whole episode, of a run that does not diverge."""
        before, windows = plan(self.problem, self.config)
        return decisions_before(windows, before, self.config.step_limit)

    @property
    def threads(self) -> int:
        """CPU threads that it runs with."""
        return self.config.cpu_threads or torch.get_num_threads()

    @property
    def student(self) -> Student:
        """The network that is being fine-tuned: to read, not to change."""
        return self._running("asking for the student").optimizee.student

    @property
    def context(self) -> dict[str, Any]:
        """What was drawn for this episode, hidden from the agent."""
        return dict(self._running("asking for the context").ledger.context)

    @property
    def title(self) -> str:
        """Task, variant and dataset, for people."""
        variant = self._episode.ledger.variant if self._episode else self.config.variant
        return f"{self.task.name}{f' {variant}' if variant else ''}: {self.dataset_name}"

    @property
    def dataset_name(self) -> str:
        """What the images are."""
        return self.problem.dataset

    @isolated
    def evaluate(self, split: str = "test") -> dict[str, float]:
        """The objective's score of the student on a split: ``accuracy`` (mean per-class recall,
        [0, 1]) and ``ce`` (nats); for "test" also ``retention``, where it can be measured."""
        return self._running("evaluate()").evaluate(split)

    @isolated
    def proxy_losses(self, split: str = "outer_valid", images: int | None = None) -> GuidedLoss:
        """CE and proxy KL (nats) on the first ``images`` of a split; None: on all."""
        return self._running("proxy_losses()").proxy_losses(split, images)

    @isolated
    def similarity(self, split: str = "test", images: int = 256) -> dict[str, dict[str, float]]:
        """How near the student is to the reset's, by layer group: ``distance``, the norm of the
        weights' change, and ``cka``, the features' linear centred kernel alignment, [0, 1], on
        ``images`` (>= 2) evenly over a split."""
        return self._running("similarity()").similarity(split, images)
