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

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from asg_env.cli import blamed_on, check_env, check_ranges, refuse_env_kwargs, run
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import compare, drawn
from asg_env.evaluation.play import play
from asg_env.evaluation.records import Record
from asg_env.experiment import TaskArgs
from asg_env.learning.run_folder import only_run
from asg_env.policies import load
from asg_env.policies.base import Policy
from asg_env.policies.digest import digest
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.policies.schedules import SchedulePolicy
from asg_env.ranges import whole
from asg_env.reports.generalization import write_generalization
from asg_env.reports.generalization_rows import (
    ASG,
    ROWS,
    Row,
    candidate_name,
    candidates,
    played,
)

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
class Args(TaskArgs):
    """Make the table."""

    data_root: str | None = None
    """The real VisDA-17, unpacked: short for --env-kwargs data_root. None: its stand-in."""
    policy: str | None = None
    """ASG's policy, trained before: a folder of agents/reinforce.py or agents/sb3.py, or a
    published file. None: without that row."""
    trust: tuple[str, ...] = ()
    """Modules that the policy's files may name as their loader."""
    variant: str | None = None
    """Variant of the task; None: the task itself."""
    seeds: Annotated[int, whole(1)] = 5
    """Runs of each row; a seed decides the new head and the order of the images."""
    candidates: Annotated[int, whole(1)] = 8
    """Coefficients that are tried for each row that has one."""
    search_seeds: Annotated[int, whole(1)] = 2
    """Runs of each candidate."""
    processes: Annotated[int, whole(1, 1024)] = 2
    """Runs at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/generalization_TASK."""
    quick: bool = False
    """A tiny run that touches every row, ASG's with an untrained policy unless there is one."""
    may_change = ("processes", "seeds", "search_seeds", "policy", "trust", "out")


class Player:
    """A row as a policy.

    Args:
        row: which.
        inner: who sets the learning rates.
        name: of the policy in the records.
        kwargs: more arguments of the environment: the coefficient.
    """

    def __init__(self, row: Row, inner: Policy, name: str, kwargs: dict[str, Any]) -> None:
        self.name, self.inner = name, inner
        self.env_kwargs = {**inner.env_kwargs, **row.kwargs, **kwargs}
        self.digest = digest({"row": row.name, "policy": inner.digest})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Get the inner policy ready for an episode."""
        self.inner.begin(group_names, observation_names, seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) of the inner policy for an observation (D,)."""
        return self.inner.act(observation)


def player(row: Row, learned: Policy | None, coefficient: float | None, name: str) -> Player:
    """A row with a coefficient; None: the environment's own. ``learned``: of rows without a
    schedule."""
    inner = learned if row.schedule is None else SchedulePolicy(row.schedule)
    if inner is None:
        raise ValueError(f"row {row.name!r} is of a learned policy, and there is none")
    if row.coefficient is None or coefficient is None:
        return Player(row, inner, name, {})
    return Player(row, inner, name, {row.coefficient: coefficient})


def phi(record: Record, guidance: float) -> float:
    """CE + lambda * KL on inner_valid at the end of a run; infinite if it diverged."""
    losses = record.evaluations[-1]["inner_valid"]
    value = losses["ce"] + guidance * losses["kl"]
    return value if record.error_type is None and np.isfinite(value) else float("inf")


def search(
    args: Args, rows: Sequence[Row], learned: Policy | None, setup: EnvSetup, out: Path
) -> dict[str, float]:
    """The coefficient of each row that has one: the best of its candidates on inner_valid."""
    searched = [row for row in rows if row.coefficient is not None]
    tried: list[Policy] = [
        player(row, learned, value, candidate_name(row, value))
        for row in searched
        for value in candidates(row, args.candidates)
    ]
    if not tried:
        return {}
    episodes = drawn(args.variant, [SEARCH_SEED + k for k in range(args.search_seeds)])
    watching = partial(play, watch="end")
    records = compare(tried, setup, episodes, out / "search.jsonl", args.processes, watching)
    scores: dict[str, list[float]] = {}
    for record in records:
        scores.setdefault(record.policy, []).append(phi(record, setup.kwargs["reward_guidance"]))
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


def load_fitting(args: Args, setup: EnvSetup) -> Policy:
    """ASG's policy; SystemExit if it is none, or does not fit the environment."""
    with blamed_on("--policy"):
        policy = load(str(args.policy), trust=args.trust)
        env = check_env(setup.updated(**{**policy.env_kwargs, **ASG.kwargs}), "--policy")
        policy.begin(env.group_names, env.observation_names, 0)
    return policy


def untrained(out: Path) -> Policy:
    """A policy for any number of layer groups that has learned nothing."""
    signals = 5  # of a layer group, in the default observation
    network = RecurrentPolicy(PolicyArgs("layerwise", signals, 1, heads="shared", skip=True))
    return load(str(save_policy(network, out / "untrained").parent))


def main(args: Args) -> str:
    """Search the coefficients, play every row and write the tables."""
    out = args.out or args.folder("generalization")
    check_ranges(args)
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    if args.data_root is not None:
        own = {**args.env_kwargs, "data_root": args.data_root}
        args = dataclasses.replace(args, data_root=None, env_kwargs=own)
    setup = args.setup()
    env = args.make(setup.updated(variant=args.variant))  # before it writes anything
    learned = None if args.policy is None else load_fitting(args, setup)
    with only_run(out, args.noted()):
        if args.quick:
            learned = learned or untrained(out)
            args = dataclasses.replace(args, seeds=2, candidates=2, search_seeds=1)
        rows = [row for row in ROWS if row.schedule is not None or learned is not None]
        setup = setup.updated(reward_guidance=env.config.reward_guidance)  # the same for every row
        chosen = search(args, rows, learned, setup, out)
        records = play_rows(args, rows, learned, chosen, setup, out)
        text = write_generalization(records, rows, chosen, env.title, out)
        print(text)
        if learned is None:
            print("without ASG's row: it needs --policy, which agents/reinforce.py trains")
        return text


def play_rows(
    args: Args,
    rows: Sequence[Row],
    learned: Policy | None,
    chosen: Mapping[str, float],
    setup: EnvSetup,
    out: Path,
) -> list[Record]:
    """Every row that has runs of its own, with its coefficient, from every seed."""
    players = [player(row, learned, chosen.get(row.name), row.name) for row in played(rows)]
    episodes = drawn(args.variant, list(range(args.seeds)))
    watching = partial(play, watch="all")
    return compare(players, setup, episodes, out / "records.jsonl", args.processes, watching)


if __name__ == "__main__":
    run(main, Args)
