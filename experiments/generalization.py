"""The paper's generalization table, every row, and early stopping beside them.

    python experiments/generalization.py --task digits --policy runs/reinforce
    python experiments/generalization.py --task visda --policy runs/reinforce    # the stand-in
    python experiments/generalization.py --task visda --data-root /data/visda17
    python experiments/generalization.py --task image_folder --env-kwargs \\
        source_root cartoon target_root photo retention_root cifar10_test \\
        model cifar_resnet20 weights resnet20.th budget 400 window 50

Every row is played to the end of the budget from several seeds; the schedules follow the paper's
warm-up/poly factor over time, as its hand-tuned runs do, but for one that begins at its full
learning rate, as learned policies may. A row's coefficient (lambda, or the strength of a
regulariser) is searched first, by the same number of candidates and runs for each row: what counts
is CE + lambda KL on ``inner_valid``, held-out synthetic images, with the lambda of the
environment's reward. Target labels are only reported. ``--policy`` is ASG's row: a policy that was
trained before, on something else; without it the row is left out.

Writes the search and the runs (JSONL; run it again to resume), the table (Markdown + JSON),
``rules.md`` (which moment of a run is kept), ``why.md`` (what moved) and plots: ``table.png``,
``curves.png`` (accuracy over training).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.cli import (
    EnvKwargs,
    blamed_on,
    check_at_least,
    make_env,
    parse,
    refuse_env_kwargs,
)
from asg_env.envs import FinetuneEnv
from asg_env.evaluation.compare import compare, drawn, play
from asg_env.learning.checkpoint import open_run
from asg_env.policies.base import Policy
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.reports.generalization import write_generalization
from experiments.generalization_rows import (
    ASG,
    ROWS,
    Row,
    candidate_name,
    candidates,
    phi,
    played,
    player,
)
from experiments.tasks import IDS, QUICK, TaskName

SEARCH_SEED = 500_000  # the first seed of the search; those of the table begin at 0
OWN_OPTIONS = {  # arguments of the environment that --env-kwargs may not set
    "action": "the rows set it",
    "guidance": "the rows set it and search it; the reward's lambda is reward_guidance",
    "regularizer": "the rows set it",
    "regularizer_strength": "the rows search it",
    "temperature": "LwF's row is at 2",
    "decide_first": "every row decides about the first window",
    "variant": "--variant chooses it",
}


@dataclass(frozen=True)
class Args:
    """Make the table."""

    task: TaskName = "digits"
    """Which environment."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    data_root: str | None = None
    """The real VisDA-17, unpacked: short for --env-kwargs data_root. None: its stand-in."""
    policy: str | None = None
    """ASG's policy, trained before: a folder of agents/reinforce.py or agents/sb3.py, or a
    published file. None: without that row."""
    variant: str | None = None
    """Variant of the task; None: the task itself."""
    seeds: int = 5
    """Runs of each row; a seed decides the new head and the order of the images."""
    candidates: int = 8
    """Coefficients that are tried for each row that has one."""
    search_seeds: int = 2
    """Runs of each candidate."""
    processes: int = 2
    """Runs at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/generalization_TASK."""
    quick: bool = False
    """A tiny run that touches every row, ASG's with an untrained policy unless there is one."""


MAY_CHANGE = ("processes", "seeds", "search_seeds", "policy", "out")  # the folder stays true


def search(
    args: Args, rows: Sequence[Row], kwargs: dict[str, Any], guidance: float, out: Path
) -> dict[str, float]:
    """The coefficient of each row that has one: the best of its candidates on inner_valid."""
    searched = [row for row in rows if row.coefficient is not None]
    tried: list[Policy] = [
        player(row, args.policy, value, candidate_name(row, value))
        for row in searched
        for value in candidates(row, args.candidates)
    ]
    if not tried:
        return {}
    seeds = [SEARCH_SEED + k for k in range(args.search_seeds)]
    records = compare(
        *(tried, IDS[args.task], kwargs, drawn(args.variant, seeds)),
        *(out / "search.jsonl", args.processes, partial(play, watch="end")),
    )
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.policy, []).append(phi(record, guidance))
    return {row.name: _best(row, args.candidates, scores) for row in searched}


def _best(row: Row, count: int, scores: Mapping[str, Sequence[float]]) -> float:
    means = {value: np.mean(scores[candidate_name(row, value)]) for value in candidates(row, count)}
    best = min(means, key=lambda value: means[value])
    if not np.isfinite(means[best]):
        raise SystemExit(
            f"{row.name}: every candidate diverged in the search; lower the learning rate: "
            "--env-kwargs base_lr VALUE"
        )
    return best


def check_policy(args: Args, env: FinetuneEnv) -> None:
    """SystemExit if ASG's policy is none, or does not fit the environment."""
    with blamed_on("--policy"):
        policy = player(ASG, args.policy, None, "ASG")
        own = make_env(IDS[args.task], {**args.env_kwargs, **policy.env_kwargs}, "--policy")
        policy.begin(env.group_names, own.observation_names, 0)


def untrained(out: Path) -> str:
    """A policy for any number of layer groups that has learned nothing."""
    signals = 5  # of a layer group, in the default observation
    network = RecurrentPolicy(PolicyArgs("layerwise", signals, 1, heads="shared", skip=True))
    return str(save_policy(network, out / "untrained").parent)


def main(args: Args) -> str:
    """Search the coefficients, play every row and write the tables."""
    out = args.out or Path(f"runs/generalization_{args.task}")
    check_at_least(1, args, "seeds", "candidates", "search_seeds", "processes")
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    if args.data_root is not None:
        own = {**args.env_kwargs, "data_root": args.data_root}
        args = dataclasses.replace(args, data_root=None, env_kwargs=own)
    kwargs: dict[str, Any] = {**args.env_kwargs, **(QUICK if args.quick else {})}
    own = {**kwargs, "variant": args.variant}
    env = make_env(IDS[args.task], own, f"--task {args.task}")  # before it writes anything
    if args.policy is not None:
        check_policy(args, env)
    noted = dataclasses.asdict(args)
    open_run(out, {name: value for name, value in noted.items() if name not in MAY_CHANGE})
    if args.quick:
        policy = args.policy or untrained(out)
        args = dataclasses.replace(args, policy=policy, seeds=2, candidates=2, search_seeds=1)
    rows = [row for row in ROWS if row.schedule is not None or args.policy is not None]
    assert env.config.reward_guidance is not None
    kwargs["reward_guidance"] = env.config.reward_guidance  # the same for every row
    chosen = search(args, rows, kwargs, env.config.reward_guidance, out)
    players: list[Policy] = [
        player(row, args.policy, chosen.get(row.name), row.name) for row in played(rows)
    ]
    records = compare(
        *(players, IDS[args.task], kwargs, drawn(args.variant, list(range(args.seeds)))),
        *(out / "records.jsonl", args.processes, partial(play, watch="all")),
    )
    text = write_generalization(records, rows, chosen, env.title, out)
    print(text)
    if args.policy is None:
        print("without ASG's row: it needs --policy, which agents/reinforce.py trains")
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
