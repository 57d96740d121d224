"""Checkpoints of a training: weights, optimizer state, updates done. No pickle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asg_env.files import BadFile, check_finite, check_like, read_tensors, write_tensors

FILE = "checkpoint.safetensors"


class Checkpoint(NamedTuple):
    """Weights ``network.*``, optimizer state ``optimizer.INDEX.KEY``, and updates done; ``where``
    it was read, for messages."""

    tensors: dict[str, Tensor]
    update: int
    where: str = FILE

    @staticmethod
    def of(network: nn.Module, optimizer: torch.optim.Optimizer, update: int) -> Checkpoint:
        """The checkpoint of a network and its optimizer."""
        tensors = {f"network.{k}": v.clone() for k, v in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value.clone()
        return Checkpoint(tensors, update)

    def load_into(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the state back; BadFile, and nothing is changed, if it does not fit."""
        weights, state = {}, dict[int, dict[str, Tensor]]()
        own = dict(enumerate(network.parameters()))
        for name, value in self.tensors.items():
            kind, _, rest = name.partition(".")
            index, _, key = rest.partition(".")
            if kind == "network":
                weights[rest] = value
            elif kind == "optimizer" and index.isdecimal() and int(index) in own and key:
                fits = not value.ndim or value.shape == own[int(index)].shape
                if not (fits and value.is_floating_point()):
                    kind = f"{value.dtype} {tuple(value.shape)}"
                    raise BadFile(f"{self.where}: {name} holds {kind}, which does not fit")
                state.setdefault(int(index), {})[key] = value
            else:
                raise BadFile(f"{self.where}: a tensor is called {name!r}")
        check_finite(self.tensors, self.where)
        check_like(weights, network.state_dict(), self.where)
        network.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write it, whole or not at all."""
    write_tensors(folder / FILE, checkpoint.tensors, {"update": str(checkpoint.update)})


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint, or None if it has none; BadFile if it is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
        if not re.fullmatch(r"[0-9]{1,9}", metadata.get("update", "")):
            raise ValueError(f"it says update {metadata.get('update')!r}")
        return Checkpoint(tensors, int(metadata["update"]), str(path))
    except ValueError as error:
        raise BadFile(
            f"{path} is no whole checkpoint ({error}); delete it to start over"
        ) from error
