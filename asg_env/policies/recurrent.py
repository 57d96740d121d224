"""The recurrent policy of the paper, and its files: ours (safetensors + JSON), or the authors'."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from asg_env.control.actions import FACTORS, LEVELS
from asg_env.files import check_like
from asg_env.isolation import isolated
from asg_env.policies.digest import digest
from asg_env.policies.files import blamed_on_version, read_policy, write_policy
from asg_env.policies.official import SUFFIXES, read_official
from asg_env.ranges import whole
from asg_env.seeding import isolated_rng
from asg_env.typed import from_fields

GLOBAL_SIGNALS = 5  # CE, KL, progress, mean and std of the head's last weight
ACTION_OF = {LEVELS: "discrete", len(FACTORS): "log"}  # levels -> what they mean
PLACE = 2.0  # scale of the two numbers that tell a shared head which group it decides for
State = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class PolicyShape:
    """How a policy network is built, and how it acts; the defaults are ours."""

    heads: Literal["separate", "shared"] = "shared"
    """``separate``: a head for each layer group (paper). ``shared``: one for all, which also sees
    the group's relative depth, and so fits any number of groups."""
    scale: Literal["categorical", "ordinal"] = "ordinal"
    """``categorical``: a logit for each level (paper). ``ordinal``: a mean and a width for each
    group, the levels' probabilities follow a Gaussian: neighbouring levels learn together."""
    head_hidden: Annotated[int, whole(0, 10_000)] = 0
    """Width of the hidden layer of each head; 0: linear (paper)."""
    skip: bool = True
    """Each head also sees the global signals themselves (paper: only the LSTMs' outputs)."""
    carry_state: bool = True
    """Carry the LSTM state from decision to decision; False: the official quirk, every decision
    starts from zero."""
    greedy: bool = True
    """Deploy the policy without exploring; False: sampled (paper)."""


@dataclass(frozen=True)
class PolicyArgs(PolicyShape):
    """What a policy network is made of; the defaults are the paper's."""

    observation: str
    """Name of the observation set that it reads."""
    signals: Annotated[int, whole(0, 1000)]
    """Numbers that it reads for each layer group."""
    groups: Annotated[int, whole(1, 10_000)]
    """Layer groups it was trained on."""
    levels: Annotated[int, whole(2, 10_000)] = LEVELS
    """Discrete LR scales."""
    hidden: Annotated[int, whole(1)] = 20
    """Hidden size of each LSTM (paper)."""
    heads: Literal["separate", "shared"] = field(default="separate", kw_only=True)
    scale: Literal["categorical", "ordinal"] = field(default="categorical", kw_only=True)
    skip: bool = field(default=False, kw_only=True)
    critic: bool = False
    """It also estimates values, with the paper's critic, which REINFORCE does not use. Needs
    separate heads."""


