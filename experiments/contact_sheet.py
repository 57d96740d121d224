"""Draw the images of `visda-standin` for people to look at.

    python experiments/contact_sheet.py sheet.png

One column for each class: CAD-like source renders, photo-like targets, and below them the
photo-like images of the classes that the teacher was pretrained on.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from asg_env.cli import run
from asg_env.ranges import SEED, whole
from asg_env.tasks.render.objects import NEW_OBJECTS
from asg_env.tasks.render.old_objects import OLD_OBJECTS
from asg_env.tasks.render.parts import Design
from asg_env.tasks.render.scenes import Photo, clean_images, photo_images
from asg_env.writing import save_figure


@dataclass(frozen=True)
class Args:
    """Draw a contact sheet."""

    file: tyro.conf.Positional[Path]
    """Where the picture goes (PNG)."""
    rows: Annotated[int, whole(1, 100)] = 4
    """Images of each class and kind."""
    seed: Annotated[int, SEED] = 0
    """Seed of shapes, views and conditions."""


def column(designs: dict[str, Design], index: int, args: Args, clean: bool) -> Tensor:
    """Images (rows, 3, H, W) of one class."""
    design, rng = list(designs.values())[index], np.random.default_rng([args.seed, index, clean])
    if clean:
        return clean_images(design, args.rows, args.rows, (0, 1), rng)
    return photo_images(design, args.rows, (0, 1), rng, Photo())


def main(args: Args) -> None:
    """Draw all columns and save the sheet."""
    torch.set_num_threads(1)
    blocks = (
        *(("source", NEW_OBJECTS, True), ("target", NEW_OBJECTS, False)),
        ("teacher", OLD_OBJECTS, False),
    )
    figure = Figure((12 * 1.15, 3 * args.rows * 1.2 + 1), dpi=110)
    panels: Any = figure.subfigures(len(blocks))
    for panel, (title, designs, clean) in zip(panels, blocks, strict=True):
        axes = panel.subplots(
            args.rows, 12, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03}
        )
        panel.subplots_adjust(top=0.94, bottom=0.01)
        for index, name in enumerate(designs):
            axes[0, index].set_title(name, fontsize=9, pad=3)
            for axis, image in zip(
                axes[:, index], column(designs, index, args, clean), strict=True
            ):
                axis.imshow(image.permute(1, 2, 0), interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
        axes[0, 0].set_ylabel(title)
    save_figure(figure, args.file, bbox_inches="tight")


if __name__ == "__main__":
    run(main, Args)
