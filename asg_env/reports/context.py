"""Tables of experiments/context.py: pure functions of records of episodes with hidden contexts.

Agents are compared on the same episodes: same variant, head, order of images and context. The
*frozen* agent trains the head alone at the task's own learning rate; a run has *failed* if it
diverged or ended below it. The *ceiling* is the best, by return, of many schedules that were
played on the very episode, each at a learning rate of its own: nobody can know which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from asg_env.evaluation.records import Record
from asg_env.reports.bootstrap import resample
from asg_env.reports.comparison import METRICS, best_first, metric, metric_columns
from asg_env.reports.statistics import Interval, no_interval
from asg_env.reports.table import Column, Entry, Table, named

CEILING, FROZEN = "per-episode oracle", "frozen backbone, own LR"
PERCENT = (2.5, 97.5)
DIFFERENCES = ("return", "accuracy")


class Played(NamedTuple):
    """Runs of agents on E common episodes.

    ``runs``: by agent, a list (of its S trainings) of lists of records (E). ``strata``: the variant
    of each episode. ``left_out``: episodes that were not the same for all agents.
    """

    runs: dict[str, list[list[Record]]]
    strata: list[str]
    left_out: int

    def values(self, name: str, key: str) -> np.ndarray:
        """A metric of an agent, (S, E)."""
        return np.array([[metric(r, key) for r in own] for own in self.runs[name]])

    @property
    def failed(self) -> dict[str, np.ndarray]:
        """Whether each run has failed, by agent, (S, E)."""
        floor = self.values(FROZEN, "return")
        return {
            name: (self.values(name, "return") < floor)
            | np.array([[r.error_type is not None for r in own] for own in table])
            for name, table in self.runs.items()
        }


def played(records: Sequence[Record], schedules: Sequence[Record] = ()) -> Played:
    """The runs of records, and of CEILING where there are ``schedules`` to choose from.

    Episodes in which the agents met different contexts are left out (a draw that diverges under
    every first action is drawn anew, and actions differ).
    """
    found: dict[str, dict[int | None, dict[int, Record]]] = {}
    for record in records:
        who = record.identity
        found.setdefault(who.agent, {}).setdefault(who.training_seed, {})[record.reset_seed] = (
            record
        )
    every = [own for trainings in found.values() for own in trainings.values()]
    seeds = sorted(set.intersection(*(set(own) for own in every)))
    hidden = [own for name, t in found.items() if name != FROZEN for own in t.values()]
    same = [s for s in seeds if len({str(own[s].context) for own in hidden}) < 2]
    runs = {
        name: [[own[s] for s in same] for own in trainings.values()]
        for name, trainings in found.items()
    }
    if schedules:
        runs[CEILING] = [[best_of(schedules, s) for s in same]]
    strata = [str(every[0][s].kwargs.get("variant")) for s in same]
    return Played(runs, strata, len(seeds) - len(same))


def best_of(records: Sequence[Record], seed: int) -> Record:
    """The one with the highest return in an episode."""
    return max((r for r in records if r.reset_seed == seed), key=lambda r: r.episode_return)


def interval(value: float, draws: np.ndarray) -> Interval:
    """A statistic with the percentiles of its bootstrap draws."""
    fine = draws[np.isfinite(draws)]
    if not len(fine) or not np.ptp(fine):
        return Interval(value, np.nan, np.nan)
    low, high = np.percentile(fine, PERCENT)
    return Interval(value, float(low), float(high))


def compare_rows(found: Played, reference: str) -> list[dict[str, Any]]:
    """One row for each agent and metric.

    ``difference``: of the agent less ``reference``, paired by episode. ``share``: in rows of the
    return, how much of the way from the reference to CEILING the agent goes. ``failed``,
    ``diverged``: share of its runs. Intervals: bootstrap over training seeds and episodes, these
    within their variants.
    """
    tables = {(n, key): found.values(n, key) for n in found.runs for key in METRICS}
    failed, rows = found.failed, []
    keyed = {f"{n}\n{key}": t for (n, key), t in tables.items()}
    draws = {k: d.mean((1, 2)) for k, d in _shared(keyed, found).items()}
    for name, table in found.runs.items():
        for key in METRICS:
            own, other = draws[f"{name}\n{key}"], draws[f"{reference}\n{key}"]
            mean, base = tables[name, key].mean(), tables[reference, key].mean()
            row: dict[str, Any] = {"name": name, "metric": key, "seeds": len(table)}
            row |= {"episodes": len(table[0]), **interval(float(mean), own).entry()}
            row |= no_interval("difference") | no_interval("share")
            if name != reference:
                row |= interval(float(mean - base), own - other).entry("difference")
                if key == "return" and CEILING in found.runs and name != CEILING:
                    top, best = draws[f"{CEILING}\n{key}"], tables[CEILING, key].mean()
                    share = float((mean - base) / (best - base)) if best > base else np.nan
                    row |= interval(share, (own - other) / (top - other)).entry("share")
            row["failed"] = float(failed[name].mean())
            row["diverged"] = float(np.mean([r.error_type is not None for o in table for r in o]))
            rows.append(row)
    return rows


def _shared(tables: Mapping[str, np.ndarray], found: Played) -> dict[str, np.ndarray]:
    """Bootstrap draws of each table, (draws, S, E): the same trainings and episodes for all of an
    agent's metrics."""
    places = {
        n: np.arange(len(t) * len(found.strata)).reshape(len(t), -1) for n, t in found.runs.items()
    }
    drawn = resample(places, found.strata)
    return {k: t.ravel()[drawn[k.partition("\n")[0]]] for k, t in tables.items()}


