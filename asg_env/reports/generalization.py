"""Tables and plots of experiments/generalization.py: pure functions of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from asg_env.evaluation.records import Record
from asg_env.evaluation.selection import SELECTIONS, Evaluation
from asg_env.reports.comparison import ON_TARGET, by_policy
from asg_env.reports.generalization_rows import Row, candidates, played
from asg_env.reports.statistics import mean_ci95, no_interval
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.writing import save_figure

Runs = Mapping[str, Mapping[int, Record]]
"""Records by row and seed."""


def evaluations(record: Record, budget: int) -> list[Evaluation]:
    """What the rules choose from. Epochs are not noted in records, and no rule asks for them."""
    return [
        Evaluation(e["steps"], float("nan"), e["steps"] / budget, e["inner_valid"], e["test"])
        for e in record.evaluations
    ]


def budget_of(runs: Runs) -> int:
    """Optimizer steps of the longest run; a shorter one diverged."""
    return max(record.steps[-1] for own in runs.values() for record in own.values())


def kept(record: Record, budget: int, rule: str, metric: str) -> float:
    """A metric on the target at the moment that a rule keeps; NaN if it was not measured."""
    rows = evaluations(record, budget)
    return rows[SELECTIONS[rule].choose(rows)].test.get(metric, float("nan"))


def values_of(runs: Runs, row: Row, metric: str, rule: str | None = None) -> dict[int, float]:
    """A row's metric by seed."""
    budget, records = budget_of(runs), runs[row.of or row.name]
    return {
        seed: kept(record, budget, rule or row.rule, metric) for seed, record in records.items()
    }


