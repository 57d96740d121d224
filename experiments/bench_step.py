"""What a step costs: ``env.step`` beside the same work without the env, and beside bare training.

On the paper's network (``resnet101_224``), a training step of ours beside the official way; and a
plain loop whose learning rates ``PolicyLR`` sets beside the same loop without it (``policy_lr``).

    python experiments/bench_step.py               # a few minutes on one core

The contestants take turns, one window each in every round, and a ratio is the median over rounds of
the round's ratio, so that a machine that is busy with other things slows all of them alike. Ratios
are of CPU seconds of one thread; those of wall-clock seconds stand beside them. Writes
``bench_step.json`` and ``bench_step.md``.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import copy
import multiprocessing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.vector import AsyncVectorEnv
from torch import nn
from tqdm import tqdm

from asg_env.cli import run
from asg_env.data.order import BatchOrder
from asg_env.data.splits import TensorSplit
from asg_env.envs.finetune import FinetuneEnv
from asg_env.evaluation.official_way import official_row, official_table
from asg_env.evaluation.timing import Timing, random_problem, timed
from asg_env.learning.run_folder import only_run
from asg_env.methods.base import TrainingSettings
from asg_env.policies.recurrent import LearnedPolicy, PolicyArgs, RecurrentPolicy
from asg_env.ranges import SEED, whole
from asg_env.reports.table import write_json
from asg_env.schedulers import PolicyLR, param_groups
from asg_env.seeding import cpu_threads
from asg_env.tasks.base import Defaults, Problem, Task
from asg_env.training.optimizee import Optimizee
from asg_env.writing import write_atomic

TARGETS = {"vs_same_work": 1.05, "vs_bare": 1.3}  # the project's own, the latter for resnet18_64
POLICY_TARGET = 1.1  # of a loop with PolicyLR, to the loop without
CONTESTANTS = ("env", "same_work", "bare")
WORKERS = (1, 2)


@dataclass(frozen=True)
class Args:
    """Measure what env.step costs beside the same work, bare training and the official way."""

    out: Path = Path("runs/bench_step")
    """Folder for bench_step.json and bench_step.md."""
    rounds: Annotated[int, whole(1)] = 40
    """Rounds on digits; in each, every contestant trains one window."""
    resnet_rounds: Annotated[int, whole(1)] = 12
    """Rounds on resnet18_64."""
    policy_rounds: Annotated[int, whole(1)] = 12
    """Rounds of policy_lr; in each, both loops train one window of ten batches."""
    official_rounds: Annotated[int, whole(1)] = 5
    """Rounds of resnet101_224; in each, every contestant trains five batches (half a minute)."""
    worker_rounds: Annotated[int, whole(1)] = 5
    """Rounds of the worker processes, of 24 steps of each process."""
    seed: Annotated[int, SEED] = 0
    """Seed of the episodes."""
    quick: bool = False
    """A tiny run that touches every row; its figures mean nothing."""


class RandomImages(Task):
    """ResNet-18 on random 64x64 images, 12 new classes: the cost of a real network, no data.

    Args:
        window: optimizer steps of a decision.
        batch_size: images of an optimizer step.
    """

    name = "resnet18_64"
    sizes = {"train": 640, "inner_valid": 64, "outer_valid": 128, "test": 64}

    def __init__(self, window: int = 10, batch_size: int = 32) -> None:
        self.defaults = Defaults(
            *(1e-3, 0.1, 10_000 * window, window, batch_size), clip_norm=None, threads=1
        )

    def variants(self, split: str) -> list[str]:
        """None."""
        return []

    @lru_cache(maxsize=1)  # noqa: B019 - one RandomImages lives as long as the run
    def load(self, variant: str | None) -> Problem:
        """The problem."""
        return random_problem("resnet18", 64, self.sizes)


class BareLoop:
    """CE + lambda KL with torch's SGD at one learning rate: no groups, no statistics, no reward.

    Args:
        problem: what is fine-tuned; its teacher's outputs are cached.
        settings: how.
        seed: of the new head and of the batch order.
    """

    def __init__(self, problem: Problem, settings: TrainingSettings, seed: int) -> None:
        self.student: nn.Module = problem.student(seed)
        self.settings = settings
        train = problem.splits["train"]
        assert isinstance(train, TensorSplit)
        self.images, self.labels = train.images, train.labels
        self.teacher = problem.teacher_logits("train")
        self.order = BatchOrder(len(self.labels), settings.batch_size, seed)
        self.params = [p for p in self.student.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            self.params, settings.base_lr, settings.momentum, weight_decay=settings.weight_decay
        )

    def train_window(self, steps: int) -> None:
        """Train ``steps`` batches."""
        for _ in range(steps):
            indices = self.order.at(self.order.position)
            self.order.position += 1
            new, old = self.student(self.images[indices])
            teacher, student = F.log_softmax(self.teacher[indices], 1), F.log_softmax(old, 1)
            kl = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
            loss = F.cross_entropy(new, self.labels[indices]) + self.settings.guidance * kl
            self.optimizer.zero_grad()
            loss.backward()
            if self.settings.clip_norm != float("inf"):
                torch.nn.utils.clip_grad_norm_(self.params, self.settings.clip_norm)
            self.optimizer.step()


class Race:
    """The contestants, side by side on one problem; a new episode starts all of them afresh.

    Args:
        env: the environment; full learning rates, on CPU.
        seed: of the first episode.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        self.env, self.unwrapped, self.seed = env, env.unwrapped, seed
        self.over = True

    def restart(self) -> None:
        """Begin an episode."""
        u: Any = self.unwrapped
        self.env.reset(seed=self.seed)
        settings = u.config.training(u.problem)
        self.optimizee = Optimizee(u.problem, settings, self.seed, u.config.compute)
        self.loop = BareLoop(u.problem, settings, self.seed)
        self.window, self.groups = u.config.window, len(u.group_names)
        self.seed, self.over = self.seed + 1, False

    def env_step(self) -> None:
        """One window by the environment."""
        *_, terminated, truncated, info = self.env.step(np.full(self.groups, 10))
        if "error_type" in info:
            raise RuntimeError(f"the run that is timed went wrong: {info['error_type']}")
        self.over = terminated or truncated

    def same_work(self) -> None:
        """One window, its measurements and its reward's losses, by hand."""
        self.optimizee.train_window(np.ones(self.groups), self.window)
        self.optimizee.probe()
        self.optimizee.losses("outer_valid")

    def bare(self) -> None:
        """One window of training and nothing else."""
        self.loop.train_window(self.window)

    def round(self, turn: int) -> dict[str, Timing]:
        """One window of every contestant, in an order that rotates with ``turn``."""
        if self.over:
            self.restart()
        run = dict(zip(CONTESTANTS, (self.env_step, self.same_work, self.bare), strict=True))
        first = turn % len(CONTESTANTS)
        return {n: timed(run[n]) for n in (*CONTESTANTS[first:], *CONTESTANTS[:first])}


