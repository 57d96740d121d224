"""What a training logs: a row for each update, as JSONL and for TensorBoard. It can be resumed."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from asg_env.board import open_board
from asg_env.files import keep_lines
from asg_env.reports.table import finite

FILE = "metrics.jsonl"


class Log:
    """``metrics.jsonl`` and ``tensorboard`` of a training, for a ``with`` block.

    Args:
        folder: where they are.
        done: updates done; what the files say beyond them is dropped.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / FILE
        keep_lines(self.path, done)
        self._board = open_board(folder, done + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._board.close()

    def last(self) -> dict[str, Any]:
        """The last row; empty if there is none."""
        lines = self.path.read_text().splitlines()
        return json.loads(lines[-1]) if lines else {}

    def write(self, row: dict[str, Any]) -> None:
        """Add a row.

        Args:
            row: JSON values, ``update`` among them. TensorBoard gets what :func:`scalars` says.
        """
        with self.path.open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")
        for name, value in scalars(row).items():
            self._board.add_scalar(name, value, row["update"])


def scalars(row: dict[str, Any]) -> dict[str, float]:
    """A row's numbers by TensorBoard's tags, the same for every algorithm.

    Floats are ``train/NAME``, or ``eval/NAME`` for the evaluations' ``valid_...`` and ``test_...``;
    ``lr_scale/GROUP`` are the mean scales played, ``sb3/NAME`` what SB3 recorded itself.
    """
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, float):
            kind = "eval" if name.startswith(("valid_", "test_")) else "train"
            found[f"{kind}/{name}"] = value
    found |= {f"lr_scale/{group}": scale for group, scale in row["lr_scale"].items()}
    return found | {f"sb3/{name}": value for name, value in row.get("train", {}).items()}
