"""Decode every image of an environment and name those that cannot be read.

    python experiments/check_images.py --env ASG-VisDA-v0 --env-kwargs data_root /data/visda

Exits with 0 if all are readable, with 1 otherwise. With `--env-kwargs cache FOLDER` it fills that
cache on the way, so that the first run is as fast as later ones. `weights random` spares loading
the network's weights. It writes no other file.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium as gym
import tyro
from tqdm import tqdm

from asg_env.data.image_split import ImageSplit
from asg_env.tasks.base import Problem

QUICK = 100  # images of each split


@dataclass(frozen=True)
class Args:
    """Decode every image of an environment and name those that cannot be read."""

    env: str = "ASG-VisDA-v0"
    """Environment id."""
    env_kwargs: dict[str, int | float | str] = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs data_root /data/visda workers 8"""
    quick: bool = False
    """Only the first 100 images of each split."""


def load_problem(args: Args) -> Problem:
    """The environment's problem.

    Raises:
        SystemExit: the environment cannot be made.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*random weights")
            arguments: dict[str, Any] = dict(args.env_kwargs)
            env = gym.make(args.env, **arguments)
    except (gym.error.Error, TypeError, ValueError, OSError) as error:
        raise SystemExit(f"{args.env} cannot be made: {error}") from error
    problem: Problem = env.unwrapped.problem  # type: ignore[attr-defined]
    return problem


def image_splits(problem: Problem) -> dict[str, ImageSplit]:
    """The splits whose images are files."""
    splits = dict(problem.splits)
    if problem.retention is not None:
        splits["retention"] = problem.retention
    return {name: split for name, split in splits.items() if isinstance(split, ImageSplit)}


def main(args: Args) -> int:
    """Check; the number of unreadable images."""
    problem = load_problem(args)
    limit = QUICK if args.quick else None
    checked = failed = 0
    for name, split in image_splits(problem).items():
        total = len(range(len(split))[:limit])
        for fault in tqdm(split.unreadable(limit), name, total):
            checked += 1
            if fault is not None:
                failed += 1
                tqdm.write(f"{name}: {fault}")
    print(f"{problem.dataset}: {checked - failed} of {checked} image files are readable")
    return failed


if __name__ == "__main__":
    try:
        sys.exit(1 if main(tyro.cli(Args)) else 0)
    except KeyboardInterrupt:
        sys.exit("interrupted")
