"""Decode every image of an environment and name those that cannot be read.

    python experiments/check_images.py --env ASG-VisDA-v0 --env-kwargs data_root /data/visda

Exits with 0 if all are readable, with 1 otherwise, also where there are none. With
`--env-kwargs cache FOLDER` it fills that cache on the way, so that the first run is as fast as
later ones. It writes no other file, and loads no pretrained weights unless `weights` names some.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import os
import warnings
from dataclasses import dataclass, field

from tqdm import tqdm

from asg_env.cli import EnvKwargs, check_env, run
from asg_env.data.image_split import ImageSplit
from asg_env.envs.factories import DATA_ROOT
from asg_env.envs.setup import EnvSetup
from asg_env.tasks.base import Problem

QUICK = 100  # images of each split


@dataclass(frozen=True)
class Args:
    """Decode every image of an environment and name those that cannot be read."""

    env: str = "ASG-VisDA-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs data_root /data/visda workers 8"""
    quick: bool = False
    """Only the first 100 images of each split."""


def load_problem(args: Args) -> Problem:
    """The environment's problem, without pretrained weights; SystemExit if it cannot be made."""
    spared = {"weights": "random"} if reads_files(args) else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*random weights")
        return check_env(EnvSetup(args.env, {**spared, **args.env_kwargs})).problem


def reads_files(args: Args) -> bool:
    """Whether the environment is made of image files; embedded tasks take no ``weights``."""
    by_variable = "VisDA" in args.env and bool(os.environ.get(DATA_ROOT))
    return by_variable or not args.env_kwargs.keys().isdisjoint(("data_root", "source_root"))


def image_splits(problem: Problem) -> dict[str, ImageSplit]:
    """The splits whose images are files."""
    splits = dict(problem.splits)
    if problem.retention is not None:
        splits["retention"] = problem.retention
    return {name: split for name, split in splits.items() if isinstance(split, ImageSplit)}


def main(args: Args) -> int:
    """Check; the number of unreadable images. SystemExit if none of the images is a file."""
    problem = load_problem(args)
    splits = image_splits(problem)
    if not splits:
        raise SystemExit(
            f"{args.env} has no image files ({problem.dataset} is embedded): nothing was checked"
        )
    limit = QUICK if args.quick else None
    checked = failed = 0
    for name, split in splits.items():
        total = len(range(len(split))[:limit])
        for fault in tqdm(split.unreadable(limit), name, total):
            checked += 1
            if fault is not None:
                failed += 1
                tqdm.write(f"{name}: {fault}")
    print(f"{problem.dataset}: {checked - failed} of {checked} image files are readable")
    return failed


if __name__ == "__main__":
    run(lambda args: int(main(args) > 0), Args)
