"""The recurrent policy of the paper, and its files (safetensors + JSON)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from asg_env.envs.snapshot import write_atomic
from asg_env.seeding import isolated_rng

GLOBAL_SIGNALS = 5  # CE, KL, progress, mean and std of the head's last weight
PLACE = 2.0  # scale of the two numbers that tell a shared head which group it decides for
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PolicyArgs:
    """What a policy network is made of."""

    observation: str
    """Name of the observation set that it reads."""
    signals: int
    """Numbers that it reads for each layer group."""
    groups: int
    """Layer groups it was trained on."""
    levels: int = 11
    """Discrete LR scales."""
    hidden: int = 20
    """Hidden size of each LSTM (paper)."""
    heads: Literal["separate", "shared"] = "separate"
    """``separate``: one head for each layer group (paper). ``shared``: one head for all, which also
    sees the group's relative depth, and so fits any number of groups."""
    scale: Literal["categorical", "ordinal"] = "categorical"
    """``categorical``: a logit for each level (paper). ``ordinal``: a mean and a width for each
    group, the levels' probabilities follow a Gaussian: neighbouring levels learn together."""
    head_hidden: int = 0
    """Width of a hidden layer in each head; 0: linear (paper)."""
    skip: bool = False
    """Each head also sees the global signals themselves, not only the LSTMs' outputs."""
    carry_state: bool = True
    """Carry the LSTM state from decision to decision; False: the official quirk, every decision
    starts from zero."""


class RecurrentPolicy(nn.Module):
    """One LSTM for each global signal; one categorical over the LR levels for each layer group.

    Args:
        args: see :class:`PolicyArgs`.
        seed: of the initialisation: orthogonal, gain .01 for the last layer of each head, biases 0.
    """

    def __init__(self, args: PolicyArgs, seed: int = 0) -> None:
        super().__init__()
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
        """
        memory, after = [], []
        for i, (encoder, before) in enumerate(zip(self.encoders, state, strict=True)):
            out, last = encoder(observations[..., i : i + 1], before)
            memory.append(out)
            after.append(last)
        return self._decide(torch.cat(memory, -1), observations), after

    def _decide(self, memory: Tensor, observations: Tensor) -> Tensor:
        if self.args.skip:
            memory = torch.cat([memory, observations[..., :GLOBAL_SIGNALS]], -1)
        local = observations[..., GLOBAL_SIGNALS:].unflatten(-1, (self.args.signals, -1))
        local = local.transpose(-1, -2)  # (T, N, G, signals)
        groups = local.shape[-2]
        inputs = torch.cat([memory.unsqueeze(-2).expand(*local.shape[:-1], -1), local], -1)
        if self.args.heads == "shared":
            place = _place(groups).expand(*local.shape[:-1], -1)
            out = self.heads[0](torch.cat([inputs, place], -1))
        else:
            out = torch.stack([head(inputs[..., g, :]) for g, head in enumerate(self.heads)], -2)
        return _ordinal_logits(out, self.args.levels) if self.args.scale == "ordinal" else out


def _head(width: int, args: PolicyArgs) -> nn.Sequential:
    outputs = 2 if args.scale == "ordinal" else args.levels
    if not args.head_hidden:
        return nn.Sequential(nn.Linear(width, outputs))
    hidden = nn.Linear(width, args.head_hidden)
    return nn.Sequential(hidden, nn.Tanh(), nn.Linear(args.head_hidden, outputs))


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
        greedy: do not explore, see :func:`greedy_levels`; False samples (as the paper does).
        name: shown in tables.
    """

    def __init__(
        self, network: RecurrentPolicy, greedy: bool = True, name: str = "learned"
    ) -> None:
        self.network, self.greedy, self.name = network, greedy, name
        self.env_kwargs: dict[str, Any] = {
            "observation": network.args.observation,
            "action": "discrete",
        }

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

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The level (G,) int64 of each group."""
        with torch.inference_mode():
            logits, state = self.network(torch.from_numpy(observation)[None, None], self._state)
        if self.network.args.carry_state:
            self._state = state
        if not self.greedy:
            return sample(logits, self._generator)[0, 0].numpy()
        return greedy_levels(logits[0, 0], self.network.args.scale).numpy()


def greedy_levels(logits: Tensor, scale: str) -> Tensor:
    """The level that a policy plays when it does not explore, for (..., levels) logits.

    The most probable one; of an ordinal policy the expected one, rounded, because a Gaussian that
    is cut off at a border has its peak there and its mass inside.
    """
    if scale == "categorical":
        return logits.argmax(-1)
    levels = torch.arange(logits.shape[-1], dtype=logits.dtype)
    return (logits.softmax(-1) * levels).sum(-1).round().long()


def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a level for each categorical of (..., levels)."""
    flat = logits.softmax(-1).flatten(0, -2)
    return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1])


def save_policy(network: RecurrentPolicy, folder: Path) -> Path:
    """Write ``policy.safetensors`` and ``policy.json``; return the former's path."""
    path = folder / "policy.safetensors"
    text = json.dumps(dataclasses.asdict(network.args), indent=1) + "\n"
    write_atomic(path.with_suffix(".json"), text.encode())
    write_atomic(path, save(network.state_dict()))
    return path


def load_policy(path: str | Path) -> RecurrentPolicy:
    """Read a policy that :func:`save_policy` wrote, given its folder or one of its files.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated, or the weights do not fit the arguments.
    """
    path = Path(path)
    path = path / "policy.safetensors" if path.is_dir() else path.with_suffix(".safetensors")
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(f"no policy file {file}; agents/reinforce.py writes it")
    try:
        args = PolicyArgs(**json.loads(path.with_suffix(".json").read_text()))
        network = RecurrentPolicy(args)
        network.load_state_dict(load_file(path))
    except (SafetensorError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is no policy of this version: {error}") from error
    return network
