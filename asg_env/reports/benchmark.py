"""The benchmark's tables and plots: pure functions of records and of the trainings' logs."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.evaluation.records import Record
from asg_env.policies.schedules import SCHEDULES
from asg_env.reports.benchmark_plots import plot_curves, plot_intervals, plot_pairs
from asg_env.reports.bootstrap import improvement, iqm, iqm_difference, resample
from asg_env.reports.comparison import METRICS, best_first, metric, metric_columns
from asg_env.reports.statistics import Interval, no_interval
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.reports.trainings import optimizer_steps, progress_of, training_folder

Scores = dict[str, np.ndarray]


def score_tables(records: Sequence[Record], key: str) -> Scores:
    """By agent, (training seeds, evaluation seeds)."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for record in records:
        agent, seed, _ = record.identity
        runs = found.setdefault(agent, {})
        runs.setdefault(seed or 0, {})[record.reset_seed] = metric(record, key)
    return {
        agent: np.array([[runs[s][e] for e in sorted(runs[s])] for s in sorted(runs)])
        for agent, runs in found.items()
    }


def strata(records: Sequence[Record]) -> list[Hashable]:
    """The variant of each episode, in the order of the columns of :func:`score_tables`."""
    variants = {record.reset_seed: record.kwargs.get("variant") for record in records}
    return [variants[seed] for seed in sorted(variants)]


def failures(records: Sequence[Record]) -> dict[str, int]:
    """By agent, how many episodes ended in an error (a divergence)."""
    found: dict[str, int] = {}
    for record in records:
        agent = record.identity.agent
        found[agent] = found.get(agent, 0) + (record.error_type is not None)
    return found


def rows_of(records: Sequence[Record], reference: str, out: Path) -> list[dict[str, Any]]:
    """One row for each agent and metric: interquartile mean, and that less the reference's."""
    rows = []
    failed, steps = failures(records), mean_steps(records, out)
    for key in METRICS:
        tables = score_tables(records, key)
        drawn = resample(tables, strata(records))
        for agent, table in tables.items():
            row = {"name": agent, "metric": key, **iqm(table, drawn[agent]).entry()}
            row |= {"seeds": len(table), "eval_seeds": table.shape[1], "diverged": failed[agent]}
            row |= {"training_optimizer_steps": steps[agent], **no_interval("difference")}
            if agent != reference and reference in tables:
                pair = table, tables[reference], drawn[agent], drawn[reference]
                row |= iqm_difference(*pair).entry("difference")
            rows.append(row)
    return rows


def mean_steps(records: Sequence[Record], out: Path) -> dict[str, float | None]:
    """By agent, the mean optimizer steps of its trainings; None where ``out`` has no log of one."""
    found: dict[str, float | None] = {}
    for agent, table in score_tables(records, "return").items():
        counts = [optimizer_steps(training_folder(out, agent, seed)) for seed in range(len(table))]
        known = [count for count in counts if count is not None]
        found[agent] = float(np.mean(known)) if known else None
    return found


def verdict(row: Entry) -> str:
    """What may be said of the difference."""
    gap = None if row["difference"] is None else Interval.of(row, "difference")
    if gap is None or np.isnan(gap.mean):
        return ""
    if np.isnan(gap.low):
        return "(no interval)"
    if not gap.excludes_zero:
        return "equal"
    return "above" if gap.mean > 0 else "below"


def benchmark_table(rows: Sequence[Entry], title: str, reference: str) -> Table:
    """Best returns first."""
    columns = [
        named("agent"),
        Column("trainings", text=lambda row: str(row["seeds"])),
        Column("optimizer steps of each", text=_steps),
        *metric_columns(),
        Column("diverged", text=lambda r: f"{r['diverged']} of {r['seeds'] * r['eval_seeds']}"),
        *_differences(reference),
    ]
    note = (
        f"{title}. Interquartile means over trainings x {rows[0]['eval_seeds']} held-out "
        "episodes, 95% intervals of a stratified bootstrap (agents/aggregate.py). Differences are "
        "paired by episode; equal: the interval includes 0. Of all agents but the reference, "
        "about one in twenty differs by chance."
    )
    return Table(rows, columns, best_first(rows), note=note)


def _steps(row: Entry) -> str:
    steps = row["training_optimizer_steps"]
    return "-" if steps is None else f"{steps:,.0f}"


def _differences(reference: str) -> list[Column]:
    """A column for each of METRICS: less the reference's, and what may be said of it."""

    def judged(row: Entry, text: str) -> str:
        return f"{text} {verdict(row)}"

    more: dict[str, Any] = {"key": "difference", "mark": judged}
    points: dict[str, Any] = {"unit": "points", "digits": 1, **more}
    return [
        Column(f"return less {reference}'s", {"metric": "return"}, **more),
        Column("target accuracy less its, points", {"metric": "accuracy"}, **points),
        Column("retention less its, points", {"metric": "retention"}, **points),
    ]


def pairs(records: Sequence[Record]) -> tuple[list[str], list[dict[str, Any]]]:
    """Agents by mean return; and an entry for each pair, P(the return of ``name`` > ``other``)."""
    tables = score_tables(records, "return")
    drawn = resample(tables, strata(records))
    names = sorted(tables, key=lambda n: -tables[n].mean())
    entries: list[dict[str, Any]] = []
    for one in names:
        for other in names:
            entry: dict[str, Any] = {"name": one, "other": other, **no_interval("probability")}
            if one != other:
                found = improvement(tables[one], tables[other], drawn[one], drawn[other])
                entry |= found.entry("probability")
            entries.append(entry)
    return names, entries