def compare_table(rows: Sequence[Entry], reference: str, title: str, left_out: int = 0) -> Table:
    """For people; best returns first."""
    percent: dict[str, Any] = {"unit": "%", "digits": 0}
    less: dict[str, Any] = {"key": "difference", "signed": True}
    columns = [
        named("agent"),
        Column("trainings", text=lambda row: str(row["seeds"])),
        *metric_columns(),
        Column("failed, %", text=lambda row: f"{100 * row['failed']:.0f}"),
        Column("diverged, %", text=lambda row: f"{100 * row['diverged']:.0f}"),
        Column("return over the reference", {"metric": "return"}, **less),
        Column("accuracy over it, points", {"metric": "accuracy"}, unit="points", digits=1, **less),
        Column("share of the gap closed, %", {"metric": "return"}, key="share", **percent),
    ]
    columns = [replace(column, ends="finite") for column in columns]
    out = f" {left_out} episodes left out: not the same context for all." if left_out else ""
    note = (
        f"{title}. {rows[0]['episodes']} held-out episodes, 95% bootstrap intervals over trainings "
        f"and episodes, differences paired by episode. The reference is {reference}, the schedule "
        f"whose search scored best on training contexts; the gap is from it to the {CEILING}, the "
        "best of many schedules on the very episode. Failed: ends below the return of the head "
        f"alone, trained at the task's own learning rate, or diverged.{out}"
    )
    return Table(rows, columns, best_first(rows), note=note)


def seed_rows(found: Played) -> list[dict[str, Any]]:
    """One row for each training of an agent that has several, and metric."""
    rows, failed = [], found.failed
    for name, table in found.runs.items():
        if len(table) < 2:
            continue
        for k, own in enumerate(table):
            label = own[0].policy if own else name
            for key in METRICS:
                value = float(found.values(name, key)[k].mean())
                row = {"name": label, "metric": key, "mean": value, "ci95": None, "seeds": 1}
                rows.append(row | {"failed": float(failed[name][k].mean())})
    return rows


def seed_table(rows: Sequence[Entry]) -> Table:
    """Each training by itself: does one collapse?"""
    columns = [
        named("training"),
        *metric_columns(),
        Column("failed, %", text=lambda row: f"{100 * row['failed']:.0f}"),
    ]
    return Table(rows, columns, note="Means over the held-out episodes, each training by itself.")


# -- wrong learning rates --------------------------------------------------------------------------

REGRETS = ("regret", "return", "ce", "accuracy", "retention", "failed", "diverged")


def regret_rows(
    by_error: Mapping[float, Sequence[Record]], schedules: Sequence[Record]
) -> list[dict[str, Any]]:
    """One row for each agent, LR error and quantity of REGRETS.

    Args:
        by_error: records by log10 of (base LR / the task's own).
        schedules: what the best of an episode is chosen from; none: all that was played on it.
    """
    everything = list(schedules) or [r for records in by_error.values() for r in records]
    rows = []
    for error, records in by_error.items():
        found = played(records)
        seeds = [record.reset_seed for record in next(iter(found.runs.values()))[0]]
        top = np.array([best_of(everything, seed).episode_return for seed in seeds])
        tables = {n: _quantities(found, n, top) for n in found.runs}
        for key in REGRETS:
            drawn = resample({n: t[key] for n, t in tables.items()}, found.strata)
            for name, table in tables.items():
                own = interval(float(table[key].mean()), drawn[name].mean((1, 2)))
                row = {"name": name, "metric": key, "error": error, **own.entry()}
                rows.append(row | {"seeds": len(table[key]), "episodes": len(seeds)})
    return rows


def _quantities(found: Played, name: str, top: np.ndarray) -> dict[str, np.ndarray]:
    """By name of REGRETS, (S, E)."""
    values = {k: found.values(name, k) for k in ("return", "ce", "accuracy", "retention")}
    diverged = np.array([[r.error_type is not None for r in own] for own in found.runs[name]])
    values["ce"] = np.array(
        [[r.losses[-1]["valid_ce"] for r in own] for own in found.runs[name]], dtype=float
    )
    return {
        **values,
        "regret": top - values["return"],
        "failed": found.failed[name].astype(float),
        "diverged": diverged.astype(float),
    }


def regret_table(rows: Sequence[Entry], title: str) -> Table:
    """A part for each quantity, a column for each LR error."""
    errors = list(dict.fromkeys(row["error"] for row in rows))
    percent = {"accuracy", "retention", "failed", "diverged"}
    parts = []
    for key in REGRETS:
        look: dict[str, Any] = {"unit": "%", "digits": 1} if key in percent else {"digits": 2}
        head = f"{key}, %" if key in percent else key
        look["ends"] = "finite"
        columns = [Column(f"x{10**e:.3g}", {"metric": key, "error": e}, **look) for e in errors]
        parts.append([named(head), *columns])
    note = (
        f"{title}. Base learning rates times the task's own, {rows[0]['episodes']} episodes, 95% "
        "bootstrap intervals over trainings and episodes. Regret: the return of the best schedule "
        "of each episode less the agent's; ce: of held-out synthetic images at the end, nats. "
        "Failed: ends below the head alone at the task's own learning rate, or diverged."
    )
    return Table(rows, parts, note=note)
