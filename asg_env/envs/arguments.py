"""The environment's arguments: as given, and as resolved for a task."""

from __future__ import annotations

import dataclasses
import difflib
import math
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from asg_env.arguments import json_arguments
from asg_env.compute import PRECISIONS, Compute, resolve_device
from asg_env.control.actions import ACTIONS, ActionKind
from asg_env.control.observations import OBSERVATIONS, Signal, reaching
from asg_env.envs.context import check_context, extremes
from asg_env.envs.rewards import REWARDS, RewardTerm
from asg_env.methods.base import NONE, TrainingSettings
from asg_env.methods.guided import METHODS
from asg_env.methods.regularizers import REGULARIZERS
from asg_env.ranges import Range, ranges_of, whole
from asg_env.registry import Registry, check_choice
from asg_env.tasks.base import Defaults
from asg_env.tasks.problem import Problem
from asg_env.training.optim import OPTIMIZERS

WEIGHT = Range(at_least=0, at_most=1e38)
POSITIVE = Range(above=0, at_most=1e38)
"""As far as float32 goes."""
MAY_BE_NONE = ("reward_images", "start_scale", "step_limit", "threads")
"""Numbers that a task has no value of its own for."""
TEACHERS = ("auto", "cached", "online")
NAMED: dict[str, Registry[Any]] = {
    "observation": OBSERVATIONS,
    "action": ACTIONS,
    "reward": REWARDS,
    "optimizer": OPTIMIZERS,
    "method": METHODS,
}
"""Arguments that take a name, and where it is looked up."""


@dataclass(frozen=True)
class Arguments:
    """Arguments of :class:`~asg_env.envs.finetune.FinetuneEnv`.

    None stands for the task's own value wherever the task has one. Where a name is taken, the
    object itself and ``"module:attribute"`` are, too.
    """

    variant: str | None = None
    """The task's variant; "train", "test": one drawn at each reset. None: the task itself."""
    observation: Any = "layerwise"
    """A key of OBSERVATIONS: ``"paper"`` or ``"layerwise"``."""
    action: Any = "discrete"
    """A key of ACTIONS: ``"discrete"``, ``"continuous"``, ``"log"`` or ``"log_continuous"``."""
    start_scale: Annotated[float | None, POSITIVE] = None
    """LR scale before the first decision, > 0; None: the action kind's own, 1 or .01."""
    context: Any = None
    """What each reset draws from its seed, hidden from the agent: a mapping from base_lr,
    batch_size, budget, guidance, momentum, label_noise or shift_at to ``("log_uniform", low,
    high)``, ``("uniform", low, high)``, ``("choice", a, b, ...)`` or a number."""
    reward: Any = "proxy_valid"
    """A key of REWARDS."""
    guidance: Annotated[float | None, WEIGHT] = None
    """lambda, the weight of the proxy KL in the training loss, >= 0."""
    reward_guidance: Annotated[float | None, WEIGHT] = None
    """lambda inside the reward's Phi, >= 0. None: the same as ``guidance``."""
    reward_images: Annotated[int | None, whole(1)] = None
    """Images of ``outer_valid`` that the reward is measured on, the first ones; None: all."""
    regularizer: Any = NONE
    """A key of REGULARIZERS (asg_env/methods/regularizers.py), in force beside proxy guidance: pass
    ``guidance=0`` to have it alone. ``"none"``: proxy guidance only."""
    regularizer_strength: Annotated[float, WEIGHT] = 1.0
    """Its weight in the training loss, >= 0."""
    temperature: Annotated[float, POSITIVE] = 2.0
    """Of ``regularizer="lwf"``, > 0."""
    method: Any = "guided"
    """A key of METHODS: what happens in an optimizer step."""
    base_lr: Annotated[float | None, POSITIVE] = None
    """Learning rate at scale 1, > 0."""
    budget: Annotated[int | None, whole(1)] = None
    """Length of the fine-tuning run, optimizer steps."""
    window: Annotated[str | int | None, whole(1)] = None
    """Optimizer steps of one decision, or ``"paper"`` for its growing windows."""
    label_noise: Annotated[float, Range(at_least=0, below=1)] = 0.0
    """Share of the training labels that are replaced by another class's, [0, 1)."""
    shift_at: Annotated[float, Range(at_least=0, at_most=1)] = 1.0
    """Share of the run, [0, 1], after which the training images lose contrast; 1: never."""
    decide_first: bool = False
    """With ``window="paper"``: the agent also decides about the first window. False: that runs at
    ``base_lr`` before the first decision (official)."""
    step_limit: Annotated[int | None, whole(1)] = None
    """Truncate the episode after this many optimizer steps (paper: "early stop"). None: never."""
    optimizer: Any = None
    """A key of OPTIMIZERS."""
    momentum: Annotated[float, Range(at_least=0, below=1)] = 0.9
    """In [0, 1)."""
    weight_decay: Annotated[float, WEIGHT] = 5e-4
    """>= 0."""
    clip_norm: Annotated[float | None, Range(above=0, infinite=True)] = None
    """Clip the gradient's norm to this, > 0; ``float("inf")`` never clips."""
    batch_size: Annotated[int | None, whole(1)] = None
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
    threads: Annotated[int | None, whole(0, 1024)] = None
    """CPU threads of one env; 0: PyTorch's own setting. None: the task's, and 1 in workers."""


