"""The algorithms of agents/sb3.py: one row each, with a sentence for each hyperparameter.

The episodes are short (six to ten decisions) and expensive (a quarter of a second to minutes), so
that a training has thousands of decisions, not millions. SB3's defaults assume the latter.

What was tried stands in experiments/BENCHMARK.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from asg_env.ranges import Range, whole
from asg_env.registry import check_choice


class Setting(NamedTuple):
    """A hyperparameter's value, and why it is that."""

    value: Any
    why: str


Settings = dict[str, Setting]


@dataclass(frozen=True)
class Algorithm:
    """A row of :data:`ALGORITHMS`.

    ``path`` is ``module:Class``, ``policy`` one of the class's policy aliases, ``action`` the
    environment's kind of action. ``run`` are settings that agents/sb3.py turns into the class's
    arguments, ``model`` are the class's arguments as they are, ``network`` the policy's.
    ``common_seeds``: whether all copies play the same episodes by default; a replay buffer learns
    more from different ones.
    """

    path: str
    policy: str
    action: Literal["discrete", "continuous"]
    run: Settings
    model: Settings
    network: Settings
    common_seeds: bool = True

    def load(self) -> Any:
        """The class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)

    def policy_class(self) -> Any:
        """The class of its policies."""
        return self.load().policy_aliases[self.policy]

    def values(self, overrides: Mapping[str, Any]) -> Values:
        """All values, with some replaced by name.

        Raises:
            ValueError: an unknown name (the known ones are listed), or a value of another kind.
        """
        parts = (self.run, self.model, self.network)
        for name in overrides:
            check_choice("--hyperparameters", name, [n for part in parts for n in part])
        return Values(
            *(
                {n: _cast(n, overrides.get(n, s.value), s.value) for n, s in part.items()}
                for part in parts
            )
        )


class Values(NamedTuple):
    """The values of an :class:`Algorithm`'s three kinds of settings."""

    run: dict[str, Any]
    model: dict[str, Any]
    network: dict[str, Any]


SHARE, WEIGHT = Range(at_least=0, at_most=1), Range(at_least=0, at_most=1e6)
RANGES: dict[str, Range] = {
    **dict.fromkeys(("episodes", "batches", "n_critic_updates"), whole(1)),
    **dict.fromkeys(("n_epochs", "policy_delay", "replays"), whole(1, 10_000)),
    **dict.fromkeys(("hidden", "lstm_hidden_size"), whole(1, 10_000)),
    **{"batch_size": whole(2), "layers": whole(0, 100), "warmup": whole(0)},
    **dict.fromkeys(("gamma", "gae_lambda", "tau"), SHARE),
    **dict.fromkeys(("ent_coef", "vf_coef", "noise"), WEIGHT),
    **dict.fromkeys(("learning_rate", "clip_range", "target_kl"), Range(above=0, at_most=1e6)),
    "max_grad_norm": Range(above=0, infinite=True),
    "log_std_init": Range(at_least=-20, at_most=2),
}
"""What each number may be."""


