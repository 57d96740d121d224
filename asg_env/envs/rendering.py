"""Frames for people: LR scale of each group, losses and reward over the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asg_env.control.actions import LOWEST
from asg_env.data.names import shown
from asg_env.envs.ledger import Ledger

SIZE = (9.6, 5.4)  # inches
DPI = 100


def render_frame(
    groups: Sequence[str], episode: Ledger, title: str, highest: float = 1.0
) -> np.ndarray:
    """A picture of the run so far, (540, 960, 3) uint8; LR scales reach up to ``highest``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(SIZE, DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    axes = figure.add_subplot(grid[0, :])
    figure.colorbar(_draw_decisions(axes, groups, episode, highest), ax=axes, pad=0.01)
    _draw_losses(figure.add_subplot(grid[1, 0]), episode)
    _draw_rewards(figure.add_subplot(grid[1, 1]), episode)
    state = f", {episode.error}" if episode.error else ""
    done = f"decision {episode.decision}/{len(episode.windows)}, step {episode.steps}"
    figure.suptitle(
        f"{plain_text(title)}\n{done}, return {episode.returned:.3f}{state}", fontsize=11
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_decisions(axes: Any, groups: Sequence[str], episode: Ledger, highest: float = 1.0) -> Any:
    """The map of LR scales, a column above the number of each decision; its mesh."""
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(len(episode.windows) + 1) + 0.5
    scales = [row["scales"] for row in episode.history[1:]]
    mesh = draw_scales(axes, groups, edges, scales, highest)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="decision", title="LR / base LR of each layer group (white: to come)")
    return mesh


def _edges(episode: Ledger) -> np.ndarray:
    """Optimizer steps at which windows begin and end, (decisions + 1,)."""
    start = episode.history[0]["steps"]
    return start + np.concatenate([[0], np.cumsum(episode.windows)])


def plain_text(text: str) -> str:
    """A text in one line in which matplotlib sees no formula."""
    return shown(text).replace("$", r"\$")


def draw_scales(
    axes: Any,
    groups: Sequence[str],
    edges: np.ndarray,
    scales: Sequence[Sequence[float]],
    highest: float = 1.0,
) -> Any:
    """Draw a map of LR scales: a row for each group, a column for each window.

    Args:
        axes: matplotlib's, to draw on.
        groups: names of the layer groups, (G,).
        edges: where windows begin and end, (windows + 1,).
        scales: (D, G) of the first D windows; the others stay white.
        highest: the largest scale that there can be; above 1, colours are logarithmic.

    Returns:
        The mesh, for a colour bar.
    """
    from matplotlib.colors import LogNorm, Normalize

    table = np.full((len(groups), len(edges) - 1), np.nan)
    for column, row in enumerate(scales):
        table[:, column] = row
    norm = Normalize(0, 1) if highest <= 1 else LogNorm(LOWEST, highest)
    mesh = axes.pcolormesh(edges, np.arange(len(groups) + 1), table, norm=norm, cmap="viridis")
    axes.set_yticks(np.arange(len(groups)) + 0.5, [plain_text(group) for group in groups])
    axes.invert_yaxis()
    axes.set_xlim(edges[0], edges[-1])
    return mesh


def _draw_losses(axes, episode: Ledger) -> None:  # type: ignore[no-untyped-def]
    steps = [row["steps"] for row in episode.history]
    for key, label in (
        ("train_ce", "CE, train"),
        ("valid_ce", "CE, outer valid"),
        ("valid_kl", "KL, outer valid"),
    ):
        values = np.array([row[key] for row in episode.history])
        axes.plot(steps, np.where(np.isfinite(values), values, np.nan), label=label, marker=".")
    axes.set(xlabel="optimizer step", ylabel="nats", xlim=_edges(episode)[[0, -1]])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _draw_rewards(axes, episode: Ledger) -> None:  # type: ignore[no-untyped-def]
    rows = episode.history[1:]
    edges = _edges(episode)
    axes.bar(
        edges[: len(rows)], [r["reward"] for r in rows], episode.windows[: len(rows)], align="edge"
    )
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set(xlabel="optimizer step", ylabel="reward", xlim=(edges[0], edges[-1]))


def render_ansi(groups: Sequence[str], episode: Ledger, title: str) -> str:
    """A table of the run so far: one line for each decision."""
    groups = [shown(group) for group in groups]
    head = f"{'step':>7} {'reward':>8} {'CE':>7} {'KL':>7} {'Phi':>7}  " + " ".join(groups)
    lines = [shown(title), head]
    for row in episode.history:
        scales = " ".join(
            f"{s:{len(g)}.{3 if 0 < s < 0.1 else 2}f}"
            for s, g in zip(row["scales"], groups, strict=True)
        )
        numbers = f"{row['valid_ce']:7.3f} {row['valid_kl']:7.3f} {row['phi']:7.3f}"
        lines.append(f"{row['steps']:7d} {row['reward']:8.3f} {numbers}  {scales}")
    if episode.error:
        lines.append(f"ended: {shown(episode.error)}")
    return "\n".join(lines)
