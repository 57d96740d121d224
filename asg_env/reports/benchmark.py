"""The benchmark's tables and plots: pure functions of records and of the trainings' logs."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.evaluation.records import Record
from asg_env.files import write_atomic
from asg_env.reports.benchmark_plots import AXES, plot_curves, plot_intervals, plot_pairs
from asg_env.reports.bootstrap import Estimate, improvement, iqm, iqm_difference, resample
from asg_env.reports.comparison import METRICS, finite, metric, shown, write_table

Scores = dict[str, np.ndarray]


def training_folder(out: Path, agent: str, seed: int) -> Path:
    """Where a training writes."""
    return out / "agents" / f"{agent.replace(' ', '_')}_{seed}"


def policy_name(agent: str, seed: int) -> str:
    """How a trained policy is called in the records."""
    return f"{agent} #{seed}"


def score_tables(records: Sequence[Record], key: str) -> Scores:
    """By agent, (training seeds, evaluation seeds), of policies that are named "AGENT #SEED"."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for record in records:
        agent, _, seed = record.policy.rpartition(" #")
        found.setdefault(agent, {}).setdefault(int(seed), {})[record.reset_seed] = metric(
            record, key
        )
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
        agent = record.policy.rpartition(" #")[0]
        found[agent] = found.get(agent, 0) + (record.error_type is not None)
    return found


def rows_of(records: Sequence[Record], reference: str, out: Path) -> list[dict[str, Any]]:
    """One row for each agent and metric: interquartile mean, and that less the reference's."""
    rows = []
    failed, steps = failures(records), optimizer_steps(records, out)
    for key in METRICS:
        tables = score_tables(records, key)
        drawn = resample(tables, strata(records))
        for agent, table in tables.items():
            value = iqm(table, drawn[agent])
            row: dict[str, Any] = {"name": agent, "metric": key, "mean": value.value}
            row |= {"ci95": [value.low, value.high], "seeds": len(table)}
            row |= {"eval_seeds": table.shape[1], "diverged": failed[agent]}
            row |= {"training_optimizer_steps": steps[agent]}
            row |= {"difference": None, "difference_ci95": None}
            if agent != reference and reference in tables:
                pair = table, tables[reference], drawn[agent], drawn[reference]
                gap = iqm_difference(*pair)
                row |= {"difference": gap.value, "difference_ci95": [gap.low, gap.high]}
            rows.append(row)
    return rows


def optimizer_steps(records: Sequence[Record], out: Path) -> dict[str, float | None]:
    """By agent, the mean of what its trainings took; None where there was none in ``out``."""
    found: dict[str, float | None] = {}
    for agent, table in score_tables(records, "return").items():
        counts = [_steps(training_folder(out, agent, seed)) for seed in range(len(table))]
        known = [count for count in counts if count is not None]
        found[agent] = float(np.mean(known)) if known else None
    return found


def _steps(folder: Path) -> int | None:
    """Optimizer steps of one training, by its log."""
    if (folder / "metrics.jsonl").exists():
        return int(_lines(folder / "metrics.jsonl")[-1]["optimizer_steps"])
    if (folder / "search.jsonl").exists():
        return sum(line["optimizer_steps"] for line in _lines(folder / "search.jsonl"))
    return None


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdict(row: dict[str, Any]) -> str:
    """What may be said of the difference."""
    if row["difference"] is None or np.isnan(row["difference"]):
        return ""
    gap = Estimate(row["difference"], *row["difference_ci95"])
    if np.isnan(gap.low):
        return "(no interval)"
    if not gap.excludes_zero:
        return "equal"
    return "above" if gap.value > 0 else "below"


def markdown(rows: Sequence[dict[str, Any]], title: str, reference: str) -> str:
    """The table for people, best returns first."""
    cells = {(r["name"], r["metric"]): r for r in rows}
    names = sorted({r["name"] for r in rows}, key=lambda n: -cells[n, "return"]["mean"])
    lines = [
        "| agent | trainings | optimizer steps of each | return | target accuracy, % | "
        f"retention, % | diverged | return less {reference}'s | target accuracy less its, points "
        "| retention less its, points |",
        "| --- " * 10 + "|",
    ]
    for name in names:
        own = [cells[name, key] for key in METRICS]
        values = [shown(c["mean"], c["ci95"], c["metric"]) for c in own]
        gaps = [_gap(cells[name, key]) for key in METRICS]
        steps = own[0]["training_optimizer_steps"]
        counts = [str(own[0]["seeds"]), "-" if steps is None else f"{steps:,.0f}"]
        diverged = f"{own[0]['diverged']} of {own[0]['seeds'] * own[0]['eval_seeds']}"
        lines.append(f"| {' | '.join([name, *counts, *values, diverged, *gaps])} |")
    lines.append(
        f"\n{title}. Interquartile means over trainings x {rows[0]['eval_seeds']} held-out "
        "episodes, 95% intervals of a stratified bootstrap (agents/aggregate.py). Differences are "
        "paired by episode; equal: the interval includes 0. Of all agents but the reference, "
        "about one in twenty differs by chance."
    )
    return "\n".join(lines)


