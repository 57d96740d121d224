"""Checkpoints of a training run and the folder they live in. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from asg_env.files import read_tensors, write_atomic

FILE = "checkpoint.safetensors"


class Checkpoint(NamedTuple):
    """Weights ``network.*``, optimizer state ``optimizer.INDEX.KEY``, and updates done."""

    tensors: dict[str, Tensor]
    update: int

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
        """Put the state back."""
        weights, state = {}, dict[int, dict[str, Tensor]]()
        for name, value in self.tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "network":
                weights[rest] = value
            else:
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = value
        network.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write it, whole or not at all."""
    tensors = {k: v.detach().contiguous() for k, v in checkpoint.tensors.items()}
    write_atomic(folder / FILE, save(tensors, {"update": str(checkpoint.update)}))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint, or None if it has none; ValueError if it is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
        return Checkpoint(tensors, int(metadata["update"]))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is no whole checkpoint ({error}); delete it to start over"
        ) from error


def open_run(folder: Path, args: dict[str, Any]) -> None:
    """Make the folder, or check that the run in it has the same arguments.

    Raises:
        SystemExit: the folder cannot be written, or holds a run with other arguments.
    """
    args = json.loads(json.dumps(args, default=str))
    path = folder / "args.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomic(path, (json.dumps(args, indent=1) + "\n").encode())
    except OSError as error:
        raise SystemExit(f"--out {folder} cannot be written: {error}") from error
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise SystemExit(f"{path} is damaged ({error}); delete {folder} to start over") from error
    for name in args:
        if name != "out" and before.get(name) != args[name]:
            raise SystemExit(
                f"--out {folder} holds a run with {name}={before.get(name)!r}, not "
                f"{args[name]!r}: choose another --out, or delete it"
            )


def due(done: int, total: int, count: int) -> bool:
    """Whether one of ``count`` moments at equal distances in 1..total is ``done``."""
    return done * count // total > (done - 1) * count // total


def keep_lines(path: Path, count: int) -> None:
    """Drop what a log says beyond its first lines: what came after the last checkpoint."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    write_atomic(path, "".join(lines[:count]).encode())
