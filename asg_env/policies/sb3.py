"""A policy of Stable-Baselines3 as it is deployed, and its files: safetensors + JSON, no pickle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, from_numpy, nn

from asg_env.control.actions import LEVELS
from asg_env.files import check_like
from asg_env.isolation import isolated
from asg_env.policies.digest import digest
from asg_env.policies.files import blamed_on_version, read_policy, write_policy
from asg_env.policies.sb3_algorithms import ALGORITHMS
from asg_env.ranges import whole
from asg_env.registry import check_choice
from asg_env.seeding import isolated_rng
from asg_env.typed import from_fields

KIND = "sb3"  # what the JSON says, so that no other policy is taken for one of these
NETWORK = "policy."  # prefix of the network's tensors, beside the normalisation's


class Aligned(FlattenExtractor):
    """The observation as it is, in memory that torch has allocated.

    numpy's may begin anywhere, and the last bits of a product of matrices depend on where: a
    resumed run would differ from one that nothing interrupted.
    """

    def forward(self, observations: Tensor) -> Tensor:
        """Copy."""
        return super().forward(observations).clone()


def network_kwargs(network: dict[str, Any]) -> dict[str, Any]:
    """Arguments of SB3's policy class, for those that a description holds."""
    return {**network, "features_extractor_class": Aligned}


@dataclass(frozen=True)
class Description:
    """All of a policy but its numbers.

    ``algorithm``: a key of ALGORITHMS. ``group_names`` and ``observation_names``: of the
    environment that it was trained on. ``network``: arguments of the policy class. ``noise``: std
    of what a policy that has no distribution of its own adds when it explores, of [-1, 1].
    ``greedy``: how it is deployed. ``clip`` and ``epsilon``: of the normalisation.
    """

    algorithm: str
    observation: str
    group_names: list[str]
    observation_names: list[str]
    low: list[float]
    high: list[float]
    network: dict[str, Any]
    noise: float = 0.0
    greedy: bool = True
    clip: float = 10.0
    epsilon: float = 1e-8
    kind: str = KIND

    def check(self) -> None:
        """Raise ValueError if a value is none that a training could have written."""
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("kind", self.kind, (KIND,))
        size = len(self.observation_names)
        if not self.group_names or not len(self.low) == len(self.high) == size > 0:
            raise ValueError(f"low and high do not fit {size} observations")
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("low is not below high")
        if not (self.clip > 0 and 0 < self.epsilon < 1 and 0 <= self.noise < 100):
            raise ValueError("clip, epsilon or noise is out of range")
        settings = {name: one.value for name, one in ALGORITHMS[self.algorithm].network.items()}
        if set(self.network) != {"net_arch", *settings}:
            raise ValueError(f"network {self.network}: expected net_arch, {', '.join(settings)}")
        for name, usual in settings.items():
            if type(self.network[name]) is not type(usual):
                raise ValueError(f"network {name}={self.network[name]!r}: expected as {usual!r}")
        widths = self.network["net_arch"]
        if not isinstance(widths, list) or not all(width in whole(1) for width in widths):
            raise ValueError(f"network net_arch={str(widths)[:60]}: expected whole numbers >= 1")

    @property
    def action(self) -> str:
        """The environment's kind of action."""
        return ALGORITHMS[self.algorithm].action

    def build(self) -> Any:
        """A network of this kind, with random weights; global generators stay as they are."""
        low, high = (np.asarray(x, dtype=np.float32) for x in (self.low, self.high))
        groups = len(self.group_names)
        discrete = self.action == "discrete"
        action = (
            spaces.MultiDiscrete([LEVELS] * groups)
            if discrete
            else spaces.Box(-1.0, 1.0, (groups,), np.float32)
        )
        make = ALGORITHMS[self.algorithm].policy_class()
        with isolated_rng(0):
            return make(spaces.Box(low, high), action, _no_learning, **network_kwargs(self.network))


def _no_learning(left: float) -> float:
    """The learning rate of a policy that is only deployed."""
    return 0.0


