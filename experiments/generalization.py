"""The paper's generalization table: large and small learning rates, with and without guidance.

    python experiments/generalization.py --task digits
    python experiments/generalization.py --task visda                        # the stand-in
    python experiments/generalization.py --task visda --env-kwargs data_root /data/visda17
    python experiments/generalization.py --task image_folder --env-kwargs \\
        source_root cartoon target_root photo retention_root cifar10_test \\
        model cifar_resnet20 weights resnet20.th budget 400 window 50

Every row is one schedule, played to the end of the budget from several seeds; the last weights
count. All follow the paper's warm-up/poly factor over time, as its hand-tuned runs do. Writes
records (JSONL; run it again to resume), the table (Markdown + JSON) and a plot.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.baselines import SchedulePolicy
from agents.checkpoint import open_run
from agents.command_line import EnvKwargs, make_env, parse
from agents.evaluate import compare, drawn
from agents.report import by_policy, metric, shown, write_table
from asg_env.records import Record
from asg_env.statistics import mean_ci95

IDS = {
    "digits": "ASG-Digits-v0",
    "visda": "ASG-VisDA-v0",
    "image_folder": "ASG-ImageFolder-v0",
}
METRICS = ("accuracy", "retention")
QUICK = {"budget": 4, "window": 2}  # optimizer steps


class Row(NamedTuple):
    """One row: a schedule with or without guidance.

    ``against``: the row that it is compared with, the same without guidance. ``cited``: the paper's
    VisDA-17 and ImageNet accuracy with ResNet-101, %, (Chen et al., 2020, table 1).
    """

    name: str
    schedule: str
    guided: bool
    against: str | None
    cited: tuple[float, float]


ROWS = (
    Row("large LR", "large_warmup_poly", False, None, (28.2, 0.8)),
    Row("large LR + guidance", "large_warmup_poly", True, "large LR", (58.7, 76.2)),
    Row("small backbone LR", "small_backbone_warmup_poly", False, None, (49.3, 33.1)),
    Row(
        "small backbone LR + guidance",
        "small_backbone_warmup_poly",
        True,
        "small backbone LR",
        (60.2, 76.5),
    ),
    Row("frozen backbone", "frozen_backbone_warmup_poly", False, None, (53.3, 77.4)),
)


@dataclass(frozen=True)
class Args:
    """Make the table."""

    task: Literal["digits", "visda", "image_folder"] = "digits"
    """Which environment."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    variant: str | None = None
    """Variant of the task; None: the task itself."""
    seeds: int = 5
    """Runs of each row; a seed decides the new head and the order of the images."""
    processes: int = 2
    """Runs at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/generalization_TASK."""
    quick: bool = False
    """A tiny run that touches every row."""


def policies() -> list[SchedulePolicy]:
    """The rows as policies; a guided one has the environment's own guidance."""
    return [
        SchedulePolicy(row.schedule, row.name, **({} if row.guided else {"guidance": 0.0}))
        for row in ROWS
    ]


def table_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One entry for each row and metric.

    ``gain``, ``gain_ci95``: of guidance, paired by seed; None in rows without guidance.
    """
    table = by_policy(records)
    entries: list[dict[str, Any]] = []
    for row in ROWS:
        for key in METRICS:
            values = {seed: metric(record, key) for seed, record in table[row.name].items()}
            mean, low, high = mean_ci95(list(values.values()))
            entry = {"name": row.name, "metric": key, "mean": mean, "ci95": [low, high]}
            entry |= {"seeds": len(values), "gain": None, "gain_ci95": None}
            if row.against is not None:
                other = table[row.against]
                gains = [v - metric(other[seed], key) for seed, v in values.items()]
                mean, low, high = mean_ci95(gains)
                entry |= {"gain": mean, "gain_ci95": [low, high]}
            entries.append(entry)
    return entries


def markdown(entries: Sequence[dict[str, Any]], title: str) -> str:
    """The table for people; what the paper says stands in columns of its own."""
    cells = {(e["name"], e["metric"]): e for e in entries}
    lines = [
        "| row | target accuracy, % | retention, % | gain by guidance: accuracy | retention | "
        "cited: VisDA-17, % | ImageNet, % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        own = [cells[row.name, key] for key in METRICS]
        measured = [shown(e["mean"], e["ci95"], e["metric"]) for e in own]
        gains = [
            "" if row.against is None else shown(e["gain"], e["gain_ci95"], e["metric"])
            for e in own
        ]
        lines.append(f"| {' | '.join([row.name, *measured, *gains, *map(str, row.cited)])} |")
    lines.append(
        f"\n{title}. Means over {entries[0]['seeds']} seeds at the end of the budget, 95% "
        "confidence intervals (Student's t), gains paired by seed. Cited: Chen et al. (2020), "
        "ResNet-101."
    )
    return "\n".join(lines)


def plot(entries: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Target accuracy against retention, a point with its intervals for each row."""
    from matplotlib.figure import Figure

    figure = Figure((7, 4.5), 120, layout="constrained")
    axes = figure.add_subplot()
    cells = {(e["name"], e["metric"]): e for e in entries}
    for i, row in enumerate(ROWS):
        y, x = (cells[row.name, key] for key in METRICS)
        style = {"fmt": "o" if row.guided else "s", "color": f"C{i // 2}", "label": row.name}
        style |= {} if row.guided else {"markerfacecolor": "white"}
        axes.errorbar(
            *(100 * x["mean"], 100 * y["mean"], _bars(y), _bars(x)),
            capsize=3,
            **style,  # type: ignore[arg-type]
        )
    axes.set(xlabel="retention, %", ylabel="target accuracy, %", title=title)
    axes.legend(fontsize=8)
    figure.savefig(path)


def _bars(entry: dict[str, Any]) -> list[list[float]]:
    """Lengths of an interval's halves, %."""
    low, high = entry["ci95"]
    return [[100 * (entry["mean"] - low)], [100 * (high - entry["mean"])]]


def main(args: Args) -> str:
    """Play every row and write the table."""
    out = args.out or Path(f"runs/generalization_{args.task}")
    kwargs: dict[str, Any] = {**args.env_kwargs, **(QUICK if args.quick else {})}
    own = {**kwargs, "variant": args.variant}
    title = make_env(IDS[args.task], own, f"--task {args.task}").title  # before it writes anything
    open_run(out, {**dataclasses.asdict(args), "processes": None, "seeds": None})  # both may change
    seeds = list(range(2 if args.quick else args.seeds))
    records = compare(
        *(policies(), IDS[args.task], kwargs, drawn(args.variant, seeds)),
        *(out / "records.jsonl", args.processes),
    )
    entries = table_rows(records)
    text = markdown(entries, title)
    write_table(text, entries, out)
    plot(entries, title, out / "table.png")
    print(text)
    return text


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
