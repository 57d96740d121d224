"""TensorBoard's writer, in the one place that imports it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_board(folder: Path, first: int) -> SummaryWriter:
    """A writer into ``folder/tensorboard``; what an earlier run wrote from step ``first`` on does
    not count."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    return SummaryWriter(folder / "tensorboard", purge_step=first)