def run_rounds(name: str, race: Race, rounds: int) -> dict[str, Any]:
    """Run the rounds, after one that does not count; return the ratios and what they rest on."""
    with cpu_threads(1):
        race.round(0)
        table = [race.round(turn) for turn in tqdm(range(rounds), name)]
    result: dict[str, Any] = {}
    for other in CONTESTANTS[1:]:
        for kind in Timing._fields:
            ratios = [getattr(r["env"], kind) / getattr(r[other], kind) for r in table]
            low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
            suffix = "" if kind == "cpu" else f"_{kind}"
            result[f"vs_{other}{suffix}"] = middle
            result[f"vs_{other}{suffix}_quartiles"] = [low, high]
    for contestant in CONTESTANTS:
        milliseconds = [1e3 * r[contestant].cpu for r in table]
        result[f"{contestant}_ms"] = float(np.median(milliseconds))
    return {**result, "rounds": rounds, "window": race.window}


class PolicyRace:
    """ResNet-18 on random 64x64 images: a plain loop, and the same with PolicyLR.

    The policy is a recurrent one that was not trained, which costs what a trained one does; the
    optimizer's learning rate is so small that it cannot break the run.

    Args:
        window: optimizer steps of a decision.
        batch_size: images of an optimizer step.
        decisions: that are made at most.
    """

    def __init__(self, window: int, batch_size: int, decisions: int) -> None:
        problem = random_problem("resnet18", 64, {"train": 20 * batch_size, "inner_valid": 64})
        train = problem.splits["train"]
        assert isinstance(train, TensorSplit)
        self.images, self.labels = train.images.split(batch_size), train.labels.split(batch_size)
        self.window = window
        self.networks = {name: copy.deepcopy(problem.network).train() for name in ("with", "bare")}
        self.optimizers = {
            name: torch.optim.SGD(param_groups(network), 1e-9, 0.9, weight_decay=5e-4)
            for name, network in self.networks.items()
        }
        arguments = PolicyArgs("loop", 5, 1, levels=7, heads="shared", scale="ordinal", skip=True)
        policy = LearnedPolicy(RecurrentPolicy(arguments))
        self.scheduler = PolicyLR(self.optimizers["with"], policy, decisions * window, window)

    def train(self, name: str) -> None:
        """One window."""
        network, optimizer = self.networks[name], self.optimizers[name]
        for step in range(self.window):
            k = step % len(self.images)
            loss = F.cross_entropy(network(self.images[k]), self.labels[k])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if name == "with":
                self.scheduler.step(loss)

    def round(self, turn: int) -> dict[str, Timing]:
        """One window of both, in an order that alternates with ``turn``."""
        order = ("with", "bare")[:: 1 if turn % 2 else -1]
        return {name: timed(partial(self.train, name)) for name in order}


