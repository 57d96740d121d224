"""The benchmark's plots: pure functions of its tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.reports.comparison import METRICS, best_first
from asg_env.reports.trainings import AXES
from asg_env.writing import save_figure


def plot_curves(
    lines: Mapping[str, Mapping[str, np.ndarray]], levels: Mapping[str, float], path: Path
) -> None:
    """Held-out return over the experience of each kind; dashed: the ``levels`` of schedules."""
    from matplotlib.figure import Figure

    figure = Figure((13, 4.5), 110, layout="constrained")
    for axes, (key, label, _) in zip(figure.subplots(1, len(AXES), sharey=True), AXES, strict=True):
        for i, (agent, by_axis) in enumerate(lines.items()):
            mean = by_axis[key].mean(0)
            low, high = by_axis[key][..., 1].min(0), by_axis[key][..., 1].max(0)
            axes.plot(mean[:, 0], mean[:, 1], marker=".", color=f"C{i}", label=agent)
            axes.fill_between(mean[:, 0], low, high, color=f"C{i}", alpha=0.15, linewidth=0)
        for i, (name, level) in enumerate(levels.items()):
            axes.axhline(level, label=name, linestyle=("--", ":")[i % 2], color="black")
        axes.set(xlabel=label)
    figure.axes[0].set_ylabel("return on held-out variants")
    figure.axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle("mean over training seeds, shaded: lowest to highest")
    save_figure(figure, path)


def plot_intervals(
    rows: Sequence[dict[str, Any]], title: str, schedules: Collection[str], path: Path
) -> None:
    """Interquartile means with their intervals, a panel for each metric; ``schedules``: agents in a
    colour of their own."""
    from matplotlib.figure import Figure

    cells = {(r["name"], r["metric"]): r for r in rows}
    names = [name for (name,) in reversed(best_first(rows))]
    figure = Figure((11, 1.2 + 0.26 * len(names)), 120, layout="constrained")
    for axes, key in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        for i, name in enumerate(names):
            row = cells[name, key]
            scale = 1 if key == "return" else 100
            low, high = (scale * x for x in row["ci95"])
            colour = "C1" if name in schedules else "C0"
            axes.plot([low, high], [i, i], color=colour, linewidth=5, alpha=0.5)
            axes.plot([scale * row["mean"]], [i], "|", color="black", markersize=9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel=key if key == "return" else f"{key}, %")
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(f"{title}: interquartile mean and 95% interval")
    save_figure(figure, path)


def plot_pairs(names: Sequence[str], values: np.ndarray, path: Path) -> None:
    """P(row's return > column's) as a map."""
    from matplotlib.figure import Figure

    side = 2.5 + 0.38 * len(names)
    figure = Figure((side + 1, side), 110, layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.imshow(values, cmap="RdBu_r", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(values):
        if i != j:
            ink = "white" if abs(value - 0.5) > 0.3 else "black"  # on the dark ends of the map
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color=ink)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(mesh, ax=axes, label="P(row's return > column's)")
    save_figure(figure, path)
