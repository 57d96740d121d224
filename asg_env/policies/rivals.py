"""What people use where nobody knows the learning rate: a learned policy's rivals.

Each is a rule with a few parameters, which ``agents/tune.py --family NAME`` searches as it does
those of schedules. Three look at the run and decide as a policy does. The others are optimizers of
the environment that find their learning rates themselves (asg_env/training/parameter_free.py); the
rule then only holds the LR scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from asg_env.control.actions import HIGHEST, LOWEST, LogContinuous
from asg_env.control.observations import STEP_DECADES
from asg_env.files import BadFile
from asg_env.policies.digest import digest
from asg_env.policies.families import FAMILIES, TunedPolicy
from asg_env.policies.schedules import cosine_factor
from asg_env.registry import check_choice
from asg_env.sealed import read_object, write_object
from asg_env.typed import from_fields

RGN_DECADES = 8  # of ``relative_gradient``
THRESHOLD = 1e-6  # GreedyLR's: what counts as an improvement
Parameters = Mapping[str, float]


class Rule(Protocol):
    """How a rival decides in one episode, of G layer groups.

    Made of the parameters, G and the names of the D observed numbers.
    """

    def __init__(self, parameters: Parameters, groups: int, names: Sequence[str]) -> None: ...

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) for an observation (D,)."""


class Hold:
    """One LR scale for all groups, all the time."""

    def __init__(self, parameters: Parameters, groups: int, names: Sequence[str]) -> None:
        self.scales = np.full(groups, parameters.get("peak", 1.0))

    def act(self, observation: np.ndarray) -> np.ndarray:
        """It does not look."""
        return self.scales


class StepRatio:
    """Holds the relative weight change of an optimizer step of each group at a target, as LARS
    does (You et al., 2017).

    ``target``: its logarithm at the start. ``fall``: how many decades it may fall, like half a
    cosine. ``first``: exponent of the first action, when nothing has been seen.
    """

    def __init__(self, parameters: Parameters, groups: int, names: Sequence[str]) -> None:
        self.parameters, self.groups = parameters, groups
        self.ratios, self.progress = places(names, "step_ratio"), list(names).index("progress")

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Exponents of ten: what the last window's ratio lacks."""
        p, progress = self.parameters, float(observation[self.progress])
        if progress == 0:
            return np.full(self.groups, p["first"])
        factor = max(cosine_factor(progress), 10.0 ** -p["fall"])
        ratio = STEP_DECADES * (observation[self.ratios].astype(float) - 1)
        return p["target"] + np.log10(factor) - ratio


