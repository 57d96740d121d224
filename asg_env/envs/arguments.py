"""The environment's arguments: one dataclass, checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asg_env.compute import PRECISIONS
from asg_env.control.observations import OBSERVATIONS
from asg_env.envs.rewards import REWARDS
from asg_env.methods.regularizers import NONE, REGULARIZERS
from asg_env.tasks.base import Defaults
from asg_env.training.optim import OPTIMIZERS
from asg_env.training.optimizee import TEACHERS, OptimizeeSettings

ACTIONS = ("discrete", "continuous")


@dataclass(frozen=True)
class FinetuneConfig:
    """Arguments of :class:`~asg_env.envs.finetune.FinetuneEnv`.

    None stands for the task's own value wherever the task has one.
    """

    variant: str | None = None
    """The task's variant; "train", "test": one drawn at each reset. None: the task itself."""
    observation: str = "layerwise"
    """A key of OBSERVATIONS: ``"paper"`` or ``"layerwise"``."""
    action: str = "discrete"
    """"discrete": MultiDiscrete([11]*G), k is k/10 x base. "continuous": Box(0, 1, (G,))."""
    reward: str = "proxy_valid"
    """A key of REWARDS."""
    guidance: float | None = None
    """lambda, the weight of the proxy KL in the training loss, >= 0."""
    reward_guidance: float | None = None
    """lambda inside the reward's Phi, >= 0. None: the same as ``guidance``."""
    reward_images: int | None = None
    """Images of ``outer_valid`` that the reward is measured on, the first ones; None: all."""
    regularizer: str = NONE
    """A key of REGULARIZERS (asg_env/regularizers.py), in force beside proxy guidance: pass
    ``guidance=0`` to have it alone. ``"none"``: proxy guidance only."""
    regularizer_strength: float = 1.0
    """Its weight in the training loss, >= 0."""
    temperature: float = 2.0
    """Of ``regularizer="lwf"``, > 0."""
    base_lr: float | None = None
    """Learning rate at scale 1, > 0."""
    budget: int | None = None
    """Length of the fine-tuning run, optimizer steps."""
    window: str | int | None = None
    """Optimizer steps of one decision, or ``"paper"`` for its growing windows."""
    decide_first: bool = False
    """With ``window="paper"``: the agent also decides about the first window. False: that runs at
    ``base_lr`` before the first decision (official)."""
    step_limit: int | None = None
    """Truncate the episode after this many optimizer steps (paper: "early stop"). None: never."""
    optimizer: str | None = None
    """A key of OPTIMIZERS."""
    momentum: float = 0.9
    """In [0, 1)."""
    weight_decay: float = 5e-4
    """>= 0."""
    clip_norm: float | None = None
    """Clip the gradient's norm to this, > 0; ``float("inf")`` never clips."""
    batch_size: int | None = None
    """Images in one optimizer step."""
    teacher: str = "auto"
    """``"cached"``: the teacher sees every training image once, before the run. ``"online"``: it
    sees each batch (official). ``"auto"``: cached, unless the images are files and the budget is
    less than one epoch."""
    device: str | None = None
    """``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ..."""
    precision: str = "fp32"
    """A key of PRECISIONS: ``"fp32"``, or ``"bf16"`` (autocast)."""
    channels_last: bool | None = None
    """Whether images and convolutions lie in NHWC order: faster for large images."""
    threads: int | None = None
    """CPU threads of one env; 0: PyTorch's own setting. None: the task's, and 1 in workers."""

    def resolved(self, defaults: Defaults) -> FinetuneConfig:
        """The same with the task's values filled in, checked.

        Raises:
            ValueError: naming the argument, its value and what is allowed.
        """
        names = [f.name for f in dataclasses.fields(defaults)]
        own = {n: getattr(defaults, n) for n in names if getattr(self, n) is None}
        full = dataclasses.replace(self, **own)
        if full.reward_guidance is None:
            full = dataclasses.replace(full, reward_guidance=full.guidance)
        if full.clip_norm is None:
            full = dataclasses.replace(full, clip_norm=math.inf)
        full._check()
        return full

    def _check(self) -> None:
        for name, known in (
            *(("observation", OBSERVATIONS), ("action", ACTIONS), ("reward", REWARDS)),
            *(("optimizer", OPTIMIZERS), ("teacher", TEACHERS), ("precision", PRECISIONS)),
            ("regularizer", (NONE, *REGULARIZERS)),
        ):
            check_choice(name, getattr(self, name), known)
        for name in ("guidance", "reward_guidance", "weight_decay", "regularizer_strength"):
            self._number(name, 0.0, math.inf)
        for name in ("base_lr", "temperature"):
            self._number(name, 0.0, math.inf, open_low=True)
        self._number("clip_norm", 0.0, math.inf, open_low=True, infinite=True)
        self._number("momentum", 0.0, 1.0, open_high=True)
        for name in ("batch_size", "budget"):
            self._count(name, 1)
        for name, least in (("step_limit", 1), ("reward_images", 1), ("threads", 0)):
            if getattr(self, name) is not None:
                self._count(name, least)
        for name in ("channels_last", "decide_first"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected True or False")
        if isinstance(self.window, str):
            check_choice("window", self.window, ("paper", "a number of optimizer steps"))
        else:
            self._count("window", 1)

    def _number(
        self,
        name: str,
        low: float,
        high: float,
        open_low: bool = False,
        open_high: bool = False,
        infinite: bool = False,
    ) -> None:
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        ok = number and (infinite or math.isfinite(value)) and low <= value <= high
        if not ok or (open_low and value == low) or (open_high and value == high):
            bounds = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
            raise ValueError(f"{name}={value!r}: expected a number in {bounds}")

    def _count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r}: expected an int >= {least}")

    @property
    def optimizee(self) -> OptimizeeSettings:
        """The part of the (resolved) arguments that the inner loop reads."""
        fields = dataclasses.fields(OptimizeeSettings)
        return OptimizeeSettings(**{f.name: getattr(self, f.name) for f in fields})


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise ValueError, listing what is known, unless ``value`` is in ``known``."""
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")


def field_names(kind: type) -> list[str]:
    """The fields of a dataclass."""
    return [f.name for f in dataclasses.fields(kind)]


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """Raise TypeError, naming the nearest and all known ones, if an argument is unknown."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise TypeError(f"unknown argument {name!r}{hint}; known: {', '.join(known)}")


def config_from(kwargs: dict[str, Any]) -> FinetuneConfig:
    """A config of keyword arguments.

    Raises:
        TypeError: for an unknown keyword, naming the nearest and all known ones.
    """
    check_names(kwargs, field_names(FinetuneConfig))
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in kwargs.items()}
    return FinetuneConfig(**plain)