def table_rows(
    records: Sequence[Record], rows: Sequence[Row], chosen: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One entry for each row and metric.

    ``gain``, ``gain_ci95``: over the row's ``against``, paired by seed; None where it has none.
    ``coefficient``: the one that the search chose; ``edge``: its lowest or highest candidate.
    ``diverged``: runs that ended early; they count with what was left of the network.
    """
    runs, by_name = by_policy(records), {row.name: row for row in rows}
    entries: list[dict[str, Any]] = []
    for row in rows:
        for place, metric in enumerate(ON_TARGET):
            values = values_of(runs, row, metric)
            entry: dict[str, Any] = {"name": row.name, "metric": metric}
            entry |= mean_ci95(list(values.values())).entry()
            entry |= {"seeds": len(values), "coefficient": chosen.get(row.name)}
            entry["edge"] = entry["coefficient"] in candidates(row, 2)
            own = runs[row.of or row.name].values()
            entry["diverged"] = sum(record.error_type is not None for record in own)
            entry |= {"against": row.against, **no_interval("gain")}
            if row.against is not None:
                other = values_of(runs, by_name[row.against], metric)
                gains = [value - other[seed] for seed, value in values.items()]
                entry |= mean_ci95(gains).entry("gain")
            entry["cited"] = None if row.cited is None else row.cited[place]
            entries.append(entry)
    return entries


def generalization_table(entries: Sequence[Entry], title: str) -> Table:
    """What the paper says stands in columns of its own."""
    percent: dict[str, Any] = {"unit": "%", "digits": 1}
    gain: dict[str, Any] = {"key": "gain", "unit": "points", "digits": 1}
    accuracy, retention = ({"metric": metric} for metric in ON_TARGET)
    columns = [
        named("row"),
        Column("coefficient", text=_coefficient),
        Column("target accuracy, %", accuracy, **percent),
        Column("retention, %", retention, **percent),
        Column("accuracy gained, points", accuracy, **gain),
        Column("retention gained", retention, **gain),
        Column("over", text=lambda entry: entry["against"] or ""),
        Column("cited: VisDA-17, %", accuracy, text=_cited),
        Column("ImageNet, %", retention, text=_cited),
    ]
    note = (
        f"{title}. Means over {entries[0]['seeds']} seeds at the end of the budget (early "
        "stopping: where it stops), 95% confidence intervals (Student's t), gains paired by seed; "
        f"{_diverged(entries)}. Coefficients were searched; edge: the lowest or highest candidate. "
        f"Rank correlation of the rows' means with the paper's: {agreement(entries)}. Cited: Chen "
        "et al. (2020), ResNet-101."
    )
    return Table(entries, columns, note=note)


def _coefficient(entry: Entry) -> str:
    if entry["coefficient"] is None:
        return ""
    return f"{entry['coefficient']:g}" + (" (edge)" if entry["edge"] else "")


def _cited(entry: Entry) -> str:
    return "-" if entry["cited"] is None else str(entry["cited"])


def _diverged(entries: Sequence[Entry]) -> str:
    """Which runs diverged, in words."""
    found = {e["name"]: e for e in entries if e["diverged"]}
    listed = ", ".join(f"{e['diverged']} of {e['seeds']} ({name})" for name, e in found.items())
    return f"diverged: {listed or 'none'}"


def agreement(entries: Sequence[Entry]) -> str:
    """Spearman's correlation of the rows with the paper's, for each metric."""
    found = []
    for metric in ON_TARGET:
        pairs = [
            (e["mean"], e["cited"])
            for e in entries
            if e["metric"] == metric and e["cited"] is not None and np.isfinite(e["mean"])
        ]
        differ = len({mean for mean, _ in pairs}) > 1
        value = spearmanr(*zip(*pairs, strict=True)).statistic if differ else float("nan")
        found.append(f"{metric} {'-' if np.isnan(value) else f'{value:.2f}'}")
    return ", ".join(found)


def rules_rows(records: Sequence[Record], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry for each row with runs of its own, selection rule and metric."""
    runs, entries = by_policy(records), []
    for row in rows:
        for rule, selection in SELECTIONS.items():
            for metric in ON_TARGET:
                values = list(values_of(runs, row, metric, rule).values())
                entry = {"name": row.name, "rule": rule, "oracle": selection.oracle}
                entry |= {"metric": metric, **mean_ci95(values).entry(), "seeds": len(values)}
                entries.append(entry)
    return entries


def rules_table(entries: Sequence[Entry]) -> Table:
    """A part for each metric, a column for each rule."""
    percent: dict[str, Any] = {"unit": "%", "digits": 1}
    rules = list(dict.fromkeys(entry["rule"] for entry in entries))
    parts = [
        [
            named(f"{metric}, %"),
            *(Column(rule, {"metric": metric, "rule": rule}, **percent) for rule in rules),
        ]
        for metric in ON_TARGET
    ]
    note = (
        "Which moment of the same runs is kept (asg_env/selection.py). oracle reads the target's "
        "labels: a bound, not a result."
    )
    return Table(entries, parts, note=note)


def why_rows(records: Sequence[Record], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """At the end of the runs, by row, measure and layer group: similarity to the start."""
    runs, entries = by_policy(records), []
    for row in rows:
        ends = [record.evaluations[-1]["similarity"] for record in runs[row.name].values()]
        for measure in ends[0]:
            for group in ends[0][measure]:
                values = [end[measure][group] for end in ends]
                entry = {"name": row.name, "metric": measure, "group": group}
                entries.append({**entry, **mean_ci95(values).entry(), "seeds": len(values)})
    return entries


def why_table(entries: Sequence[Entry]) -> Table:
    """A part for each measure, a column for each layer group; means only."""
    groups = list(dict.fromkeys(entry["group"] for entry in entries))
    parts = []
    for measure in dict.fromkeys(entry["metric"] for entry in entries):
        where = [{"metric": measure, "group": group} for group in groups]
        means = [Column(w["group"], w, digits=2, ends="never") for w in where]
        parts.append([named(measure), *means])
    note = (
        "At the end of the budget, by layer group: the norm of the weights' change, and the linear "
        "CKA of the features with those of the start, on real images of the target. Means over "
        "seeds."
    )
    return Table(entries, parts, note=note)


# -- plots -----------------------------------------------------------------------------------------


def plot_points(
    entries: Sequence[dict[str, Any]], rows: Sequence[Row], title: str, path: Path
) -> None:
    """Target accuracy against retention, a point with its intervals for each row."""
    from matplotlib.figure import Figure

    figure = Figure((8.5, 4.8), 120, layout="constrained")
    axes = figure.add_subplot()
    cells = {(e["name"], e["metric"]): e for e in entries}
    for i, row in enumerate(rows):
        y, x = (cells[row.name, metric] for metric in ON_TARGET)
        axes.errorbar(
            *(100 * x["mean"], 100 * y["mean"], _bars(y), _bars(x)),
            fmt="os^Dvp*"[i % 7],
            color=f"C{i % 10}",
            capsize=3,
            label=row.name,
        )
    axes.set(xlabel="retention, %", ylabel="target accuracy, %", title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _bars(entry: dict[str, Any]) -> list[list[float]]:
    """Lengths of an interval's halves, %."""
    low, high = entry["ci95"]
    return [[100 * (entry["mean"] - low)], [100 * (high - entry["mean"])]]


def plot_curves(records: Sequence[Record], rows: Sequence[Row], title: str, path: Path) -> None:
    """Target accuracy and retention over training; crosses: where early stopping stops.
    Runs that diverged are left out."""
    from matplotlib.figure import Figure

    figure = Figure((12, 4.6), 120, layout="constrained")
    runs = by_policy(records)
    budget = budget_of(runs)
    for axes, metric in zip(figure.subplots(1, 2, sharex=True), ON_TARGET, strict=True):
        for i, row in enumerate(rows):
            every = [r for r in runs[row.name].values() if r.error_type is None]
            table = np.array(
                [[e["test"].get(metric, np.nan) for e in r.evaluations] for r in every]
            )
            if not table.size or np.isnan(table).all():
                continue
            steps = [e["steps"] for e in every[0].evaluations]
            style = {"color": f"C{i % 10}", "linestyle": ("-", "--")[i // 10]}
            axes.plot(steps, 100 * table.mean(0), label=row.name, **style)
            rule = SELECTIONS["early_stopping"]
            stops = [rule.choose(evaluations(record, budget)) for record in every]
            place = round(float(np.mean(stops)))
            axes.plot(steps[place], 100 * table.mean(0)[place], "x", color=style["color"])
        axes.set(xlabel="optimizer step", ylabel=f"{metric}, %")
        axes.grid(alpha=0.3)
    lines, names = figure.axes[0].get_legend_handles_labels()
    figure.axes[-1].legend(lines, names, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{title}: means over seeds; x: where early stopping stops on average")
    save_figure(figure, path)


def write_generalization(
    records: Sequence[Record],
    rows: Sequence[Row],
    chosen: Mapping[str, float],
    title: str,
    out: Path,
) -> str:
    """Write every table and plot into ``out``; return the main table for people."""
    own = played(rows)
    entries = table_rows(records, rows, chosen)
    text = generalization_table(entries, title).write(out)
    rules_table(rules_rows(records, own)).write(out, "rules", indent=None)
    why_table(why_rows(records, own)).write(out, "why", indent=None)
    plot_points(entries, rows, title, out / "table.png")
    plot_curves(records, own, title, out / "curves.png")
    return text