def _cast(name: str, value: Any, default: Any) -> Any:
    """``value`` as the kind of number that ``default`` is; ValueError if it is none."""
    if isinstance(default, bool):
        check_choice(name, str(value), ("True", "False"))
        return str(value) == "True"
    if isinstance(default, str):
        return _entropy(name, str(value))
    allowed = RANGES[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or (allowed.whole and not float(value).is_integer()):
        kind = "a whole number" if allowed.whole else "a number"
        raise ValueError(f"--hyperparameters {name} {value!r}: expected {kind}")
    value = type(default)(value)
    if value not in allowed:
        raise ValueError(f"--hyperparameters {name} {value!r}: expected {allowed}")
    return value


def _entropy(name: str, text: str) -> str:
    """SAC's weight of the entropy: a number, or learned, from a first value on."""
    try:
        learned = text.startswith("auto")
        first = 1.0 if text == "auto" else float(text.removeprefix("auto_"))
        if first in RANGES[name] and (first or not learned):
            return text
    except ValueError:
        pass
    raise ValueError(f"--hyperparameters {name} {text!r}: expected 'auto', 'auto_0.1' or a number")


# -- settings that several rows share --------------------------------------------------------------

GAMMA = Setting(1.0, "the undiscounted return is what counts, and an episode ends by itself")
LINEAR = Setting(True, "the learning rate falls to 0 linearly: the last policy is deployed")
NORMALISE_REWARD = Setting(
    True, "rewards / std of the return so far: the same settings fit tasks with other losses"
)
LAYERS = Setting(1, "hidden layers: there are a few thousand decisions to learn from")
HIDDEN = Setting(64, "width of a hidden layer, SB3's")
ORTHO = Setting(True, "orthogonal initialisation, gain .01 for the last layer: nearly uniform")
CLIP_NORM = Setting(0.5, "of the policy's gradient, SB3's")
VF_COEF = Setting(0.5, "weight of the critic's loss, SB3's: the two share no weights")
RETURNS = Setting(0.95, "SB3's: in six decisions, bias and variance hardly differ from 1's")

EPISODES = Setting(1, "whole episodes of each copy between updates: as many updates as can be")

ON_POLICY: Settings = {
    "episodes": EPISODES,
    "linear": LINEAR,
    "normalise_reward": NORMALISE_REWARD,
    "layers": LAYERS,
    "hidden": HIDDEN,
}
BATCHED = ON_POLICY | {
    "batches": Setting(
        1, "minibatches: the whole rollout, so that advantages are normalised over all copies"
    ),
}
OFF_POLICY: Settings = ON_POLICY | {
    "warmup": Setting(32, "first episodes of random actions, all copies together"),
    "replays": Setting(4, "gradient steps for each decision: decisions are dear, steps are not"),
    "linear": Setting(False, "a replay buffer goes on teaching at the end"),
}
PPO: Settings = {
    "learning_rate": Setting(3e-3, "ten times SB3's: there are some hundred updates, not 10^4"),
    "gamma": GAMMA,
    "gae_lambda": RETURNS,
    "n_epochs": Setting(10, "SB3's: decisions are dear, passes over them are free"),
    "clip_range": Setting(0.2, "SB3's, on the probability of all groups' levels together"),
    "ent_coef": Setting(0.0, "a bonus over six groups keeps the policy from settling"),
    "vf_coef": VF_COEF,
    "max_grad_norm": CLIP_NORM,
    "normalize_advantage": Setting(True, "and with it, a reward's unit has no effect"),
}
REPLAY: Settings = {
    "learning_rate": Setting(1e-3, "three times SB3's: few steps"),
    "gamma": GAMMA,
    "batch_size": Setting(128, "half of SB3's: the buffer stays small"),
    "tau": Setting(0.01, "targets follow twice as fast as SB3's, because there are few steps"),
}

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(
        *("stable_baselines3:PPO", "MlpPolicy", "discrete"),
        run=BATCHED,
        model=PPO,
        network={"ortho_init": ORTHO},
    ),
    "ppo_continuous": Algorithm(
        *("stable_baselines3:PPO", "MlpPolicy", "continuous"),
        run=BATCHED
        | {
            "episodes": Setting(2, "of each copy: a Gaussian of six groups needs more samples"),
            "batches": Setting(2, "minibatches, an episode of each copy in each on average"),
        },
        model=PPO,
        network={
            "ortho_init": ORTHO,
            "log_std_init": Setting(-0.5, "of [-1, 1]: SB3's 0 would mostly hit the bounds"),
        },
    ),
    "a2c": Algorithm(
        *("stable_baselines3:A2C", "MlpPolicy", "discrete"),
        run=ON_POLICY,
        model={
            "learning_rate": Setting(1e-2, "14 times SB3's: some hundred updates, one step each"),
            "gamma": GAMMA,
            "gae_lambda": Setting(1.0, "SB3's: plain returns less the critic"),
            "ent_coef": Setting(0.0, "SB3's"),
            "vf_coef": VF_COEF,
            "max_grad_norm": CLIP_NORM,
            "normalize_advantage": Setting(True, "the step should not depend on the return's"),
            "use_rms_prop": Setting(False, "Adam, as everywhere else here"),
        },
        network={"ortho_init": ORTHO},
    ),
    "recurrent_ppo": Algorithm(
        *("sb3_contrib:RecurrentPPO", "MlpLstmPolicy", "discrete"),
        run=BATCHED,
        model=PPO
        | {"learning_rate": Setting(1e-3, "a third of ppo's: ten passes move an LSTM further")},
        network={
            "ortho_init": ORTHO,
            "lstm_hidden_size": Setting(32, "not SB3's 256: six to ten decisions to remember"),
        },
    ),
    "trpo": Algorithm(
        *("sb3_contrib:TRPO", "MlpPolicy", "discrete"),
        run=BATCHED,
        model={
            "learning_rate": Setting(3e-3, "of the critic; the policy's step is target_kl's"),
            "gamma": GAMMA,
            "gae_lambda": RETURNS,
            "target_kl": Setting(0.03, "three times SB3's: six groups move in each step"),
            "n_critic_updates": Setting(10, "passes over a rollout, SB3's"),
            "normalize_advantage": Setting(True, "SB3's"),
        },
        network={"ortho_init": ORTHO},
    ),
    "sac": Algorithm(
        *("stable_baselines3:SAC", "MlpPolicy", "continuous"),
        run=OFF_POLICY,
        model=REPLAY
        | {
            "ent_coef": Setting(
                "auto_0.1", "tuned as in SB3, but from .1: the return soon counts for more"
            )
        },
        network={},
        common_seeds=False,
    ),
    "td3": Algorithm(
        *("stable_baselines3:TD3", "MlpPolicy", "continuous"),
        run=OFF_POLICY
        | {"noise": Setting(0.2, "std of the exploration, of [-1, 1]: scales move by a tenth")},
        model=REPLAY
        | {"policy_delay": Setting(2, "critic updates for each of the policy's, SB3's")},
        network={},
        common_seeds=False,
    ),
}
"""Every algorithm by name. A new one is a row."""