def _gap(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return ""
    return f"{shown(row['difference'], row['difference_ci95'], row['metric'])} {verdict(row)}"


def pairs(records: Sequence[Record]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Agents by mean return, P(row's return > column's) and its 95% intervals (.., 2)."""
    tables = score_tables(records, "return")
    drawn = resample(tables, strata(records))
    names = sorted(tables, key=lambda n: -tables[n].mean())
    values, ends = np.full((len(names),) * 2, np.nan), np.full((len(names),) * 2 + (2,), np.nan)
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            if i != j:
                found = improvement(tables[one], tables[other], drawn[one], drawn[other])
                values[i, j], ends[i, j] = found.value, found[1:]
    return names, values, ends


def pairs_markdown(names: Sequence[str], values: np.ndarray, ends: np.ndarray) -> str:
    """The probabilities for people."""
    lines = [f"| P(row > column) | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for i, name in enumerate(names):
        cells = [
            "" if i == j else f"{values[i, j]:.2f} [{ends[i, j, 0]:.2f}, {ends[i, j, 1]:.2f}]"
            for j in range(len(names))
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


# -- curves ----------------------------------------------------------------------------------------


def progress_of(folder: Path) -> dict[str, dict[int, float]]:
    """For each of AXES, its value after each update of a training."""
    rows = _lines(folder / "metrics.jsonl")
    found: dict[str, dict[int, float]] = {}
    for key, _, summed in AXES:
        values = np.array([row[key] for row in rows], dtype=float)
        values = values.cumsum() if summed else values
        found[key] = {row["update"]: float(v) for row, v in zip(rows, values, strict=True)}
    return found


def curves(snapshots: Sequence[Record], out: Path) -> dict[str, dict[str, np.ndarray]]:
    """By agent and axis: (training seeds, snapshots, 2), experience and mean held-out return."""
    found: dict[str, dict[int, dict[int, list[float]]]] = {}
    for record in snapshots:
        name, _, update = record.policy.rpartition(" @")
        agent, _, seed = name.rpartition(" #")
        runs = found.setdefault(agent, {}).setdefault(int(seed), {})
        runs.setdefault(int(update), []).append(record.episode_return)
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


def reached_markdown(rows: Sequence[dict[str, Any]], reference: str) -> str:
    """The same for people."""
    lines = ["| agent | trainings that reached it | decisions until then |", "| --- | --- | --- |"]
    for row in rows:
        known = [value for value in row["env_steps"] if np.isfinite(value)]
        steps = "-"
        if known:
            steps = f"{np.median(known):,.0f} ({min(known):,.0f} to {max(known):,.0f})"
        lines.append(f"| {row['name']} | {len(known)} of {len(row['env_steps'])} | {steps} |")
    level = f"{rows[0]['level']:.3f}" if rows else ""
    lines.append(
        "\nFirst snapshot whose mean return on held-out episodes, one of each variant, is at "
        f"least that of {reference} on the same ({level}): median (lowest to highest) over the "
        "trainings that reached it."
    )
    return "\n".join(lines)


def write_benchmark(
    records: Sequence[Record], snapshots: Sequence[Record], out: Path, reference: str
) -> str:
    """Write everything into ``out``; return the table for people."""
    snapshots = sorted(snapshots, key=lambda record: record.policy)  # as --report reads them
    title = f"{records[0].env_id}, {records[0].dataset}"
    rows = rows_of(records, reference, out)
    text = markdown(rows, title, reference)
    write_table(text, rows, out)
    plot_intervals(rows, title, out / "intervals.png")
    names, values, ends = pairs(records)
    write_atomic(out / "pairs.md", (pairs_markdown(names, values, ends) + "\n").encode())
    found = {"names": names, "probability": values.tolist(), "ci95": ends.tolist()}
    write_atomic(out / "pairs.json", (json.dumps(finite(found)) + "\n").encode())
    plot_pairs(names, values, out / "pairs.png")
    if not snapshots:
        return text
    seeds = {record.reset_seed for record in snapshots}  # the levels are of the same episodes
    tables = score_tables([r for r in records if r.reset_seed in seeds], "return")
    best = sorted((n for n in tables if n.startswith("tuned")), key=lambda n: -tables[n].mean())
    shown_levels = [name for name in dict.fromkeys([reference, *best[:1]]) if name in tables]
    levels = {name: float(tables[name].mean()) for name in shown_levels}
    lines = curves(snapshots, out)
    plot_curves(lines, levels, out / "curves.png")
    if reference in levels:
        first = reached(lines, levels[reference])
        write_atomic(out / "reached.md", (reached_markdown(first, reference) + "\n").encode())
        write_atomic(out / "reached.json", (json.dumps(finite(first)) + "\n").encode())
    return text