def run_policy(rounds: int, quick: bool) -> dict[str, Any]:
    """What PolicyLR costs: the ratios, and what they rest on, after a round that does not count."""
    window, batch_size = (2, 2) if quick else (10, 32)
    with cpu_threads(1):
        race = PolicyRace(window, batch_size, rounds + 2)
        race.round(0)
        table = [race.round(turn) for turn in tqdm(range(rounds), "policy_lr")]
    result: dict[str, Any] = {}
    for kind in Timing._fields:
        ratios = [getattr(r["with"], kind) / getattr(r["bare"], kind) for r in table]
        low, middle, high = np.percentile(ratios, [25, 50, 75]).tolist()
        suffix = "" if kind == "cpu" else f"_{kind}"
        result[f"vs_bare{suffix}"] = middle
        result[f"vs_bare{suffix}_quartiles"] = [low, high]
    result["with_ms"] = float(np.median([1e3 * r["with"].cpu for r in table]))
    return {**result, "rounds": rounds, "window": window, "decisions": race.scheduler.decision}


def run_workers(rounds: int, steps: int) -> dict[str, float]:
    """Env-steps per second of worker processes on digits: the median over rounds."""
    methods = multiprocessing.get_all_start_methods()
    context = "forkserver" if "forkserver" in methods else "spawn"
    budget = 10 * (steps * rounds + 1)  # so long that no episode ends
    make = partial(gym.make, "asg_env:ASG-Digits-v0", budget=budget)
    envs: dict[int, AsyncVectorEnv] = {}
    rates: dict[int, list[float]] = {n: [] for n in WORKERS}
    try:
        for count in WORKERS:
            envs[count] = AsyncVectorEnv([make] * count, context=context)
            envs[count].reset(seed=0)
            _play(envs[count], 1)
        for _ in tqdm(range(rounds), "workers"):
            for count in WORKERS:
                seconds = timed(partial(_play, envs[count], steps)).wall
                rates[count].append(count * steps / seconds)
    finally:
        for vector in envs.values():
            vector.close(terminate=True)
    return {str(n): float(np.median(values)) for n, values in rates.items()}


def _play(envs: AsyncVectorEnv, steps: int) -> None:
    action = np.full(envs.action_space.shape or (), 10)
    for _ in range(steps):
        envs.step(action)


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The tables for people."""
    lines = [
        "| what | env.step / same work | env.step / bare training | env.step, ms | rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("digits", "resnet18_64"):
        row = results[name]
        cells = [name, *(_cell(row, f"vs_{other}") for other in CONTESTANTS[1:])]
        lines.append(f"| {' | '.join(cells)} | {row['env_ms']:.1f} | {row['rounds']} |")
    lines += [
        f"\nMedian over rounds [quartiles] of CPU seconds, one thread. Wanted: at most "
        f"{TARGETS['vs_same_work']} and, on resnet18_64, {TARGETS['vs_bare']}.\n",
        f"{official_table(results['resnet101_224'])}\n",
        *_policy_table(results["policy_lr"]),
        "| worker processes on digits | env-steps per second |",
        "| --- | --- |",
        *(f"| {count} | {rate:.1f} |" for count, rate in results["workers"].items()),
    ]
    return "\n".join(lines)


def _policy_table(row: dict[str, Any]) -> list[str]:
    return [
        "| ResNet-18, 64 pixels | with PolicyLR / without | window with it, ms | rounds |",
        "| --- | --- | --- | --- |",
        f"| policy_lr | {_cell(row, 'vs_bare')} | {row['with_ms']:.1f} | {row['rounds']} |",
        f"\nWanted: at most {POLICY_TARGET}.\n",
    ]


def _cell(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_quartiles"]
    return f"{row[name]:.3f} [{low:.3f}, {high:.3f}]"


def main(args: Args) -> dict[str, dict[str, Any]]:
    """Measure, print the tables and write them."""
    task = RandomImages(window=1, batch_size=2) if args.quick else RandomImages()
    rounds = args.rounds, args.resnet_rounds, args.official_rounds, args.worker_rounds
    if args.quick:
        rounds = (1, 1, 1, 1)
    digits = gym.make("ASG-Digits-v0", device="cpu")
    results = {
        "digits": run_rounds("digits", Race(digits, args.seed), rounds[0]),
        "resnet18_64": run_rounds(
            "resnet18_64", Race(FinetuneEnv(task, device="cpu"), args.seed), rounds[1]
        ),
        "policy_lr": run_policy(1 if args.quick else args.policy_rounds, args.quick),
        "resnet101_224": official_row(rounds[2], args.quick),
        "workers": run_workers(rounds[3], 2 if args.quick else 24),
    }
    text = markdown(results)
    with only_run(args.out):
        write_json(args.out / "bench_step.json", results, indent=1)
        write_atomic(args.out / "bench_step.md", (text + "\n").encode())
    print(text)
    return results


if __name__ == "__main__":
    run(main, Args)
