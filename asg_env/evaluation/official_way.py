"""One training step of ours beside the official way of doing it, on the paper's network.

The official way: the student's and the teacher's forward pass on every batch, contiguous (NCHW)
float32, CE + lambda KL, backward, SGD. Ours: the teacher's outputs are cached; then also
channels_last; then also bf16. :mod:`bench_step` runs this and writes the results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from asg_env.compute import Compute
from asg_env.data.order import BatchOrder
from asg_env.evaluation.timing import Timing, random_problem, timed
from asg_env.methods.base import TrainingSettings
from asg_env.seeding import cpu_threads
from asg_env.tasks.base import Problem
from asg_env.training.optimizee import Optimizee

CPU = torch.device("cpu")
OURS = {
    "cached": Compute(CPU),
    "cached+channels_last": Compute(CPU, channels_last=True),
    "cached+channels_last+bf16": Compute(CPU, channels_last=True, precision="bf16"),
}
FP32, BF16 = list(OURS)[1:]
LR = 1e-3  # so that KL moves within a few steps
WINDOW = 5  # optimizer steps of a turn; ours measure themselves once a window, as in the env


class OfficialWay:
    """The official way of training, as a plain loop.

    Args:
        problem: what is fine-tuned; the teacher sees every batch.
        settings: how.
        seed: of the new head and of the batch order.
    """

    def __init__(self, problem: Problem, settings: TrainingSettings, seed: int) -> None:
        self.student: nn.Module = problem.student(seed)
        self.teacher, self.settings, self.train = problem.network, settings, problem.splits["train"]
        self.order = BatchOrder(len(self.train), settings.batch_size, seed).upcoming()
        params = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            params, settings.base_lr, settings.momentum, weight_decay=settings.weight_decay
        )

    def train_window(self, steps: int) -> None:
        """Train ``steps`` batches."""
        for _ in range(steps):
            self._step()

    def _step(self) -> None:
        batch = self.train.batch(next(self.order))
        new, old = self.student(batch.images)
        with torch.no_grad():
            teacher = F.softmax(self.teacher(batch.images), 1)
        kl = F.kl_div(F.log_softmax(old, 1), teacher, reduction="batchmean")
        loss = F.cross_entropy(new, batch.labels) + self.settings.guidance * kl
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def run_official(rounds: int, quick: bool) -> dict[str, Any]:
    """The ratios and what they rest on.

    Args:
        rounds: in each, every contestant trains a window of batches of four.
        quick: a smaller network on smaller images.
    """
    model, side, batch = ("resnet18", 64, 2) if quick else ("resnet101", 224, 4)
    sizes = {"train": 2 * batch, "inner_valid": batch, "outer_valid": batch, "test": batch}
    settings = TrainingSettings(guidance=0.1, base_lr=LR, batch_size=batch)
    with cpu_threads(1):
        problem = random_problem(model, side, sizes)
        ours = {name: Optimizee(problem, settings, 0, how) for name, how in OURS.items()}
        effect = {"start": bf16_effect(ours[FP32], ours[BF16])}
        table = _race(OfficialWay(problem, settings, 0), ours, rounds)
        effect["trained"] = bf16_effect(ours[FP32], ours[BF16])
    return summary(table) | {
        "bf16_effect": effect,
        "rounds": rounds,
        "window": WINDOW,
        "model": model,
        "image_size": side,
        "batch_size": batch,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _race(
    official: OfficialWay, ours: dict[str, Optimizee], rounds: int
) -> list[dict[str, Timing]]:
    """The contestants' times, one window each in every round, after steps that do not count."""
    for optimizee in ours.values():
        optimizee.problem.teacher_logits("train")
    run: dict[str, Callable[[int], None]] = {
        "official": official.train_window,
        **{name: partial(_train_window, optimizee) for name, optimizee in ours.items()},
    }
    for train in run.values():
        train(1)
    names, table = list(run), []
    for turn in tqdm(range(rounds), "resnet101_224"):
        first = turn % len(names)
        order = names[first:] + names[:first]
        table.append({name: timed(partial(run[name], WINDOW)) for name in order})
    return table


def _train_window(optimizee: Optimizee, steps: int) -> None:
    if not optimizee.train_window(np.ones(len(optimizee.problem.groups)), steps).finite:
        raise RuntimeError("the run that is timed went wrong: diverged")


def bf16_effect(exact: Optimizee, rounded: Optimizee) -> dict[str, float]:
    """The largest differences of the losses at the same weights, over three splits.

    Relative to ``exact``; beside them KL itself and its absolute difference, nats, because KL is 0
    at the start.
    """
    rounded.load_tensors(exact.tensors(), exact.order.position)
    result = {"ce_relative": 0.0, "kl_relative": 0.0, "kl_absolute": 0.0, "kl": 0.0}
    for split in ("train", "inner_valid", "outer_valid"):
        ce, kl = map(float, exact.losses(split))
        other_ce, other_kl = map(float, rounded.losses(split))
        found = {
            "ce_relative": abs(other_ce - ce) / ce,
            "kl_relative": abs(other_kl - kl) / kl if kl > 1e-6 else 0.0,
            "kl_absolute": abs(other_kl - kl),
            "kl": kl,
        }
        result = {name: max(value, found[name]) for name, value in result.items()}
    return result


def summary(table: list[dict[str, Timing]]) -> dict[str, Any]:
    """How many times faster ours are: ratios of medians, and the medians, ms of a step."""
    median = {
        kind: {
            n: 1e3 / WINDOW * float(np.median([getattr(r[n], kind) for r in table]))
            for n in table[0]
        }
        for kind in Timing._fields
    }
    times = {
        kind: {n: values["official"] / values[n] for n in OURS} for kind, values in median.items()
    }
    return {
        "times_faster": times["cpu"],
        "times_faster_wall": times["wall"],
        "cpu_ms": median["cpu"],
        "wall_ms": median["wall"],
    }


def official_row(rounds: int, quick: bool) -> dict[str, Any]:
    """The row ``resnet101_224`` of bench_step.json."""
    details = run_official(rounds, quick)
    faster = details["times_faster"]
    return {"vs_official_way": {"fp32": faster[FP32], "bf16": faster[BF16]}, "details": details}


def official_table(row: dict[str, Any]) -> str:
    """The table for people."""
    details = row["details"]
    ms, faster = details["cpu_ms"], details["times_faster"]
    lines = [
        f"| {details['model']}, {details['image_size']} px, batch {details['batch_size']} "
        "| a training step, ms | times faster |",
        "| --- | --- | --- |",
        f"| the official way | {ms['official']:.0f} | |",
        *(f"| ours, {name} | {ms[name]:.0f} | {faster[name]:.2f} |" for name in OURS),
    ]
    start, trained = details["bf16_effect"]["start"], details["bf16_effect"]["trained"]
    return "\n".join(lines) + (
        f"\n\nMedians over {details['rounds']} rounds of CPU seconds, one thread "
        f"({details['cpu']}), in windows of {details['window']} steps, statistics included. At the "
        f"same weights bf16 changes CE by {start['ce_relative']:.1e} (relative) at the start and "
        f"{trained['ce_relative']:.1e} after training, where it changes KL by "
        f"{trained['kl_absolute']:.1e} nats (relative {trained['kl_relative']:.1e})."
    )