def write_pairs(records: Sequence[Record], out: Path) -> None:
    """Write pairs.md, pairs.json (as matrices) and pairs.png into ``out``."""
    names, entries = pairs(records)
    columns = [Column(name, {"other": name}, "probability", digits=2) for name in names]
    found = [Interval.of(e, "probability") or Interval(*[np.nan] * 3) for e in entries]
    values = np.array(found).reshape(len(names), len(names), 3)
    matrices = {"probability": values[..., 0].tolist(), "ci95": values[..., 1:].tolist()}
    table = Table(entries, [named("P(row > column)"), *columns])
    table.write(out, "pairs", {"names": names, **matrices}, None)
    plot_pairs(names, values[..., 0], out / "pairs.png")


# -- curves ----------------------------------------------------------------------------------------


def curves(snapshots: Sequence[Record], out: Path) -> dict[str, dict[str, np.ndarray]]:
    """By agent and axis: (training seeds, snapshots, 2), experience and mean held-out return."""
    found: dict[str, dict[int, dict[int, list[float]]]] = {}
    for record in snapshots:
        agent, seed, update = record.identity
        runs = found.setdefault(agent, {}).setdefault(seed or 0, {})
        runs.setdefault(update or 0, []).append(record.episode_return)
    lines: dict[str, dict[str, np.ndarray]] = {}
    for agent, seeds in found.items():
        for number, points in sorted(seeds.items()):
            progress = progress_of(training_folder(out, agent, number))
            for key, by_update in progress.items():
                line = [[by_update[u], float(np.mean(points[u]))] for u in sorted(points)]
                known = lines.setdefault(agent, {}).get(key)
                new = np.array([line])
                lines[agent][key] = new if known is None else np.concatenate([known, new])
    return lines


def reached(lines: Mapping[str, Mapping[str, np.ndarray]], level: float) -> list[dict[str, Any]]:
    """By agent, the decisions after which each training's first snapshot returned ``level``.

    NaN: none did.
    """
    rows = []
    for agent, by_axis in lines.items():
        steps = []
        for line in by_axis["env_steps"]:
            above = line[line[:, 1] >= level, 0]
            steps.append(float(above[0]) if len(above) else float("nan"))
        rows.append({"name": agent, "level": level, "env_steps": steps})
    return rows


def reached_table(rows: Sequence[Entry], reference: str) -> Table:
    """How many trainings reached the level, and after how many decisions."""
    columns = [
        named("agent"),
        Column(
            "trainings that reached it",
            text=lambda row: f"{len(_known(row))} of {len(row['env_steps'])}",
        ),
        Column("decisions until then", text=_decisions),
    ]
    level = f"{rows[0]['level']:.3f}" if rows else ""
    note = (
        "First snapshot whose mean return on held-out episodes, one of each variant, is at "
        f"least that of {reference} on the same ({level}): median (lowest to highest) over the "
        "trainings that reached it."
    )
    return Table(rows, columns, note=note)


def _known(row: Entry) -> list[float]:
    return [value for value in row["env_steps"] if np.isfinite(value)]


def _decisions(row: Entry) -> str:
    known = _known(row)
    return f"{np.median(known):,.0f} ({min(known):,.0f} to {max(known):,.0f})" if known else "-"


def write_benchmark(
    records: Sequence[Record],
    snapshots: Sequence[Record],
    out: Path,
    reference: str,
    tuned: Collection[str] = (),
) -> str:
    """Write every table and plot into ``out``; return the main table for people.

    Args:
        records: of the trained policies, and of those that need no training.
        snapshots: records of policies on the way of a training, for the curves.
        out: folder, which also has those of the trainings.
        reference: the agent that all others are compared with.
        tuned: agents whose training is the search of a schedule.
    """
    title = f"{records[0].env_id}, {records[0].dataset}"
    rows = rows_of(records, reference, out)
    text = benchmark_table(rows, title, reference).write(out)
    plot_intervals(rows, title, {*tuned, *SCHEDULES}, out / "intervals.png")
    write_pairs(records, out)
    if snapshots:
        write_curves(records, snapshots, out, reference, tuned)
    return text


def write_curves(
    records: Sequence[Record],
    snapshots: Sequence[Record],
    out: Path,
    reference: str,
    tuned: Collection[str],
) -> None:
    """Write curves.png, and when the reference's level was reached; see :func:`write_benchmark`."""
    snapshots = sorted(snapshots, key=lambda record: record.policy)  # as --report reads them
    seeds = {record.reset_seed for record in snapshots}  # the levels are of the same episodes
    tables = score_tables([r for r in records if r.reset_seed in seeds], "return")
    best = sorted((n for n in tables if n in tuned), key=lambda n: -tables[n].mean())
    shown = [name for name in dict.fromkeys([reference, *best[:1]]) if name in tables]
    levels = {name: float(tables[name].mean()) for name in shown}
    lines = curves(snapshots, out)
    plot_curves(lines, levels, out / "curves.png")
    if reference in levels:
        rows = reached(lines, levels[reference])
        reached_table(rows, reference).write(out, "reached", rows, None)
