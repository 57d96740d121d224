"""Tables and plots of experiments/generalization.py: pure functions of records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from asg_env.evaluation.records import Record
from asg_env.evaluation.selection import SELECTIONS, Evaluation
from asg_env.files import write_atomic
from asg_env.reports.comparison import by_policy, finite, shown, write_table
from asg_env.reports.statistics import mean_ci95
from experiments.generalization_rows import Row, candidates, played

METRICS = ("accuracy", "retention")
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
        for place, metric in enumerate(METRICS):
            values = values_of(runs, row, metric)
            mean, low, high = mean_ci95(list(values.values()))
            entry = {"name": row.name, "metric": metric, "mean": mean, "ci95": [low, high]}
            entry |= {"seeds": len(values), "coefficient": chosen.get(row.name)}
            entry["edge"] = entry["coefficient"] in candidates(row, 2)
            own = runs[row.of or row.name].values()
            entry["diverged"] = sum(record.error_type is not None for record in own)
            entry |= {"against": row.against, "gain": None, "gain_ci95": None}
            if row.against is not None:
                other = values_of(runs, by_name[row.against], metric)
                gain, low, high = mean_ci95([v - other[seed] for seed, v in values.items()])
                entry |= {"gain": gain, "gain_ci95": [low, high]}
            entry["cited"] = None if row.cited is None else row.cited[place]
            entries.append(entry)
    return entries


def markdown(entries: Sequence[dict[str, Any]], rows: Sequence[Row], title: str) -> str:
    """The table for people; what the paper says stands in columns of its own."""
    cells = {(e["name"], e["metric"]): e for e in entries}
    lines = [
        "| row | coefficient | target accuracy, % | retention, % | accuracy gained, points "
        "| retention gained | over | cited: VisDA-17, % | ImageNet, % |",
        "| --- " * 9 + "|",
    ]
    for row in rows:
        own = [cells[row.name, metric] for metric in METRICS]
        measured = [shown(e["mean"], e["ci95"], e["metric"]) for e in own]
        gains = [
            "" if row.against is None else shown(e["gain"], e["gain_ci95"], e["metric"])
            for e in own
        ]
        coefficient = own[0]["coefficient"]
        edge = " (edge)" if own[0]["edge"] else ""
        first = [row.name, "" if coefficient is None else f"{coefficient:g}{edge}"]
        cited = ["-" if e["cited"] is None else str(e["cited"]) for e in own]
        lines.append(f"| {' | '.join([*first, *measured, *gains, row.against or '', *cited])} |")
    lines.append(
        f"\n{title}. Means over {entries[0]['seeds']} seeds at the end of the budget (early "
        "stopping: where it stops), 95% confidence intervals (Student's t), gains paired by seed; "
        f"{_diverged(entries)}. Coefficients were searched; edge: the lowest or highest candidate. "
        f"Rank correlation of the rows' means with the paper's: {agreement(entries)}. Cited: Chen "
        "et al. (2020), ResNet-101."
    )
    return "\n".join(lines)


def _diverged(entries: Sequence[dict[str, Any]]) -> str:
    """Which runs diverged, in words."""
    found = {e["name"]: e for e in entries if e["diverged"]}
    listed = ", ".join(f"{e['diverged']} of {e['seeds']} ({name})" for name, e in found.items())
    return f"diverged: {listed or 'none'}"


def agreement(entries: Sequence[dict[str, Any]]) -> str:
    """Spearman's correlation of the rows with the paper's, for each metric."""
    found = []
    for metric in METRICS:
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
            for metric in METRICS:
                values = list(values_of(runs, row, metric, rule).values())
                mean, low, high = mean_ci95(values)
                entry = {"name": row.name, "rule": rule, "oracle": selection.oracle}
                entry |= {"metric": metric, "mean": mean, "ci95": [low, high]}
                entries.append({**entry, "seeds": len(values)})
    return entries


def rules_markdown(entries: Sequence[dict[str, Any]]) -> str:
    """The same for people, a table for each metric."""
    cells = {(e["name"], e["rule"], e["metric"]): e for e in entries}
    lines = []
    for metric in METRICS:
        lines += [
            f"| {metric}, % | {' | '.join(SELECTIONS)} |",
            "| --- " * (1 + len(SELECTIONS)) + "|",
        ]
        for name in dict.fromkeys(e["name"] for e in entries):
            own = [cells[name, rule, metric] for rule in SELECTIONS]
            values = [shown(e["mean"], e["ci95"], metric) for e in own]
            lines.append(f"| {name} | {' | '.join(values)} |")
        lines.append("")
    lines.append(
        "Which moment of the same runs is kept (asg_env/selection.py). oracle reads the target's "
        "labels: a bound, not a result."
    )
    return "\n".join(lines)


def why_rows(records: Sequence[Record], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """At the end of the runs, by row, measure and layer group: similarity to the start."""
    runs, entries = by_policy(records), []
    for row in rows:
        ends = [record.evaluations[-1]["similarity"] for record in runs[row.name].values()]
        for measure in ends[0]:
            for group in ends[0][measure]:
                values = [end[measure][group] for end in ends]
                mean, low, high = mean_ci95(values)
                entry = {"name": row.name, "metric": measure, "group": group, "mean": mean}
                entries.append({**entry, "ci95": [low, high], "seeds": len(values)})
    return entries


def why_markdown(entries: Sequence[dict[str, Any]]) -> str:
    """The same for people, a table for each measure; means only."""
    cells = {(e["name"], e["metric"], e["group"]): e["mean"] for e in entries}
    groups = list(dict.fromkeys(e["group"] for e in entries))
    lines = []
    for measure in dict.fromkeys(e["metric"] for e in entries):
        lines += [f"| {measure} | {' | '.join(groups)} |", "| --- " * (1 + len(groups)) + "|"]
        for name in dict.fromkeys(e["name"] for e in entries):
            values = [f"{cells[name, measure, group]:.2f}" for group in groups]
            lines.append(f"| {name} | {' | '.join(values)} |")
        lines.append("")
    lines.append(
        "At the end of the budget, by layer group: the norm of the weights' change, and the linear "
        "CKA of the features with those of the start, on real images of the target. Means over "
        "seeds."
    )
    return "\n".join(lines)


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
        y, x = (cells[row.name, metric] for metric in METRICS)
        axes.errorbar(
            *(100 * x["mean"], 100 * y["mean"], _bars(y), _bars(x)),
            fmt="os^Dvp*"[i % 7],
            color=f"C{i % 10}",
            capsize=3,
            label=row.name,
        )
    axes.set(xlabel="retention, %", ylabel="target accuracy, %", title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path)


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
    for axes, metric in zip(figure.subplots(1, 2, sharex=True), METRICS, strict=True):
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
    figure.savefig(path)


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
    text = markdown(entries, rows, title)
    write_table(text, entries, out)
    rules, why = rules_rows(records, own), why_rows(records, own)
    for name, words, found in (
        ("rules", rules_markdown(rules), rules),
        ("why", why_markdown(why), why),
    ):
        write_atomic(out / f"{name}.md", (words + "\n").encode())
        write_atomic(out / f"{name}.json", (json.dumps({"rows": finite(found)}) + "\n").encode())
    plot_points(entries, rows, title, out / "table.png")
    plot_curves(records, own, title, out / "curves.png")
    return text
