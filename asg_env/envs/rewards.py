"""Named rewards. Every step computes all that are free; one of them is the env's reward.

Phi = CE + lambda * KL on ``outer_valid`` (held-out synthetic images), clipped to [0, LOSS_CAP].

Crashing never pays: each term states the lowest return that an honest episode can have, and the
reward of a crash makes the episode's return one less than that, whatever was earned before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

from asg_env.registry import Registry

LOSS_CAP = 20.0  # nats; a loss above it counts as it


def capped(loss: float) -> float:
    """A loss inside [0, LOSS_CAP]; NaN counts as the cap."""
    return LOSS_CAP if math.isnan(loss) else min(max(loss, 0.0), LOSS_CAP)


class Transition(NamedTuple):
    """What a reward may look at. Losses are capped; accuracies are in [0, 1] or None."""

    phi_start: float
    phi_before: float
    phi: float
    train_loss_before: float
    train_loss: float
    last: bool
    accuracy_before: float | None = None
    accuracy: float | None = None


class RewardTerm(NamedTuple):
    """A named reward.

    ``lowest(decisions)``: the least undiscounted return of an honest episode of that many
    decisions at most.
    """

    formula: str
    value: Callable[[Transition], float]
    lowest: Callable[[int], float]
    oracle: bool = False

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """A registered one is pickled, and copied, by name: its functions may have none."""
        if (name := REWARDS.label(self)) in REWARDS and REWARDS[name] is self:
            return _registered, (name,)
        return tuple.__reduce_ex__(self, protocol)


def _registered(name: str) -> RewardTerm:
    """The term of a name; pickles name this function, not the registry with all that is in it."""
    return REWARDS.find(name)


def _accuracy_gain(t: Transition) -> float:
    assert t.accuracy is not None and t.accuracy_before is not None
    return t.accuracy - t.accuracy_before


REWARDS: Registry[RewardTerm] = Registry("reward", ("formula", "value", "lowest", "oracle"))
"""Every named reward; all that are free stand in ``info["rewards"]``."""
REWARDS.register(
    "proxy_valid",
    RewardTerm(
        "Phi before - Phi after; sums to the total improvement",
        lambda t: t.phi_before - t.phi,
        lambda _: -LOSS_CAP,
    ),
)
REWARDS.register("proxy_valid_level", RewardTerm("-Phi", lambda t: -t.phi, lambda n: -LOSS_CAP * n))
REWARDS.register(
    "proxy_valid_exp", RewardTerm("exp(-Phi)", lambda t: math.exp(-t.phi), lambda _: 0.0)
)
REWARDS.register(
    "proxy_valid_terminal",
    RewardTerm(
        "0 until the episode ends, then Phi at the start - Phi at the end",
        lambda t: t.phi_start - t.phi if t.last else 0.0,
        lambda _: -LOSS_CAP,
    ),
)
REWARDS.register(
    "train_loss",
    RewardTerm(
        "mean CE + lambda KL in training, window before - this window",
        lambda t: t.train_loss_before - t.train_loss,
        lambda _: -LOSS_CAP,
    ),
)
REWARDS.register(
    "target_accuracy_oracle",
    RewardTerm(
        "gain in the task's metric on the real test split: reads target labels",
        _accuracy_gain,
        lambda _: -1.0,
        oracle=True,
    ),
)


def rewards_of(transition: Transition, reward: Any = "proxy_valid") -> dict[str, float]:
    """Every reward that the transition has the numbers for, the one in use among them.

    Args:
        transition: what happened.
        reward: the one in use: a name, ``"module:attribute"`` or the term itself.
    """
    terms = _terms(reward, transition.accuracy is not None)
    return {name: float(term.value(transition)) for name, term in terms.items()}


def no_rewards(reward: Any, oracle: bool) -> dict[str, float]:
    """The rewards of :func:`rewards_of` before anything happened: 0. ``oracle``: accuracies are
    known."""
    return dict.fromkeys(_terms(reward, oracle), 0.0)


def _terms(reward: Any, oracle: bool) -> dict[str, RewardTerm]:
    terms = {**REWARDS, REWARDS.label(reward): REWARDS.find(reward)}
    return {name: term for name, term in terms.items() if oracle or not term.oracle}


def crash_reward(reward: Any, decisions: int, return_so_far: float) -> float:
    """The reward that makes a crashed episode's return one less than any honest one's."""
    return REWARDS.find(reward).lowest(decisions) - 1.0 - return_so_far