class SB3Policy:
    """A trained policy for episodes; see :class:`asg_env.policies.base.Policy`.

    Args:
        description: what it is.
        network: SB3's policy.
        mean, var: of the observations, frozen: what the training's VecNormalize ended with, (D,).
        greedy: do not explore; False samples. None: as the description says.
        name: shown in tables.
    """

    def __init__(
        self,
        description: Description,
        network: Any,
        mean: np.ndarray,
        var: np.ndarray,
        greedy: bool | None = None,
        name: str = "sb3",
    ) -> None:
        self.description, self.network, self.name = description, network, name
        self.mean, self.var = mean, var
        self.greedy = description.greedy if greedy is None else greedy
        self.env_kwargs: dict[str, Any] = {
            "observation": description.observation,
            "action": description.action,
        }

    @staticmethod
    def of(model: BaseAlgorithm, **about: Any) -> SB3Policy:
        """The policy of an algorithm as it is now, to be played.

        Args:
            model: in training, on normalised copies of an environment.
            about: what else :class:`Description` holds; what the environments say is added.
        """
        envs = model.get_vec_normalize_env()
        assert envs is not None
        space: Any = envs.observation_space
        rms: Any = envs.obs_rms
        description = Description(
            group_names=list(envs.get_attr("group_names", 0)[0]),
            observation_names=list(envs.get_attr("observation_names", 0)[0]),
            low=space.low.tolist(),
            high=space.high.tolist(),
            clip=envs.clip_obs,
            epsilon=envs.epsilon,
            **about,
        )
        return SB3Policy(description, model.policy, rms.mean, rms.var, name=about["algorithm"])

    @property
    def digest(self) -> str:
        """What it is."""
        about = {**dataclasses.asdict(self.description), "greedy": self.greedy}
        return digest(about, _tensors(self))

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode.

        Raises:
            ValueError: the environment has other layer groups or observes something else than the
                one that the policy was trained on.
        """
        own = self.description
        if list(group_names) != own.group_names:
            raise ValueError(
                f"policy {self.name!r} ({own.algorithm}) was trained on {len(own.group_names)} "
                f"layer groups ({', '.join(own.group_names)}), the environment has "
                f"{len(group_names)} ({', '.join(group_names)}); agents/reinforce.py trains "
                "policies that fit any number of groups"
            )
        if list(observation_names) != own.observation_names:
            raise ValueError(
                f"policy {self.name!r} ({own.algorithm}) reads {len(own.observation_names)} "
                f"numbers ({own.observation}), the environment's {len(observation_names)} "
                "observations have other names"
            )
        self._state: Any = None
        self._rng = np.random.default_rng(seed)

    def normalise(self, observation: np.ndarray) -> np.ndarray:
        """What the network reads, float32."""
        own = self.description
        scaled = (observation - self.mean) / np.sqrt(self.var + own.epsilon)
        return np.clip(scaled, -own.clip, own.clip).astype(np.float32)

    @isolated
    def act(self, observation: np.ndarray) -> np.ndarray:
        """The level (G,) int64 of each group, or the scale (G,) float32."""
        seed = int(self._rng.integers(2**31))
        with isolated_rng(seed):
            action, state = self.network.predict(
                self.normalise(observation),
                state=self._state,
                episode_start=np.array([self._state is None]),
                deterministic=self.greedy,
            )
        self._state = state
        if self.description.action == "discrete":
            return action
        if not self.greedy:
            action = action + self.description.noise * self._rng.standard_normal(action.shape)
        return np.clip(0.5 * action + 0.5, 0, 1).astype(np.float32)


def save_sb3_policy(policy: SB3Policy, folder: Path, stem: str = "policy") -> Path:
    """Write ``STEM.safetensors`` (weights, mean and var) and ``STEM.json``; return the former's
    path."""
    return write_policy(folder, stem, dataclasses.asdict(policy.description), _tensors(policy))


def _tensors(policy: SB3Policy) -> dict[str, Tensor]:
    """All its numbers."""
    weights = {f"{NETWORK}{k}": v for k, v in policy.network.state_dict().items()}
    return {**weights, "mean": from_numpy(policy.mean), "var": from_numpy(policy.var)}


@isolated
def load_sb3_policy(path: Path, greedy: bool | None = None, name: str = "sb3") -> SB3Policy:
    """Read a policy that :func:`save_sb3_policy` wrote; nothing in the files is executed, and the
    algorithm is looked up in ALGORITHMS.

    Args:
        path: the ``.safetensors`` file; the ``.json`` file lies beside it.
        greedy, name: see :class:`SB3Policy`.

    Raises:
        FileNotFoundError: a file is missing.
        BadFile: a file is damaged, or its numbers do not fit.
    """
    about, tensors, where = read_policy(path, "agents/sb3.py")
    with blamed_on_version(where):
        description = from_fields(Description, about)
        description.check()
        _check_sizes(description, tensors)
        network: nn.Module = description.build()
        size = torch.empty(len(description.observation_names), dtype=torch.float64)
        own = {f"{NETWORK}{k}": v for k, v in network.state_dict().items()}
        expected = {**own, "mean": size, "var": size}
        check_like(tensors, expected, where.with_suffix(".safetensors").name)
        network.load_state_dict({k.removeprefix(NETWORK): tensors[k] for k in own})
        if not (tensors["var"] >= 0).all():
            raise ValueError("a variance is below 0")
    mean, var = tensors["mean"].numpy(), tensors["var"].numpy()
    return SB3Policy(description, network, mean, var, greedy, name)


def _check_sizes(description: Description, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a layer is wider than any of the tensors, before it is made."""
    largest = max((max(value.shape, default=0) for value in tensors.values()), default=0)
    network = description.network
    declared = [*network["net_arch"], 4 * network.get("lstm_hidden_size", 0)]
    if len(network["net_arch"]) > len(tensors) or any(size > largest for size in declared):
        raise ValueError(f"network {network} is larger than the weights")
