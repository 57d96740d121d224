"""Pretrain the digits teachers and write their weights into the package.

    python experiments/pretrain_digits.py

One network per class split of ``asg_env/tasks/digits.py``, trained on real handwriting of the old
digits with small random affine warps. Writes ``teacher_*.safetensors`` and ``teachers.json`` (the
command, the seed and each teacher's accuracy on its held-out handwriting).
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from asg_env.cli import run
from asg_env.learning.run_folder import only_run
from asg_env.ranges import SEED, Range, whole
from asg_env.reports.table import write_json
from asg_env.seeding import isolated_rng
from asg_env.tasks.digits import VARIANTS, WEIGHTS, DigitsVariant, teacher_network, teacher_splits
from asg_env.writing import write_atomic


@dataclass(frozen=True)
class Args:
    """Pretrain the digits teachers."""

    out: Path = WEIGHTS
    """Folder for the weights."""
    seed: Annotated[int, SEED] = 0
    """Seed of initialisation, order and warps."""
    epochs: Annotated[int, whole(1)] = 60
    """Passes over the handwriting."""
    lr: Annotated[float, Range(above=0, at_most=1e6)] = 0.05
    """Peak learning rate of the one-cycle schedule."""


def warp(images: Tensor, strength: float = 0.15) -> Tensor:
    """Random affine warps of (N, 1, H, W) images."""
    theta = torch.eye(2, 3).repeat(len(images), 1, 1) + strength * torch.randn(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def pretrain(variant: DigitsVariant, args: Args) -> tuple[dict[str, Tensor], float]:
    """Train one teacher; return its weights and its accuracy on held-out handwriting."""
    train, held_out = teacher_splits(variant)
    network, batch = teacher_network(), 64
    optimizer = torch.optim.SGD(network.parameters(), args.lr, momentum=0.9, weight_decay=5e-4)
    steps = args.epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    for _ in range(args.epochs):
        order = torch.randperm(len(train))
        for indices in order[: len(train) // batch * batch].split(batch):
            images, labels, _ = train.batch(indices)
            optimizer.zero_grad()
            F.cross_entropy(network(warp(images)), labels, label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        hits = network(held_out.images).argmax(1) == held_out.labels
    return network.state_dict(), hits.float().mean().item()


def main(args: Args) -> None:
    """Train every teacher and write the record."""
    torch.set_num_threads(1)
    accuracies = {}
    with only_run(args.out):
        for variant in tqdm(VARIANTS.values(), desc="teachers"):
            with isolated_rng(args.seed + variant.seed):
                weights, accuracy = pretrain(variant, args)
            write_atomic(args.out / variant.weights.name, save(weights))
            accuracies[variant.weights.name] = round(accuracy, 6)
    record = {
        "command": f"python experiments/pretrain_digits.py --seed {args.seed} "
        f"--epochs {args.epochs} --lr {args.lr}",
        "seed": args.seed,
        "torch": torch.__version__,
        "held_out_accuracy": accuracies,
    }
    write_json(args.out / "teachers.json", record, indent=1)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    run(main, Args)
