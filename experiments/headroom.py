"""How much is there to gain by choosing learning rates, and how much of it does the reward see?

    python experiments/headroom.py --records runs/reward_validity_digits

Reads the random policies that experiments/reward_validity.py played. Of these policies it takes the
tenth with the highest return, and the tenth with the highest target accuracy (an oracle: no agent
sees target labels), and says how well either does on a variant that had no part in the choice,
beside all policies. The oracle less all is what better learning rates are worth; the return less
all is what a perfect optimizer of the reward would get of it. A task without variants has its only
runs both to choose and to judge, which flatters the oracle by noise; the table then says so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.cli import parse
from asg_env.evaluation.records import Record, read_records
from asg_env.reports.comparison import write_table
from experiments.reward_validity import METRICS, draw_policies, interval

SHARE = 0.1  # of the policies
ALL, BY_RETURN, BY_ACCURACY = "all", "highest return", "highest target accuracy (oracle)"


@dataclass(frozen=True)
class Args:
    """Say what better learning rates are worth, and what the reward sees of it."""

    records: Path
    """Folder of experiments/reward_validity.py."""
    out: Path | None = None
    """Folder for the table; None: headroom in that of the records."""


def read_runs(folder: Path) -> list[list[Record]]:
    """The records of each variant, in the order of the policies."""
    runs = [list(read_records(path)) for path in sorted(folder.glob("records_*.jsonl"))]
    if not runs or not all(runs):
        raise SystemExit(f"--records {folder}: no records; experiments/reward_validity.py has them")
    by_name = [{record.policy: record for record in records} for records in runs]
    common = [name for name in by_name[0] if all(name in records for records in by_name)]
    return [[records[name] for name in common] for records in by_name]


def tenth(scores: np.ndarray, variant: int) -> np.ndarray:
    """Which policies (SHARE of them) have the highest mean of scores (variants, policies) on the
    *other* variants; on the only one if there are no others."""
    others = np.delete(scores, variant, 0) if len(scores) > 1 else scores
    count = max(1, round(SHARE * scores.shape[1]))
    return np.argsort(-others.mean(0), kind="stable")[:count]


def outcomes(
    returns: np.ndarray, metrics: dict[str, np.ndarray], policies: np.ndarray
) -> dict[tuple[str, str], float]:
    """Mean over the variants of each metric, by choice; all arrays (variants, policies)."""
    own = {name: values[:, policies] for name, values in metrics.items()}
    scores = {BY_RETURN: returns[:, policies], BY_ACCURACY: own["accuracy"]}
    found: dict[tuple[str, str], float] = {}
    for name, values in own.items():
        found[ALL, name] = float(values.mean())
        for choice, score in scores.items():
            kept = [row[tenth(score, v)].mean() for v, row in enumerate(values)]
            found[choice, name] = float(np.mean(kept))
    return found


def table_rows(by_variant: Sequence[Sequence[Record]]) -> list[dict[str, Any]]:
    """One entry for each choice and metric: its mean, and that less the mean of all policies."""
    returns = np.array([[r.episode_return for r in records] for records in by_variant])
    metrics = {
        name: np.array([[r.final.get(name, np.nan) for r in records] for records in by_variant])
        for name in METRICS
    }
    draws = [outcomes(returns, metrics, policies) for policies in draw_policies(returns.shape[1])]
    rows = []
    for choice, metric in draws[0]:
        values = np.array([draw[choice, metric] for draw in draws])
        gains = values - np.array([draw[ALL, metric] for draw in draws])
        row: dict[str, Any] = {"name": choice, "metric": metric, "seeds": 1}
        row |= {"mean": float(values[0]), "ci95": interval(values[1:])}
        row |= {"difference": float(gains[0]), "difference_ci95": interval(gains[1:])}
        rows.append(row | {"policies": returns.shape[1], "variants": len(returns)})
    return rows


def markdown(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The table for people, in points."""
    cells = {(row["name"], row["metric"]): row for row in rows}
    lines = [
        "| policies | target accuracy, % | retention, % | accuracy less that of all, points | "
        "retention less that of all |",
        "| --- " * 5 + "|",
    ]
    for choice in (ALL, BY_RETURN, BY_ACCURACY):
        pair = [cells[choice, metric] for metric in METRICS]
        shown = [_shown(row["mean"], row["ci95"]) for row in pair]
        gains = [_shown(row["difference"], row["difference_ci95"]) for row in pair]
        lines.append(f"| {choice} | {' | '.join(shown + (gains if choice != ALL else ['', '']))} |")
    count, variants = rows[0]["policies"], rows[0]["variants"]
    judged = (
        f"chosen on the others of {variants} variants, mean over the variants"
        if variants > 1
        else "chosen and judged on the same runs, which flatters the oracle"
    )
    lines += ["", f"{title}. A tenth of {count} random policies, {judged}; 95% bootstrap intervals"]
    return "\n".join(lines) + " over policies."


def _shown(value: float, ends: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def main(args: Args) -> str:
    """Read, choose, report."""
    runs = read_runs(args.records)
    rows = table_rows(runs)
    text = markdown(rows, runs[0][0].dataset)
    write_table(text, rows, args.out or args.records / "headroom")
    print(text)
    return text


if __name__ == "__main__":
    main(parse(Args, sys.argv[1:]))
