"""Families of schedules with free parameters, to be tuned: the learned policies' real opponents.

A family draws its own parameters; what they mean stands beside each. All scales are in [0, 1], so a
``peak`` is the search over the base learning rate. Schedules set any scale, while agents with
discrete actions have tenths only; ``constant_levels`` is a schedule with the same handicap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from asg_env.files import BadFile
from asg_env.policies.digest import digest
from asg_env.policies.schedules import HAND_TUNED, cosine_factor, warmup_poly_factor
from asg_env.ranges import Range, whole
from asg_env.registry import check_choice
from asg_env.sealed import read_object, write_object
from asg_env.typed import from_fields

LOWEST = 0.01  # of factors drawn log-uniformly
FROZEN = 0.2  # share of the groups that a constant vector freezes, on average

GROUPS = whole(0, 10_000)
SHARE = Range(at_least=0, at_most=1)
Parameters = Mapping[str, Any]


def log_uniform(rng: np.random.Generator, low: float = LOWEST) -> float:
    """A factor in [low, 1], its logarithm uniform."""
    return float(low ** rng.random())


def head_and_backbone(groups: int, head: float, backbone: float) -> np.ndarray:
    """One scale for the new head, which is the last group, and one for all others, (G,)."""
    scales = np.full(groups, backbone)
    scales[-1] = head
    return scales


class Family(NamedTuple):
    """``draw(rng, groups)`` gives parameters; ``scales(parameters, progress, groups)`` (G,)."""

    about: str
    draw: Callable[[np.random.Generator, int], dict[str, Any]]
    scales: Callable[[Parameters, float, int], np.ndarray]


def _constant_vector(rng: np.random.Generator, groups: int) -> dict[str, Any]:
    scales = [0.0 if rng.random() < FROZEN else log_uniform(rng) for _ in range(groups - 1)]
    return {"scales": [*scales, log_uniform(rng)]}


def _two_factors(rng: np.random.Generator, groups: int) -> dict[str, Any]:
    return {"head": log_uniform(rng), "backbone": log_uniform(rng)}


def _two_phases(rng: np.random.Generator, groups: int) -> dict[str, Any]:
    return {"until": float(rng.uniform(0.1, 0.9)), **_two_factors(rng, groups)}


def _freeze_then_unfreeze(p: Parameters, progress: float, groups: int) -> np.ndarray:
    return head_and_backbone(groups, p["head"], p["backbone"] if progress >= p["until"] else 0.0)


def _lp_ft(p: Parameters, progress: float, groups: int) -> np.ndarray:
    if progress < p["until"]:
        return head_and_backbone(groups, p["head"], 0.0)
    return np.full(groups, p["backbone"])


def _gradual_unfreezing(p: Parameters, progress: float, groups: int) -> np.ndarray:
    """The head trains at once, then one group after the other joins in, from the top down."""
    start = p["span"] * np.arange(groups - 1, -1, -1.0) / max(1, groups - 1)
    return head_and_backbone(groups, p["head"], p["backbone"]) * (progress >= start)


FAMILIES: dict[str, Family] = {
    "constant": Family(
        "every group at one scale",
        lambda rng, g: {"peak": log_uniform(rng)},
        lambda p, t, g: np.full(g, p["peak"]),
    ),
    "constant_vector": Family(
        "a constant scale for each group",
        _constant_vector,
        lambda p, t, g: np.array(p["scales"]),
    ),
    "constant_levels": Family(
        "the same, rounded to the eleven levels of the discrete action",
        _constant_vector,
        lambda p, t, g: np.round(np.array(p["scales"]), 1),
    ),
    "frozen_backbone": Family(
        "only the head trains",
        lambda rng, g: {"peak": log_uniform(rng)},
        lambda p, t, g: head_and_backbone(g, p["peak"], 0.0),
    ),
    "cosine": Family(
        "every group at one scale, falling like half a cosine",
        lambda rng, g: {"peak": log_uniform(rng)},
        lambda p, t, g: np.full(g, p["peak"] * cosine_factor(t)),
    ),
    "small_backbone": Family(
        "a scale for the head and one for the backbone",
        _two_factors,
        lambda p, t, g: head_and_backbone(g, p["head"], p["backbone"]),
    ),
    "small_backbone_cosine": Family(
        "the same, falling like half a cosine",
        _two_factors,
        lambda p, t, g: cosine_factor(t) * head_and_backbone(g, p["head"], p["backbone"]),
    ),
    "small_backbone_warmup_poly": Family(
        "the same with the paper's warm-up and polynomial decay",
        _two_factors,
        lambda p, t, g: warmup_poly_factor(t) * head_and_backbone(g, p["head"], p["backbone"]),
    ),
    "layer_decay": Family(
        "each group at a factor of the one above it (ELECTRA, BEiT)",
        lambda rng, g: {"peak": log_uniform(rng), "decay": float(rng.uniform(0.1, 1.0))},
        lambda p, t, g: p["peak"] * p["decay"] ** np.arange(g - 1, -1, -1.0),
    ),
    "freeze_then_unfreeze": Family(
        "the head alone until a share of the run is over, then the backbone too",
        _two_phases,
        _freeze_then_unfreeze,
    ),
    "lp_ft": Family(
        "linear probing, then all groups at one small scale (Kumar et al., 2022)",
        _two_phases,
        _lp_ft,
    ),
    "gradual_unfreezing": Family(
        "groups join in from the top down (ULMFiT)",
        lambda rng, g: {"span": float(rng.uniform(0.1, 1.0)), **_two_factors(rng, g)},
        _gradual_unfreezing,
    ),
}
"""Every family by name."""


@dataclass
class TunedPolicy:
    """A member of a family as a policy.

    Args:
        family: a key of :data:`FAMILIES`.
        parameters: what its ``draw`` gave.
        groups: layer groups that the parameters are for.
        name: shown in tables.
    """

    family: str
    parameters: dict[str, Any]
    groups: Annotated[int, GROUPS]
    name: str

    def __post_init__(self) -> None:
        self.env_kwargs: dict[str, Any] = dict(HAND_TUNED)

    @property
    def digest(self) -> str:
        """What it is."""
        return digest({"family": self.family, **self.parameters})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode; ValueError if a constant vector has another length."""
        if "scales" in self.parameters and len(group_names) != self.groups:
            raise ValueError(
                f"{self.name!r} has scales for {self.groups} layer groups, this environment has "
                f"{len(group_names)}: {', '.join(group_names)}"
            )
        self._count = len(group_names)
        self._progress = list(observation_names).index("progress")

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) float32 for an observation."""
        progress = float(observation[self._progress])
        scales = FAMILIES[self.family].scales(self.parameters, progress, self._count)
        return np.clip(scales, 0, 1).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write it as JSON, which :func:`load_tuned` reads."""
        content = {
            "kind": "family",
            "family": self.family,
            "parameters": self.parameters,
            "groups": self.groups,
        }
        write_object(path, {**content, "name": self.name})


