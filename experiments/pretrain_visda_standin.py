"""Pretrain the teacher of `visda-standin` and write its weights into the package.

    python experiments/pretrain_visda_standin.py

Renders photo-like images of the twelve old classes, trains on them (mirrored at random), and
writes ``teacher.safetensors`` and ``teacher.json`` (the command, the seed, and the accuracy on the
retention images of the task itself). About a minute on one core.
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
from torch import Tensor, nn
from tqdm import tqdm

from asg_env.cli import run
from asg_env.data.splits import TensorSplit
from asg_env.learning.run_folder import only_run
from asg_env.ranges import SEED, Range, whole
from asg_env.reports.table import write_json
from asg_env.seeding import isolated_rng
from asg_env.tasks.visda_standin import (
    PRETRAINING_SEED,
    VARIANTS,
    WEIGHTS,
    old_split,
    teacher_network,
)
from asg_env.writing import write_atomic


@dataclass(frozen=True)
class Args:
    """Pretrain the teacher of visda-standin."""

    out: Path = WEIGHTS
    """Folder for the weights."""
    seed: Annotated[int, SEED] = 0
    """Seed of the images, the initialisation, the order and the mirroring."""
    images: Annotated[int, whole(1)] = 12000
    """Photo-like images to train on."""
    epochs: Annotated[int, whole(1)] = 8
    """Passes over them."""
    lr: Annotated[float, Range(above=0, at_most=1e6)] = 0.1
    """Peak learning rate of the one-cycle schedule."""
    batch_size: Annotated[int, whole(1)] = 128
    """Images in one optimizer step."""


def accuracy(network: nn.Module, data: TensorSplit) -> float:
    """Share of a split's images that the network names rightly, in eval mode."""
    network.eval()
    with torch.inference_mode():
        hits = network(data.images).argmax(1) == data.labels
    return hits.float().mean().item()


def mirror(images: Tensor) -> Tensor:
    """Flip a random half of (N, 3, H, W) images."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(flip, images.flip(3), images)


def pretrain(data: TensorSplit, args: Args) -> nn.Module:
    """Train one network."""
    network = teacher_network()
    optimizer = torch.optim.SGD(network.parameters(), args.lr, momentum=0.9, weight_decay=5e-4)
    steps = len(data) // args.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * steps
    )
    for _ in tqdm(range(args.epochs), desc="epochs"):
        order = torch.randperm(len(data))[: steps * args.batch_size]
        for indices in order.split(args.batch_size):
            images, labels, _ = data.batch(indices)
            optimizer.zero_grad()
            F.cross_entropy(network(mirror(images)), labels, label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    return network


def main(args: Args) -> None:
    """Train the teacher and write it and the record."""
    if args.batch_size > args.images:
        raise SystemExit(f"--batch-size {args.batch_size}: expected <= --images, {args.images}")
    torch.set_num_threads(1)
    main_variant = VARIANTS[None]
    held_out = old_split(main_variant.sizes.retention, main_variant.seed)
    data = old_split(args.images, PRETRAINING_SEED + args.seed)
    with isolated_rng(args.seed):
        network = pretrain(data, args)
    record = {
        "command": f"python experiments/pretrain_visda_standin.py --seed {args.seed} "
        f"--images {args.images} --epochs {args.epochs} --lr {args.lr} "
        f"--batch-size {args.batch_size}",
        "seed": args.seed,
        "torch": torch.__version__,
        "training_accuracy": round(accuracy(network, data), 6),
        "held_out_accuracy": round(accuracy(network, held_out), 6),
    }
    with only_run(args.out):
        write_atomic(args.out / "teacher.safetensors", save(network.state_dict()))
        write_json(args.out / "teacher.json", record, indent=1)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    run(main, Args)
