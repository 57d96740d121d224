"""The plots of experiments/context.py: pure functions of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.reports.comparison import METRICS, best_first
from asg_env.writing import save_figure

LEARNED, SCHEDULE, RIVAL, BOUND = "learned", "schedule", "rival", "bound"
COLOURS = {LEARNED: "#c1272d", SCHEDULE: "#8a8a8a", RIVAL: "#0071bc", BOUND: "black"}
MEANINGS = {
    LEARNED: "learned",
    SCHEDULE: "schedules",
    RIVAL: "rivals",
    BOUND: "bounds: oracle, frozen backbone, shuffled",
}
MARKS = "os^Dv<>ph*"
PANELS = {
    "regret": "regret, return",
    "accuracy": "target accuracy, %",
    "retention": "retention, %",
    "failed": "failed runs, %",
}


def plot_compare(
    rows: Sequence[dict[str, Any]], kinds: Mapping[str, str], reference: str, title: str, path: Path
) -> None:
    """Means with their intervals, best returns on top: a panel for each metric, one for failures.

    Args:
        rows: of :func:`~asg_env.reports.context.compare_rows`.
        kinds: a key of COLOURS, by agent.
        reference: the agent at whose mean a line is drawn.
        title: of the figure.
        path: of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    cells = {(r["name"], r["metric"]): r for r in rows}
    names = [name for (name,) in reversed(best_first(rows))]
    figure = Figure((13, 1.9 + 0.27 * len(names)), 120, layout="constrained")
    panels = figure.subplots(1, len(METRICS) + 1, sharey=True)
    for axes, key in zip(panels, METRICS, strict=False):
        scale = 1 if key == "return" else 100
        for i, name in enumerate(names):
            row, colour = cells[name, key], COLOURS[kinds[name]]
            axes.plot(scale * np.array(row["ci95"]), [i, i], color=colour, linewidth=5, alpha=0.35)
            axes.plot([scale * row["mean"]], [i], "o", color=colour, markersize=4)
        middle = scale * cells[reference, key]["mean"]
        axes.axvline(middle, color=COLOURS[SCHEDULE], linestyle=":", linewidth=1)
        axes.set(xlabel=key if key == "return" else f"{key}, %")
        axes.grid(axis="x", alpha=0.3)
    _cut_low(panels[0], [cells[name, "return"]["mean"] for name in names])
    for i, name in enumerate(names):
        row = cells[name, "return"]
        panels[-1].barh(i, 100 * row["failed"], color=COLOURS[kinds[name]], alpha=0.5, height=0.6)
    panels[-1].set(xlabel="failed, %", xlim=(0, 100))
    panels[-1].grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    used = [kind for kind in COLOURS if kind in kinds.values()]
    handles = [Line2D([], [], color=COLOURS[k], marker="o", label=MEANINGS[k]) for k in used]
    handles.append(Line2D([], [], color=COLOURS[SCHEDULE], linestyle=":", label=reference))
    figure.legend(handles=handles, loc="outside lower center", ncol=5, fontsize=8, frameon=False)
    figure.suptitle(f"{title}\nmeans and 95% intervals", fontsize=10)
    save_figure(figure, path)


def _cut_low(axes: Any, means: Sequence[float]) -> None:
    """Leave far crashed means outside, so that the others can be told apart."""
    low, high = max(min(means), max(means) - 3.0), max(means)
    if low > min(means):
        axes.set_xlabel("return (lower ones are not shown)")
    axes.set_xlim(low - 0.1 * (high - low) - 0.05, high + 0.1 * (high - low) + 0.05)


def plot_regret(
    rows: Sequence[dict[str, Any]], kinds: Mapping[str, str], reference: str, title: str, path: Path
) -> None:
    """Four quantities over the error of the base learning rate; shaded: 95% intervals, of learned
    agents and the reference. Other schedules are thin grey lines."""
    from matplotlib.figure import Figure

    figure = Figure((12, 7.6), 120, layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    names = sorted(
        dict.fromkeys(r["name"] for r in rows), key=lambda n: list(COLOURS).index(kinds[n])
    )
    rivals = [n for n in names if kinds[n] == RIVAL]
    factors = [10.0**error for error in dict.fromkeys(r["error"] for r in rows)]
    for axes, (key, label) in zip(grid.flat, PANELS.items(), strict=True):
        for name in names:
            own = [r for r in rows if r["name"] == name and r["metric"] == key]
            look = _look(name, kinds[name], name == reference, rivals)
            _draw(axes, own, 1 if key == "regret" else 100, look)
        axes.axvline(1, color="black", linewidth=0.6, alpha=0.4)
        axes.set(xscale="log", ylabel=label)
        axes.grid(alpha=0.3)
    means = [r["mean"] for r in rows if r["metric"] == "regret"]
    grid[0, 0].set_ylim(min(-0.1, min(means) - 0.1), min(max(means) + 0.1, 2.5))
    grid[1, 1].set_ylim(-3, 103)
    for axes in grid[1]:
        axes.set_xlabel("base LR / the task's own LR")
        axes.set_xticks(factors, [f"{f:.2g}" for f in factors])
        axes.minorticks_off()
    lines, labels = grid[0, 0].get_legend_handles_labels()
    once = dict(zip(labels, lines, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(f"{title}: what a wrong base learning rate costs", fontsize=11)
    save_figure(figure, path)


def _look(name: str, kind: str, is_reference: bool, rivals: Sequence[str]) -> dict[str, Any]:
    """Line style of an agent; LEARNED strong, the reference black, rivals a colour each."""
    if kind == LEARNED:
        return {
            "color": COLOURS[LEARNED],
            "linewidth": 2.6,
            "marker": "o",
            "label": name,
            "zorder": 5,
        }
    if is_reference:
        return {"color": "black", "linewidth": 2, "marker": "s", "label": name, "zorder": 4}
    if kind == RIVAL:
        place = rivals.index(name)
        style = {"color": f"C{(0, 2, 4, 5, 8, 9)[place % 6]}", "marker": MARKS[place % 10]}
        return {**style, "linewidth": 1.3, "label": name, "zorder": 3}
    if kind == BOUND:
        return {"color": "black", "linewidth": 1.2, "linestyle": ":", "label": name, "zorder": 2}
    return {"color": "#bbbbbb", "linewidth": 0.9, "zorder": 1, "label": "other schedules"}


def _draw(axes: Any, own: Sequence[dict[str, Any]], scale: float, look: dict[str, Any]) -> None:
    factors = [10.0 ** row["error"] for row in own]
    axes.plot(factors, [scale * row["mean"] for row in own], markersize=4, **look)
    if look["zorder"] > 3:  # the learned ones and the reference: all would hide each other
        ends = scale * np.array([row["ci95"] for row in own], dtype=float)
        axes.fill_between(factors, *ends.T, color=look["color"], alpha=0.1, linewidth=0)
