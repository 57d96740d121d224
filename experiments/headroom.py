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
from asg_env.reports.bootstrap import draw_policies, of_draws
from asg_env.reports.comparison import ON_TARGET
from asg_env.reports.table import Column, Entry, Table, named

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
    if not common:
        raise SystemExit(f"--records {folder}: no policy has a record in each of its files")
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
        for name in ON_TARGET
    }
    draws = [outcomes(returns, metrics, policies) for policies in draw_policies(returns.shape[1])]
    rows = []
    for choice, metric in draws[0]:
        values = np.array([draw[choice, metric] for draw in draws])
        gains = values - np.array([draw[ALL, metric] for draw in draws])
        row: dict[str, Any] = {"name": choice, "metric": metric, "seeds": 1}
        row |= of_draws(values).entry() | of_draws(gains).entry("difference")
        rows.append(row | {"policies": returns.shape[1], "variants": len(returns)})
    return rows


def headroom_table(rows: Sequence[Entry], title: str) -> Table:
    """For people, in points."""
    gain: dict[str, Any] = {"key": "difference", "unit": "points", "digits": 1, "mark": _gain}
    accuracy, retention = ({"metric": metric} for metric in ON_TARGET)
    columns = [
        named("policies"),
        Column("target accuracy, %", accuracy, unit="%", digits=1),
        Column("retention, %", retention, unit="%", digits=1),
        Column("accuracy less that of all, points", accuracy, **gain),
        Column("retention less that of all", retention, **gain),
    ]
    count, variants = rows[0]["policies"], rows[0]["variants"]
    judged = (
        f"chosen on the others of {variants} variants, mean over the variants"
        if variants > 1
        else "chosen and judged on the same runs, which flatters the oracle"
    )
    note = (
        f"{title}. A tenth of {count} random policies, {judged}; 95% bootstrap intervals over "
        "policies."
    )
    return Table(rows, columns, note=note)


def _gain(row: Entry, text: str) -> str:
    return "" if row["name"] == ALL else text


def main(args: Args) -> str:
    """Read, choose, report."""
    runs = read_runs(args.records)
    rows = table_rows(runs)
    table = headroom_table(rows, runs[0][0].dataset)
    out = args.out or args.records / "headroom"
    with only_run(out):
        text = table.write(out)
    print(text)
    return text


if __name__ == "__main__":
    run(main, Args)
