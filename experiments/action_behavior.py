"""What a policy learned: the LR scale of each layer group over a fine-tuning run (paper, figure 5).

    python experiments/action_behavior.py --records runs/benchmark_digits/records.jsonl
    python experiments/action_behavior.py --records runs/reinforce/records.jsonl --agents reinforce

Reads records that a comparison wrote; trains nothing. The figure has a panel for each agent: mean
and standard deviation over its training seeds and episodes. The table says in numbers whether the
backbone learns more slowly than the head, whether its learning rate falls during the run, and
whether it is smaller where the proxy KL, which the agent had just observed, is. In an episode both
may only follow the time; so it also says what of that is left between episodes, at the same
decision: what a schedule could not do. Writes both, and the table as JSON.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.cli import run
from asg_env.evaluation.records import Record, read_records
from asg_env.learning.run_folder import only_run
from asg_env.reports.comparison import highest_scale, middle_of, show_scales
from asg_env.reports.statistics import Interval, mean_ci95
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.writing import save_figure

QUESTIONS = {
    "backbone less head": "backbone's mean scale less the head's",
    "last less first": "backbone's scale: last decision less the first",
    "with KL": "backbone's scale with the KL just observed (Spearman)",
    "with KL at a time": "the same, between episodes, at the same decision",
}


@dataclass(frozen=True)
class Args:
    """Show how agents set the learning rates."""

    records: Path = Path("runs/reinforce/records.jsonl")
    """Records of a comparison."""
    agents: tuple[str, ...] = ()
    """Which agents, by name without the training seed; none: all."""
    out: Path = Path("runs/action_behavior")
    """Folder for everything it writes."""
    quick: bool = False
    """Only the first four records of each agent."""


def by_agent(records: Sequence[Record], args: Args) -> dict[str, list[Record]]:
    """Records of whole episodes by agent; the training seeds of an agent together."""
    found: dict[str, list[Record]] = {}
    for record in records:
        agent = record.identity.agent
        if record.error_type is None and (not args.agents or agent in args.agents):
            found.setdefault(agent, []).append(record)
    missing = [name for name in args.agents if name not in found]
    if missing or not found:
        known = ", ".join(dict.fromkeys(r.identity.agent for r in records))
        raise SystemExit(
            f"--agents: no record of {', '.join(missing) or 'any'}; there are: {known}"
        )
    return {name: rows[:4] for name, rows in found.items()} if args.quick else found


def answers(record: Record) -> dict[str, float]:
    """The numbers of all QUESTIONS but the last for one episode; the last group is the head."""
    from scipy.stats import spearmanr

    scales = np.array(record.lr_scales)
    backbone, head = scales[:, :-1].mean(1), scales[:, -1]
    observed = np.array([loss["train_kl"] for loss in record.losses[:-1]])
    moving = len(backbone) > 2 and np.ptp(backbone) > 0 and np.ptp(observed) > 0
    return {
        "backbone less head": float(backbone.mean() - head.mean()),
        "last less first": float(backbone[-1] - backbone[0]),
        "with KL": float(spearmanr(backbone, observed).statistic) if moving else float("nan"),
    }


def at_a_time(records: Sequence[Record]) -> float:
    """Correlation of the backbone's scale with the KL just observed over the episodes of a policy.

    Both are ranked among the episodes at the same decision, so that time has no part in it; NaN if
    one of them never differs.
    """
    from scipy.stats import rankdata

    longest = max(len(record.lr_scales) for record in records)
    whole = [record for record in records if len(record.lr_scales) == longest]
    scales = np.array([np.array(r.lr_scales)[:, :-1].mean(1) for r in whole])
    observed = np.array([[loss["train_kl"] for loss in r.losses[:-1]] for r in whole])
    x, y = (rankdata(v, axis=0) for v in (np.round(scales, 6), observed))
    x, y = x - x.mean(0), y - y.mean(0)
    size = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / size) if size > 0 else float("nan")


def seed_means(records: Sequence[Record]) -> dict[str, list[float]]:
    """The answers, averaged over the episodes of each training seed (of each episode if one)."""
    groups: dict[str, list[dict[str, float]]] = {}
    seeds = {record.policy for record in records}
    for record in records:
        key = record.policy if len(seeds) > 1 else f"{record.policy} {record.reset_seed}"
        groups.setdefault(key, []).append(answers(record))
    table: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    for rows in groups.values():
        for name in rows[0]:
            known = [row[name] for row in rows if not np.isnan(row[name])]
            table[name].extend([float(np.mean(known))] if known else [])
    pooled = [at_a_time([r for r in records if r.policy == seed]) for seed in sorted(seeds)]
    table["with KL at a time"] = [value for value in pooled if not np.isnan(value)]
    return table


def table_rows(agents: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """One entry for each agent and question."""
    rows = []
    for name, records in agents.items():
        for question, values in seed_means(records).items():
            mean = mean_ci95(values) if values else Interval(np.nan, np.nan, np.nan)
            row = {"name": name, "metric": question, **mean.entry()}
            rows.append({**row, "seeds": len(values), "episodes": len(records)})
    return rows


def behavior_table(rows: Sequence[Entry], title: str) -> Table:
    """A column for each question."""
    columns = [
        Column(words, {"metric": question}, digits=2, ends="finite", signed=True)
        for question, words in QUESTIONS.items()
    ]
    note = (
        f"{title}. Scales are shares of the base learning rate. Means with 95% intervals "
        "(Student's t) over training seeds, or over episodes where there is one training."
    )
    return Table(rows, [named("agent"), *columns], note=note)


def plot(agents: dict[str, list[Record]], title: str, path: Path) -> None:
    """A panel for each agent: every group's scale over the optimizer steps."""
    from matplotlib.figure import Figure

    columns = min(3, len(agents))
    lines = -(-len(agents) // columns)
    figure = Figure((4.2 * columns + 1.4, 2.9 * lines + 0.6), 110, layout="constrained")
    grid = iter(np.atleast_1d(figure.subplots(lines, columns, sharey=True)).flat)
    for (name, records), axes in zip(agents.items(), grid, strict=False):  # in this order
        groups = records[0].groups
        same = [r for r in records if len(r.lr_scales) == len(records[0].lr_scales)]
        table, edges = np.array([r.lr_scales for r in same]), np.array(same[0].steps)
        highest = highest_scale(same)
        for g, group in enumerate(groups):
            shade = 0.15 + 0.75 * g / max(1, len(groups) - 1)
            colour = "C3" if g == len(groups) - 1 else (0.1, shade * 0.8, 1 - shade / 2)
            low, mean, high = middle_of(table[..., g], highest)
            axes.stairs(mean, edges, baseline=None, color=colour, linewidth=1.8, label=group)
            axes.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.12)
        axes.set(title=name, xlabel="optimizer step")
        show_scales(axes, highest)
        axes.grid(alpha=0.3)
    for axes in grid:
        axes.set_axis_off()
    figure.axes[0].legend(fontsize=7)
    figure.supylabel("LR / base LR")
    figure.suptitle(f"{title}: mean and std over training seeds and episodes")
    save_figure(figure, path)


def main(args: Args) -> str:
    """Read, count, draw."""
    if not args.records.is_file():
        raise SystemExit(f"--records {args.records}: no such file; a comparison writes it")
    records = list(read_records(args.records))
    if any(not record.losses for record in records):
        raise SystemExit(f"--records {args.records}: an older version wrote it, without losses")
    agents = by_agent(records, args)
    for name, own in agents.items():
        observed = all("train_kl" in loss for record in own for loss in record.losses)
        if not observed or any(record.groups != own[0].groups for record in own):
            raise SystemExit(
                f"--records {args.records}: the records of {name} are of different layer groups, "
                "or lack the loss train_kl"
            )
    first = next(iter(agents.values()))[0]
    title = f"{first.env_id}, {first.dataset}"
    with only_run(args.out):
        text = behavior_table(table_rows(agents), title).write(args.out)
        plot(agents, title, args.out / "actions.png")
    print(text)
    return text


if __name__ == "__main__":
    run(main, Args)
