"""One full fine-tuning run with a schedule or a learned policy: asg_env on your own data.

    python experiments/finetune.py                                   # a schedule, on the digits
    python experiments/finetune.py --policy runs/reinforce --epochs 5 --out runs/mine
    python experiments/finetune.py --preset paper --env-kwargs data_root DATA    # the paper's VisDA

Interrupt it whenever you like (Ctrl-C, or a kill): the same command continues from the last
snapshot, and ends with the same bits. ``--out`` then holds:

``student.safetensors``: the fine-tuned network that ``--select`` chose, to use like this::

    from asg_env.deploy import load_student

    model = load_student("runs/finetune/student.safetensors")  # a plain nn.Module, in eval mode
    name = model.classes[model(model.preprocess(PIL.Image.open("photo.jpg"))).argmax()]

``summary.md``, ``summary.json``: what each rule would have kept;
``run.png``: accuracies and learning rates over time; ``metrics.jsonl``: a line for each decision,
with an evaluation where an epoch has ended; ``tensorboard``: the same as curves; ``record.json``:
the run, for experiments/replay.py; ``snapshot.safetensors``, ``args.json``: to continue.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from asg_env.cli import EnvKwargs, blamed_on, check_env, parse_preset, run
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.run import DamagedRun, Run
from asg_env.evaluation.selection import SELECTIONS
from asg_env.learning.run_folder import only_run
from asg_env.policies import load
from asg_env.policies.base import Policy
from asg_env.ranges import SEED, Range, whole
from asg_env.reports.comparison import ORACLE_NOTE, write_run_report


@dataclass(frozen=True)
class Args:
    """Fine-tune once, with a schedule or a learned policy. The same command resumes."""

    preset: Literal["default", "paper"] = "default"
    """Where the other defaults come from: ours, or the paper's run on VisDA-17."""
    env: str = "ASG-Digits-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 channels_last true"""
    policy: str = "small_backbone_cosine"
    """A schedule by name, or the folder or a file of a policy."""
    trust: tuple[str, ...] = ()
    """Modules that a policy's file may name as its loader."""
    actions: Literal["own", "greedy", "sampled"] = "own"
    """Whether a learned policy samples its actions. "own": as it was made for (paper: sampled)."""
    epochs: Annotated[float | None, Range(above=0, at_most=1e6)] = None
    """Length of the run in epochs; None: the environment's own budget."""
    seed: Annotated[int, SEED] = 0
    """Seed of the new head, the batch order and the policy."""
    select: str = "last"
    """Which weights are kept: "last", "inner_valid", "oracle" (it reads target labels), another
    rule of SELECTIONS, or "module:attribute"."""
    save_every: Annotated[int, whole(0)] = 0
    """Decisions between snapshots; 0: only where an epoch has ended."""
    out: Path = Path("runs/finetune")
    """Folder for everything it writes."""
    quick: bool = False
    """A tiny run, to see that all works: 20 optimizer steps."""


PRESETS = {
    "default": Args(),
    "paper": Args(
        preset="paper",
        env="ASG-VisDA-v0",
        env_kwargs={
            **{"window": "paper", "optimizer": "official_sgd", "batch_size": 32},
            **{"base_lr": 1e-4, "guidance": 0.1},
        },
        policy="small_backbone_warmup_poly",
        epochs=30,
        out=Path("runs/finetune_paper"),
    ),
}
GREEDY = {"own": None, "greedy": True, "sampled": False}
QUICK = {"budget": 20, "window": 5}


def env_setup(args: Args, policy: Policy) -> EnvSetup:
    """The environment with all arguments; SystemExit if two sources disagree."""
    for name, value in policy.env_kwargs.items():
        if args.env_kwargs.get(name, value) != value:
            raise SystemExit(
                f"--env-kwargs {name} {args.env_kwargs[name]}: the policy {policy.name!r} needs "
                f"{value!r}; leave it out"
            )
    setup = EnvSetup(args.env, args.env_kwargs).updated(**policy.env_kwargs)
    if args.quick:
        return setup.updated(**QUICK)
    return setup if args.epochs is None else setup.updated(budget=_budget(args, setup))


def _budget(args: Args, setup: EnvSetup) -> int:
    """``args.epochs`` in optimizer steps."""
    if "budget" in setup.kwargs:
        raise SystemExit(
            "--epochs and --env-kwargs budget both say how long to train: leave one out "
            "(--epochs None leaves it to budget)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the environment of the run warns again
        length = check_env(setup.updated(budget=1, window=1)).epoch_length
    steps = (args.epochs or 0) * length
    if not (math.isfinite(steps) and round(steps) >= 1):
        raise SystemExit(f"--epochs {args.epochs}: expected one step at least, that is 1/{length}")
    return round(steps)


def prepare(args: Args) -> Run:
    """The run that the arguments ask for; SystemExit, before anything is written, if one is bad."""
    with blamed_on("arguments"):
        SELECTIONS.find(args.select)
        for option, value in (("--seed", args.seed), ("--save-every", args.save_every)):
            if value < 0:
                raise ValueError(f"{option} {value}: expected a whole number >= 0")
    with blamed_on("--policy"):
        policy = load(args.policy, GREEDY[args.actions], args.trust)
    setup = env_setup(args, policy)
    env = check_env(setup)
    with blamed_on("--policy"):
        policy.begin(env.group_names, env.observation_names, args.seed)
    return Run(args.out, setup, env, policy, args.seed, args.select, args.save_every)


def main(args: Args) -> None:
    """Fine-tune, or go on with it, and report."""
    tuning = prepare(args)
    noted = dataclasses.asdict(args)
    del noted["trust"]  # it changes no result
    with only_run(args.out, noted):
        if tuning.selection.oracle:
            print(f"warning: --select {args.select}: {ORACLE_NOTE}", file=sys.stderr)
        try:
            record = tuning.train()
            print(
                write_run_report(
                    record, tuning.evaluations, args.select, tuning.env.title, args.out
                )
            )
        except DamagedRun as error:
            raise SystemExit(f"{error}; choose another --out, or delete {args.out}") from error
        except OSError as error:
            raise SystemExit(f"--out {args.out}: {error}; the same command resumes") from error
        if record.error_type is not None:
            print(f"it {record.error_type} at step {record.steps[-1]}: a lower base_lr may help")
        print(f"everything is in {args.out}")


def parse(argv: Sequence[str]) -> Args:
    """Arguments of the command line; ``--preset`` chooses the defaults."""
    return parse_preset(PRESETS, argv)


if __name__ == "__main__":
    run(main, parse)