def load_tuned(path: Path) -> TunedPolicy:
    """A policy that :meth:`TunedPolicy.save` wrote; BadFile if the file is none."""
    try:
        fields = read_object(path)
        policy = from_fields(TunedPolicy, {k: v for k, v in fields.items() if k != "kind"})
        check_choice("family", policy.family, FAMILIES)
        _check_parameters(policy)
    except ValueError as error:
        raise BadFile(f"{path} holds no tuned schedule: {error}") from error
    return policy


def _check_parameters(policy: TunedPolicy) -> None:
    """Raise ValueError unless the parameters are such as the family draws: all are in [0, 1]."""
    example = FAMILIES[policy.family].draw(np.random.default_rng(0), policy.groups)
    if set(policy.parameters) != set(example):
        raise ValueError(
            f"parameters {', '.join(policy.parameters)}; {policy.family} has {', '.join(example)}"
        )
    for name, drawn in example.items():
        value = policy.parameters[name]
        if isinstance(value, list) != isinstance(drawn, list):
            raise ValueError(f"{name} is {str(value)[:60]}, expected something like {drawn}")
        numbers = value if isinstance(value, list) else [value]
        if isinstance(drawn, list) and len(numbers) != len(drawn):
            raise ValueError(f"{name} has {len(numbers)} numbers, expected {len(drawn)}")
        if not all(number in SHARE for number in numbers):
            raise ValueError(f"{name} is {str(value)[:60]}, expected {SHARE.words}")