class RecurrentPolicy(nn.Module):
    """One LSTM for each global signal; one categorical over the LR levels for each layer group.

    The critic is linear in all that the heads see: their inputs, one group after the other.

    Args:
        args: see :class:`PolicyArgs`.
        seed: of the initialisation: orthogonal, gain .01 for the last layer of each head, biases 0.

    Raises:
        ValueError: a critic beside a shared head, which fits any number of groups.
    """

    def __init__(self, args: PolicyArgs, seed: int = 0) -> None:
        super().__init__()
        if args.critic and args.heads == "shared":
            raise ValueError("a critic reads a fixed number of groups: it needs separate heads")
        self.args = args
        width = GLOBAL_SIGNALS * args.hidden + args.signals + (2 if args.heads == "shared" else 0)
        width += GLOBAL_SIGNALS if args.skip else 0
        count = 1 if args.heads == "shared" else args.groups
        with isolated_rng(seed):
            self.encoders = nn.ModuleList(nn.LSTM(1, args.hidden) for _ in range(GLOBAL_SIGNALS))
            self.heads = nn.ModuleList(_head(width, args) for _ in range(count))
            for name, parameter in self.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.orthogonal_(parameter)
            for head in self.heads:
                nn.init.orthogonal_(list(head.parameters())[-2], 0.01)
            self.critic = _critic(width * args.groups) if args.critic else None  # drawn last

    def initial_state(self, copies: int) -> list[State]:
        """A zero LSTM state for each global signal."""
        zero = torch.zeros(1, copies, self.args.hidden)
        return [(zero, zero)] * GLOBAL_SIGNALS

    def forward(self, observations: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """Unroll over decisions.

        Args:
            observations: (T, N, D) float32.
            state: of the decision before the first.

        Returns:
            Logits (T, N, G, levels) and the state after the last decision.

        Raises:
            ValueError: there is a head for each group, and the observations are of another number.
        """
        inputs, after = self._inputs(observations, state)
        if self.args.heads == "shared":
            place = _place(inputs.shape[-2]).expand(*inputs.shape[:-1], -1)
            out = self.heads[0](torch.cat([inputs, place], -1))
        else:
            out = torch.stack([head(inputs[..., g, :]) for g, head in enumerate(self.heads)], -2)
        if self.args.scale == "ordinal":
            out = _ordinal_logits(out, self.args.levels)
        return out, after

    def values(self, observations: Tensor, state: list[State]) -> Tensor:
        """The critic's estimates (T, N), for the same arguments as :meth:`forward`.

        Raises:
            ValueError: the policy has no critic.
        """
        if self.critic is None:
            raise ValueError("this policy has no critic: it was made with critic=False")
        inputs, _ = self._inputs(observations, state)
        return self.critic(inputs.flatten(-2)).squeeze(-1)

    def _inputs(self, observations: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """What the heads see, (T, N, G, width): the memory, then the group's own signals."""
        memory, after = [], []
        for i, (encoder, before) in enumerate(zip(self.encoders, state, strict=True)):
            out, last = encoder(observations[..., i : i + 1], before)
            memory.append(out)
            after.append(last)
        if self.args.skip:
            memory.append(observations[..., :GLOBAL_SIGNALS])
        local = observations[..., GLOBAL_SIGNALS:].unflatten(-1, (self.args.signals, -1))
        local = local.transpose(-1, -2)  # (T, N, G, signals)
        groups = local.shape[-2]
        if self.args.heads == "separate" and groups != self.args.groups:
            raise ValueError(
                f"the policy has one head for each of {self.args.groups} layer groups, the "
                f"observations are of {groups}"
            )
        shared = torch.cat(memory, -1).unsqueeze(-2).expand(*local.shape[:-1], -1)
        return torch.cat([shared, local], -1), after


def _head(width: int, args: PolicyArgs) -> nn.Sequential:
    outputs = 2 if args.scale == "ordinal" else args.levels
    if not args.head_hidden:
        return nn.Sequential(nn.Linear(width, outputs))
    hidden = nn.Linear(width, args.head_hidden)
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(args.head_hidden, outputs))


def _critic(width: int) -> nn.Linear:
    critic = nn.Linear(width, 1)
    nn.init.orthogonal_(critic.weight)
    nn.init.zeros_(critic.bias)
    return critic


def _place(groups: int) -> Tensor:
    """Where each group is, (G, 2): relative depth, and the head against the others.

    Both have mean 0 over the groups, so that they tell groups apart and move none of them alike;
    PLACE makes them count as much as the bias does.
    """
    depth = torch.linspace(-1, 1, groups)
    head = torch.full((groups,), -1 / max(groups - 1, 1))
    head[-1] = 1.0
    return PLACE * torch.stack([depth, head], -1)


def _ordinal_logits(out: Tensor, levels: int) -> Tensor:
    """Logits (..., levels) of a Gaussian over the scales 0..1; ``out`` (..., 2): mean, log width.

    At ``out`` = 0 the mean is .5 and the width .5, which is close to uniform. The mean stays inside
    the levels and the width above the distance of two, so that exploration never ends for good.
    """
    mean = torch.sigmoid(4 * out[..., :1])
    narrowest = 1 / (levels - 1)
    width = narrowest + 2 * (0.5 - narrowest) * torch.sigmoid(2 * out[..., 1:])
    scales = torch.linspace(0, 1, levels)
    return -0.5 * ((scales - mean) / width).square()


class LearnedPolicy:
    """A trained network as a policy for episodes.

    Args:
        network: the network.
        greedy: do not explore, see :func:`greedy_levels`; False samples (as the paper does). None:
            as the network's own arguments say.
        name: shown in tables.
    """

    def __init__(
        self, network: RecurrentPolicy, greedy: bool | None = None, name: str = "learned"
    ) -> None:
        self.network, self.name = network, name
        self.greedy = network.args.greedy if greedy is None else greedy
        self.env_kwargs: dict[str, Any] = {
            "observation": network.args.observation,
            "action": ACTION_OF.get(network.args.levels, "continuous"),
        }

    @property
    def digest(self) -> str:
        """What it is."""
        about = {**dataclasses.asdict(self.network.args), "greedy": self.greedy}
        return digest(about, self.network.state_dict())

    @isolated
    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get ready for one episode.

        Raises:
            ValueError: if the network has a head for each group and their number differs.
        """
        args = self.network.args
        if args.heads == "separate" and len(group_names) != args.groups:
            raise ValueError(
                f"policy {self.name!r} has one head for each of {args.groups} layer groups, the "
                f"environment has {len(group_names)} ({', '.join(group_names)}); train one with "
                "--heads shared"
            )
        self._state = self.network.initial_state(1)
        self._generator = torch.Generator().manual_seed(seed)

    @isolated
    def logits(self, observation: np.ndarray) -> Tensor:
        """The logits (G, levels) of the episode's next decision; the state moves on."""
        with torch.inference_mode():
            logits, state = self.network(torch.from_numpy(observation)[None, None], self._state)
        if self.network.args.carry_state:
            self._state = state
        return logits[0, 0]

    @isolated
    def act(self, observation: np.ndarray) -> np.ndarray:
        """The level (G,) int64 of each group; the scale (G,) float32 if there are not 11 levels."""
        logits, args = self.logits(observation), self.network.args
        if self.greedy:
            levels = greedy_levels(logits, args.scale)
        else:
            levels = sample(logits, self._generator)
        return (levels if args.levels in ACTION_OF else levels / (args.levels - 1)).numpy()


def greedy_levels(logits: Tensor, scale: str) -> Tensor:
    """The level that a policy plays when it does not explore, for (..., levels) logits.

    The most probable one; of an ordinal policy of absolute scales the expected one, rounded,
    because a Gaussian that is cut off at a border has its peak there and its mass inside. (Where
    levels are factors, the outermost ones would then never be played.)
    """
    if scale == "categorical" or ACTION_OF.get(logits.shape[-1]) == "log":
        return logits.argmax(-1)
    levels = torch.arange(logits.shape[-1], dtype=logits.dtype)
    return (logits.softmax(-1) * levels).sum(-1).round().long()


def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a level for each categorical of (..., levels)."""
    flat = logits.softmax(-1).flatten(0, -2)
    return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1])


def save_policy(network: RecurrentPolicy, folder: Path, stem: str = "policy") -> Path:
    """Write ``STEM.safetensors`` and ``STEM.json``; return the former's path."""
    about = {"kind": "recurrent", **dataclasses.asdict(network.args)}
    return write_policy(folder, stem, about, network.state_dict())


@isolated
def load_policy(path: str | Path) -> RecurrentPolicy:
    """Read a policy that :func:`save_policy` wrote, or that the paper's authors published.

    Args:
        path: the folder of a policy of ours or one of its files, or a published ``.pth`` file.

    Raises:
        FileNotFoundError: a file is missing.
        BadFile: a file is damaged, or the weights do not fit the arguments.
    """
    path = Path(path)
    if path.suffix in SUFFIXES and not path.is_dir():
        return load_official_policy(path)
    path = path / "policy.json" if path.is_dir() else path
    about, tensors, where = read_policy(path, "agents/reinforce.py")
    with blamed_on_version(where):
        args = from_fields(PolicyArgs, {k: v for k, v in about.items() if k != "kind"})
        _check_sizes(args, tensors)
        network = RecurrentPolicy(args)
        check_like(tensors, network.state_dict(), where.with_suffix(".safetensors").name)
        network.load_state_dict(tensors)
    return network


def _check_sizes(args: PolicyArgs, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a size is not that of the tensors, before anything is made of it."""
    heads = len({name.split(".")[1] for name in tensors if name.startswith("heads.")})
    if args.heads == "separate" and heads != args.groups:
        raise ValueError(f"groups is {args.groups}, there are weights of {heads} heads")
    rows = {"encoders.0.weight_ih_l0": ("hidden", 4 * args.hidden)}
    if args.head_hidden:
        rows["heads.0.0.weight"] = ("head_hidden", args.head_hidden)
    for tensor, (name, expected) in rows.items():
        found = tensors[tensor].shape[:1] if tensor in tensors else ()
        if list(found) != [expected]:
            raise ValueError(f"{name} is {getattr(args, name)}, {tensor} has rows {list(found)}")


@isolated
def load_official_policy(path: str | Path) -> RecurrentPolicy:
    """Read a published checkpoint. The policy acts as published: on the paper's observation, with
    the LSTM state never carried (official quirk), and sampled.

    Raises:
        FileNotFoundError, ValueError: see :func:`asg_env.policies.official.read_official`.
    """
    official = read_official(Path(path))
    args = PolicyArgs(
        observation="paper",
        signals=1,
        groups=official.groups,
        levels=official.levels,
        hidden=official.hidden,
        carry_state=False,
        greedy=False,
        critic=True,
    )
    with blamed_on_version(Path(path)):
        network = RecurrentPolicy(args)
        network.load_state_dict(official.weights)
    return network
