"""A picture of what a policy did: each layer group's learning rate over the run."""

from __future__ import annotations

from pathlib import Path

from asg_env.schedulers.policy_lr import PolicyLR


def plot_rates(scheduler: PolicyLR, path: str | Path) -> Path:
    """Write a PNG of the learning rates so far, log axis, a line for each layer group.

    Lines lie a point apart, so that equal rates are seen; the dotted one is the rate that the
    optimizer was given, if all param groups have one.

    Args:
        scheduler: at the end of the run, or before.
        path: of the file; its folder is made.

    Returns:
        The path.
    """
    import matplotlib.pyplot as plt  # slow to import
    from matplotlib.transforms import offset_copy

    steps = [row.step for row in scheduler.history] + [scheduler.last_epoch]
    names = scheduler.layers.names
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    colors = plt.get_cmap("viridis")
    for place, name in enumerate(names):
        rates = [row.rates[name] for row in scheduler.history]
        color = "tab:red" if place == len(names) - 1 else colors(0.9 * place / len(names))
        points = 1.3 * (place - (len(names) - 1) / 2)  # so that equal rates do not hide each other
        drawn = [*rates, rates[-1]]
        (line,) = axes.step(steps, drawn, where="post", label=name, color=color, lw=1.8)
        line.set_transform(offset_copy(line.get_transform(), figure, y=points, units="points"))
    if len(base := set(scheduler.layers.base_lrs)) == 1:
        axes.axhline(base.pop(), color="gray", ls=":", lw=1.2, label="the optimizer's", zorder=0)
    axes.set(yscale="log", xlabel="optimizer step", ylabel="learning rate", xlim=(0, steps[-1]))
    axes.set_title(f"Learning rates that {scheduler.policy.name} set", loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="layer group", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