@dataclass(frozen=True)
class Resolved(Arguments):
    """The same with every value filled in, checked.

    Only ``variant``, ``reward_images``, ``step_limit`` and ``threads`` may still be None.
    """

    guidance: float = math.nan
    reward_guidance: float = math.nan
    base_lr: float = math.nan
    budget: int = 0
    window: str | int = 0
    clip_norm: float = math.nan
    batch_size: int = 0
    device: str = ""
    channels_last: bool = False

    def __post_init__(self) -> None:
        for name, registry in NAMED.items():
            registry.find(getattr(self, name))
        if self.regularizer != NONE:
            REGULARIZERS.find(self.regularizer)
        check_choice("teacher", self.teacher, TEACHERS)
        check_choice("precision", self.precision, PRECISIONS)
        for name, allowed in ranges_of(Arguments).items():
            value = getattr(self, name)
            left_open = value is None and name in MAY_BE_NONE
            if not (left_open or (isinstance(value, str) and name == "window") or value in allowed):
                raise ValueError(f"{name}={value!r}: expected {allowed.words}")
        for name in ("channels_last", "decide_first"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected True or False")
        if isinstance(self.window, str):
            check_choice("window", self.window, ("paper", "a number of optimizer steps"))
        self._check_context()

    def _check_context(self) -> None:
        if self.context is None:
            return
        check_context(self.context)
        for name, how in self.context.items():
            for value in extremes(how):
                try:
                    dataclasses.replace(self, context=None, **{name: value})
                except ValueError as error:
                    raise ValueError(f"context: {error}") from error

    def drawn(self, values: Mapping[str, Any]) -> Resolved:
        """The same with values that a context drew; ValueError if it draws others."""
        if set(values) - set(self.context or ()):
            raise ValueError(
                f"{', '.join(values)} were drawn, which context={self.context!r} is not about"
            )
        return dataclasses.replace(self, context=None, **values) if values else self

    # -- what the names mean ----------------------------------------------------------------------

    @property
    def signals(self) -> Sequence[Signal]:
        """What is observed."""
        return reaching(OBSERVATIONS.find(self.observation), self.action_kind.highest)

    @property
    def action_kind(self) -> ActionKind:
        """What an action means."""
        return ACTIONS.find(self.action)

    @property
    def first_scale(self) -> float:
        """LR scale before the first decision."""
        return self.action_kind.start if self.start_scale is None else self.start_scale

    @property
    def reward_term(self) -> RewardTerm:
        """The reward in use."""
        return REWARDS.find(self.reward)

    @property
    def reward_name(self) -> str:
        """How the reward in use is called in ``info["rewards"]``."""
        return REWARDS.label(self.reward)

    @property
    def compute(self) -> Compute:
        """How the networks are computed; ValueError if the device is not there."""
        return Compute(resolve_device(self.device), self.channels_last, self.precision)

    @property
    def cpu_threads(self) -> int | None:
        """CPU threads to run with; None leaves PyTorch's setting."""
        if self.threads is not None:
            return self.threads or None
        return 1 if multiprocessing.parent_process() is not None else None

    def training(self, problem: Problem) -> TrainingSettings:
        """What the inner loop reads; ``teacher="auto"`` is decided by the budget."""
        names = [f.name for f in dataclasses.fields(TrainingSettings)]
        settings = TrainingSettings(**{name: getattr(self, name) for name in names})
        if self.shift_at < 1 and self.teacher == "cached":
            raise ValueError(
                "teacher='cached' keeps what the teacher says of images that shift_at changes: "
                "pass teacher='online'"
            )
        if self.teacher != "auto":
            return settings
        if self.shift_at < 1:
            return dataclasses.replace(settings, teacher="online")
        train = problem.splits["train"]
        once = train.key is not None and self.budget * self.batch_size < len(train)
        return dataclasses.replace(settings, teacher="online" if once else "cached")

    def noted(self) -> dict[str, Any]:
        """Every argument as a JSON value; TypeError or ValueError, naming one that has none."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, registry in NAMED.items():
            if (label := registry.label(given[name])) in registry:
                given[name] = label
        return json_arguments(given)


def resolve(kwargs: dict[str, Any], defaults: Defaults) -> Resolved:
    """Keyword arguments with a task's own values filled in, checked.

    Raises:
        TypeError: for an unknown keyword, naming the nearest and all known ones.
        ValueError: naming the argument, its value and what is allowed.
    """
    check_names(kwargs, field_names(Arguments))
    full = {f.name: kwargs.get(f.name, f.default) for f in dataclasses.fields(Arguments)}
    for field in dataclasses.fields(defaults):
        if full[field.name] is None:
            full[field.name] = getattr(defaults, field.name)
    if full["reward_guidance"] is None:
        full["reward_guidance"] = full["guidance"]
    if full["clip_norm"] is None:
        full["clip_norm"] = math.inf
    return Resolved(**full)


def field_names(kind: type) -> list[str]:
    """The fields of a dataclass."""
    return [f.name for f in dataclasses.fields(kind)]


def check_names(names: Iterable[str], known: Sequence[str]) -> None:
    """Raise TypeError, naming the nearest and all known ones, if an argument is unknown."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            said = f"got an unexpected keyword argument {name!r}"  # as Python does: TorchRL looks
            raise TypeError(f"{said}{hint}; known: {', '.join(known)}")


def variant_of(options: Mapping[str, Any], default: str | None) -> str | None:
    """The variant that a reset's options ask for; ValueError if they hold something else."""
    if unknown := set(options) - {"variant"}:
        raise ValueError(f"unknown reset option {sorted(unknown)[0]!r}; known: variant")
    return options.get("variant", default)