class Greedy:
    """GreedyLR (2025): one learning rate, larger after better losses and smaller after worse ones.

    ``factor``: it is divided by it after more than ``patience`` better losses in a row, and
    multiplied after as many that are not. Its defaults, .95 and 10, are for thousands of losses:
    here there is one for each decision. ``first``: exponent of the first action.
    """

    def __init__(self, parameters: Parameters, groups: int, names: Sequence[str]) -> None:
        self.factor, self.patience = parameters["factor"], round(parameters["patience"])
        self.first, self.groups = parameters["first"], groups
        self.change, self.progress = (list(names).index(n) for n in ("loss_change", "progress"))
        self.scale, self.loss, self.best = LogContinuous.start, 1.0, np.inf
        self.good = self.bad = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Exponents of ten, all the same."""
        if observation[self.progress] == 0:
            self.scale *= 10**self.first
            return np.full(self.groups, self.first)
        self.loss *= 10.0 ** float(observation[self.change])
        return np.full(self.groups, np.log10(self.factor_after(self.loss)))

    def factor_after(self, loss: float) -> float:
        """Count a loss; what the learning rate is multiplied by."""
        before, better = self.scale, loss < self.best - THRESHOLD
        self.best = min(self.best, loss) if better else self.best
        self.good, self.bad = (self.good + 1, 0) if better else (0, self.bad + 1)
        if self.good > self.patience:
            self.scale, self.good = min(self.scale / self.factor, HIGHEST), 0
        elif self.bad > self.patience:
            self.scale, self.bad = max(self.scale * self.factor, LOWEST), 0
        return self.scale / before


class AutoRGN:
    """Auto-RGN (Lee et al., 2023, "Surgical fine-tuning"): each group's LR scale is its gradient's
    norm over its weights', relative to the largest of the groups.

    Theirs looks at each epoch's gradients, this at each window's. ``peak``: scale of that group.
    ``fall``: 1, it falls like half a cosine; 0, it stays.
    """

    def __init__(self, parameters: Parameters, groups: int, names: Sequence[str]) -> None:
        self.parameters, self.progress = parameters, list(names).index("progress")
        self.relative = places(names, "relative_gradient")

    def act(self, observation: np.ndarray) -> np.ndarray:
        """LR scales."""
        logs = RGN_DECADES * observation[self.relative].astype(float)
        falls = cosine_factor(float(observation[self.progress])) if self.parameters["fall"] else 1.0
        return self.parameters["peak"] * falls * 10.0 ** (logs - logs.max())


def places(names: Sequence[str], signal: str) -> np.ndarray:
    """Where the numbers of a per-group signal are, (G,)."""
    return np.array([k for k, name in enumerate(names) if name.partition("/")[0] == signal])


class Parameter(NamedTuple):
    """From ``low`` to ``high``, drawn uniformly (its logarithm, or as a whole number)."""

    low: float
    high: float
    default: float
    kind: Literal["plain", "log", "whole"] = "plain"

    def draw(self, rng: np.random.Generator) -> float:
        """One that a search may try."""
        if self.kind == "whole":
            return float(rng.integers(int(self.low), int(self.high) + 1))
        share = float(rng.random())
        if self.kind == "log":
            return float(self.low * (self.high / self.low) ** share)
        return self.low + (self.high - self.low) * share


class Rival(NamedTuple):
    """``env_kwargs``: the environment's arguments that belong to it."""

    about: str
    rule: type[Rule]
    env_kwargs: Mapping[str, Any]
    parameters: Mapping[str, Parameter]

    def draw(self, rng: np.random.Generator, groups: int) -> dict[str, Any]:
        """Parameters for a search, as a family's."""
        return {name: parameter.draw(rng) for name, parameter in self.parameters.items()}

    def defaults(self) -> dict[str, float]:
        """Those that it has without one."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


RELATIVE = {"action": "log_continuous", "observation": "loop", "decide_first": True}
FIRST = Parameter(-1.0, 1.0, -1.0)  # exponent of the first action
PEAK = Parameter(0.01, 1.0, 0.1, "log")


def _optimizer(name: str) -> dict[str, Any]:
    return {"action": "continuous", "decide_first": True, "optimizer": name}


RIVALS: dict[str, Rival] = {
    "step_ratio": Rival(
        "holds each group's relative weight change at a falling target, as LARS does",
        StepRatio,
        RELATIVE,
        {"target": Parameter(-3.2, -1.2, -2.0), "fall": Parameter(0.0, 2.5, 1.7), "first": FIRST},
    ),
    "greedy_lr": Rival(
        "GreedyLR: one learning rate, up after better losses, down after worse ones",
        Greedy,
        RELATIVE,
        {
            "factor": Parameter(0.1, 0.95, 0.5),
            "patience": Parameter(0, 2, 0, "whole"),
            "first": FIRST._replace(default=0.0),
        },
    ),
    "auto_rgn": Rival(
        "Auto-RGN: LR scales by relative gradient norms",
        AutoRGN,
        {"action": "continuous", "observation": "rgn", "decide_first": True},
        {"peak": PEAK._replace(default=0.3), "fall": Parameter(0, 1, 1, "whole")},
    ),
    "hypergradient": Rival(
        "hypergradient descent, from a scale of the base learning rate",
        Hold,
        _optimizer("hypergradient"),
        {"peak": PEAK._replace(default=0.03)},
    ),
    "ldog": Rival("LDoG, averaged: no learning rate", Hold, _optimizer("ldog"), {}),
    "prodigy": Rival(
        "Prodigy, schedule-free, an estimate a group: no learning rate",
        Hold,
        _optimizer("prodigy"),
        {},
    ),
}
"""Every rival by name."""


@dataclass
class RivalPolicy:
    """A rival with its parameters as a policy.

    Args:
        rival: a key of :data:`RIVALS`.
        parameters: of it.
        name: shown in tables.
    """

    rival: str
    parameters: dict[str, float]
    name: str

    def __post_init__(self) -> None:
        check_choice("rival", self.rival, RIVALS)
        self.env_kwargs: dict[str, Any] = dict(RIVALS[self.rival].env_kwargs)

    @property
    def digest(self) -> str:
        """What it is."""
        return digest({"rival": self.rival, **self.parameters})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode."""
        rule = RIVALS[self.rival].rule
        self._rule = rule(self.parameters, len(group_names), observation_names)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) float32 for an observation (D,)."""
        low = 0.0 if self.env_kwargs["action"] == "continuous" else -1.0
        return np.clip(self._rule.act(observation), low, 1.0).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write it as JSON, which :func:`load_rival` reads."""
        content = {"kind": "rival", "rival": self.rival, "parameters": self.parameters}
        write_object(path, {**content, "name": self.name})


def rival_policy(name: str) -> RivalPolicy:
    """A rival with the parameters that it has without a search."""
    return RivalPolicy(name, RIVALS[name].defaults(), name)


def load_rival(path: Path) -> RivalPolicy:
    """A policy that :meth:`RivalPolicy.save` wrote; BadFile if the file is none."""
    try:
        fields = {k: v for k, v in read_object(path).items() if k != "kind"}
        policy = from_fields(RivalPolicy, fields)
        known = RIVALS[policy.rival].parameters
        if set(policy.parameters) != set(known):
            given = ", ".join(policy.parameters) or "none"
            raise ValueError(f"parameters {given}; {policy.rival} has {', '.join(known) or 'none'}")
        for name, value in policy.parameters.items():
            low, high, *_ = known[name]
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, expected a number in [{low}, {high}]")
    except ValueError as error:
        raise BadFile(f"{path} holds no rival: {error}") from error
    return policy


# -- what a search tunes ---------------------------------------------------------------------------

SEARCHED: dict[str, Any] = {**FAMILIES, **{n: r for n, r in RIVALS.items() if r.parameters}}
"""What a search can tune, by name; each has ``about`` and ``draw(rng, groups)``."""


def candidate(name: str, parameters: dict[str, Any], groups: int) -> TunedPolicy | RivalPolicy:
    """A member of SEARCHED with its parameters, for G layer groups, as a policy."""
    if name in RIVALS:
        return RivalPolicy(name, parameters, f"tuned {name}")
    return TunedPolicy(name, parameters, groups, f"tuned {name}")
