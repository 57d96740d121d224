"""Tables and plots: pure functions of records and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.control.actions import ACTIONS, LOWEST
from asg_env.envs.rendering import draw_scales
from asg_env.evaluation.records import Record
from asg_env.evaluation.selection import SELECTIONS, Evaluation
from asg_env.policies.schedules import SCHEDULES
from asg_env.reports.statistics import mean_ci95, no_interval
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.reports.trainings import read_metrics
from asg_env.writing import save_figure, write_atomic

METRICS = ("return", "accuracy", "retention")
ON_TARGET = METRICS[1:]


def metric(record: Record, name: str) -> float:
    """``return``, or an entry of the final evaluation; NaN if it was not measured."""
    if name == "return":
        return record.episode_return
    return record.final.get(name, float("nan"))


def by_policy(records: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """Records by policy and seed, in order of appearance."""
    table: dict[str, dict[int, Record]] = {}
    for record in records:
        table.setdefault(record.policy, {})[record.reset_seed] = record
    return table


def comparison_rows(records: Sequence[Record], reference: str) -> list[dict[str, Any]]:
    """One row for each policy and metric.

    ``difference`` and ``difference_ci95`` are of ``reference`` less the row's policy, paired by
    seed; they are None in the reference's own rows.
    """
    table = by_policy(records)
    if reference not in table:
        raise ValueError(f"no record of {reference!r}; there are: {', '.join(table)}")
    rows: list[dict[str, Any]] = []
    for name, episodes in table.items():
        for key in METRICS:
            values = [metric(r, key) for r in episodes.values()]
            row = {"name": name, "metric": key, "seeds": len(values), **mean_ci95(values).entry()}
            other = None if name == reference else table[reference]
            rows.append(row | _difference(other, episodes, key))
    return rows


def _difference(
    other: dict[int, Record] | None, own: dict[int, Record], key: str
) -> dict[str, Any]:
    """Of another policy less this one, paired by seed."""
    if other is None:
        return no_interval("difference")
    gaps = [metric(other[s], key) - metric(own[s], key) for s in own if s in other]
    return mean_ci95(gaps).entry("difference")


def about(records: Sequence[Record]) -> str:
    """The data sets and the variants of records, for people."""
    datasets = ", ".join(dict.fromkeys(r.dataset or "data set not noted" for r in records))
    variants = dict.fromkeys(r.kwargs.get("variant") for r in records)
    named = ", ".join(f"variant {name!r}" for name in variants if name is not None)
    return f"{datasets}; {named}" if named else datasets


def best_first(rows: Sequence[Entry]) -> list[tuple[Any, ...]]:
    """The names of the rows, highest returns first."""
    returns = {(row["name"],): row["mean"] for row in rows if row["metric"] == "return"}
    return sorted(returns, key=lambda name: -returns[name])


def metric_columns() -> list[Column]:
    """A column for each of METRICS."""
    percent: dict[str, Any] = {"unit": "%", "digits": 1}
    return [
        Column("return", {"metric": "return"}),
        Column("target accuracy, %", {"metric": "accuracy"}, **percent),
        Column("retention, %", {"metric": "retention"}, **percent),
    ]


def comparison_table(rows: Sequence[Entry], reference: str, title: str) -> Table:
    """Mean and 95% CI; best returns first. ``title`` says of which data."""
    less = Column(f"{reference}'s return less this one's", {"metric": "return"}, "difference")
    note = (
        f"{title}. Means over {min(row['seeds'] for row in rows)} fresh seeds, 95% confidence "
        "intervals (Student's t); differences are paired by seed. The baselines are untuned."
    )
    return Table(rows, [named("policy"), *metric_columns(), less], best_first(rows), note=note)


def write_report(records: Sequence[Record], out: Path, reference: str) -> str:
    """Write table.md, table.json and the plots into ``out``; return the Markdown."""
    rows = comparison_rows(records, reference)
    text = comparison_table(rows, reference, about(records)).write(out)
    plot_lr(by_policy(records)[reference], out / "lr_over_time.png")
    if (out / "metrics.jsonl").exists():
        metrics = read_metrics(out / "metrics.jsonl", "return")
        plot_learning(metrics, records, out / "learning_curve.png")
    return text


def plot_learning(metrics: Sequence[dict[str, Any]], records: Sequence[Record], path: Path) -> None:
    """Return of the sampled training episodes over updates, and the fixed schedules' returns."""
    from matplotlib.figure import Figure

    figure = Figure((8, 4.5), 120, layout="constrained")
    axes = figure.add_subplot()
    updates = np.array([m["update"] for m in metrics])
    returns = np.array([m["return"] for m in metrics], dtype=float)
    width = max(1, len(returns) // 20)
    axes.plot(updates, returns, ".", alpha=0.3, color="C0", label="an update's mean, sampled")
    smooth = np.convolve(returns, np.ones(width) / width, "valid")
    axes.plot(updates[width - 1 :], smooth, color="C0", label=f"mean of {width} updates")
    for i, (name, episodes) in enumerate(by_policy(records).items()):
        if name in SCHEDULES:
            level = float(np.mean([r.episode_return for r in episodes.values()]))
            axes.axhline(level, linestyle="--", linewidth=1, color=f"C{i % 10}", label=name)
    axes.set(
        xlabel="policy update",
        ylabel="return",
        title="Meta-training\n(dashed: the schedules, in the comparison)",
    )
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def highest_scale(records: Sequence[Record]) -> float:
    """The largest LR scale that the records' actions could set, or did."""
    kinds = {str(r.kwargs.get("action")) for r in records}
    known = [ACTIONS[kind].highest for kind in kinds if kind in ACTIONS]
    return max([1.0, *known, *(np.max(r.lr_scales) for r in records if r.lr_scales)])


def middle_of(scales: np.ndarray, highest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean - std, mean and mean + std over the rows; of the logarithms where scales reach above
    1."""
    values = scales if highest <= 1 else np.log10(np.maximum(scales, LOWEST))
    mean, std = values.mean(0), values.std(0)
    low, middle, high = mean - std, mean, mean + std
    return (low, middle, high) if highest <= 1 else (10.0**low, 10.0**middle, 10.0**high)


def show_scales(axes: Any, highest: float) -> None:
    """Set the y axis for LR scales up to ``highest``: logarithmic above 1."""
    if highest > 1:
        axes.set_yscale("log")
        axes.set_ylim(LOWEST / 2, 2 * highest)
    else:
        axes.set_ylim(-0.02, 1.02)


def plot_lr(episodes: dict[int, Record], path: Path) -> None:
    """LR scale of each layer group over optimizer steps: mean and spread over episodes."""
    from matplotlib.figure import Figure

    whole = [r for r in episodes.values() if r.error_type is None]
    if not whole:
        return
    table = np.array([r.lr_scales for r in whole])  # (episodes, decisions, groups)
    names = whole[0].groups
    edges, highest = np.array(whole[0].steps), highest_scale(whole)
    columns = 3
    figure = Figure((9, 1.2 + 2 * -(-len(names) // columns)), 120, layout="constrained")
    grid = figure.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True)
    for g, axes in enumerate(np.atleast_2d(grid).flat):
        if g >= len(names):
            axes.set_axis_off()
            continue
        low, mean, high = middle_of(table[..., g], highest)
        axes.stairs(mean, edges, linewidth=2, baseline=None)
        axes.stairs(high, edges, baseline=low, fill=True, alpha=0.25)
        show_scales(axes, highest)
        axes.set(title=names[g], xlabel="optimizer step", ylabel="LR / base LR")
        axes.label_outer()
    figure.suptitle(f"{whole[0].policy}: mean and std over {len(whole)} episodes")
    save_figure(figure, path)


# -- one fine-tuning run ---------------------------------------------------------------------------

ORACLE_NOTE = "oracle: chosen by the labels of the real target, a bound and not a result"
SHOWN = (  # metric, split and key in an evaluation, column title
    ("accuracy", "test", "accuracy", "target accuracy, %"),
    ("retention", "test", "retention", "retention, %"),
    ("inner_valid_accuracy", "inner_valid", "accuracy", "inner_valid accuracy, %"),
)


def selection_rows(evaluations: Sequence[Evaluation], selected: str) -> list[dict[str, Any]]:
    """One row for each rule and metric; ``selected`` is the rule in use, of SELECTIONS or not."""
    rows = []
    for name, rule in {**SELECTIONS, selected: SELECTIONS.find(selected)}.items():
        chosen = evaluations[rule.choose(evaluations)]
        about = {"epoch": chosen.epoch, "steps": chosen.steps, "selected": name == selected}
        for metric_name, split, key, _ in SHOWN:
            value = getattr(chosen, split).get(key, float("nan"))
            row = {"name": name, "metric": metric_name, "mean": value, "ci95": None, "seeds": 1}
            rows.append({**row, **about, "oracle": rule.oracle})
    return rows


def selection_table(rows: Sequence[Entry], heading: str = "") -> Table:
    """A line for each rule."""
    columns = [
        Column("rule", text=lambda row: row["name"] + (" (saved)" if row["selected"] else "")),
        Column("epoch", text=lambda row: f"{row['epoch']:.2f}"),
        Column("step", text=lambda row: str(row["steps"])),
        *(
            Column(title, {"metric": name}, unit="%", digits=1, ends="never")
            for name, _, _, title in SHOWN
        ),
    ]
    return Table(rows, columns, heading=heading, note=f"One run, so no spread. {ORACLE_NOTE}.")


def write_run_report(
    record: Record, evaluations: Sequence[Evaluation], selected: str, title: str, out: Path
) -> str:
    """Write record.json, summary.md, summary.json and run.png into ``out``; return the Markdown."""
    rows = selection_rows(evaluations, selected)
    about = {
        "title": title,
        "policy": record.policy,
        "env": record.env_id,
        "seed": record.reset_seed,
        "return": record.episode_return,
        "error_type": record.error_type,
    }
    table = selection_table(rows, f"{title}; {record.policy}")
    table.head = about
    write_atomic(out / "record.json", (record.to_json() + "\n").encode())
    text = table.write(out, "summary")
    plot_run(record, evaluations, selected, out / "run.png")
    return text


def plot_run(record: Record, evaluations: Sequence[Evaluation], selected: str, path: Path) -> None:
    """Accuracies and the LR scale of each layer group over the optimizer steps of one run."""
    from matplotlib.figure import Figure

    figure = Figure((8, 6), 120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    mesh = draw_scales(
        lower, record.groups, np.array(record.steps), record.lr_scales, highest_scale([record])
    )
    lower.set(xlabel="optimizer step", ylabel="layer group", xlim=(0, record.steps[-1]))
    figure.colorbar(mesh, ax=lower, label="LR / base LR", pad=0.01)
    _draw_evaluations(upper, evaluations, selected)
    ending = f" ({record.error_type})" if record.error_type else ""
    figure.suptitle(f"{record.env_id}, {record.policy}, seed {record.reset_seed}{ending}")
    save_figure(figure, path)


def _draw_evaluations(axes: Any, evaluations: Sequence[Evaluation], selected: str) -> None:
    steps = [e.steps for e in evaluations]
    for _, split, key, title in SHOWN:
        values = [100 * getattr(e, split).get(key, float("nan")) for e in evaluations]
        if not np.isnan(values).all():
            label = title.removesuffix(", %")
            axes.plot(steps, values, marker=".", label=label, clip_on=False)
    chosen = evaluations[SELECTIONS.find(selected).choose(evaluations)]
    place = [chosen.steps], [100 * chosen.test["accuracy"]]
    look = {"marker": "*", "markersize": 14, "color": "black", "linestyle": "", "clip_on": False}
    axes.plot(*place, label=f"saved ({selected})", **look)
    axes.set(ylabel="%", ylim=(0, 102))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncol=4, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
