"""What a training logs: a row for each update, as JSONL and for TensorBoard. It can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asg_env.board import Board
from asg_env.files import BadFile
from asg_env.ranges import whole
from asg_env.reports.table import finite
from asg_env.sealed import line_of, unsealed, whole_lines
from asg_env.typed import LARGEST
from asg_env.writing import append_lines, keep_lines

FILE = "metrics.jsonl"
COUNTS = ("episodes", "env_steps", "optimizer_steps")  # of a row, since the training began


class Log:
    """``metrics.jsonl`` and ``tensorboard`` of a training, for a ``with`` block.

    Args:
        folder: where they are.
        done: updates done; what the files say beyond them is dropped.

    Raises:
        BadFile: the rows of the updates done are damaged, or not all there.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / FILE
        self._last = _last_row(self.path, done)
        keep_lines(self.path, done)
        self._board = Board(folder, done + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        self._board.__exit__(*error)

    def last(self) -> dict[str, Any]:
        """The last row; empty if there is none."""
        return dict(self._last)

    def write(self, row: dict[str, Any]) -> None:
        """Add a row.

        Args:
            row: JSON values, ``update`` among them. TensorBoard gets what :func:`scalars` says.
        """
        append_lines(self.path, line_of(finite(row)))
        self._last = finite(row)
        self._board.add(scalars(row), row["update"])


def _last_row(path: Path, done: int) -> dict[str, Any]:
    """The row of the last update done, after a look at all of them; none where there is no log."""
    if not path.exists():
        return {}
    rows = [unsealed(line, where) for where, line in whole_lines(path)[:done]]
    if [row.get("update") for row in rows] != list(range(1, done + 1)):
        raise BadFile(
            f"{path} does not hold the rows of the updates 1 to {done} that the checkpoint is of: "
            f"restore it, or delete {path.parent} to start over"
        )
    counts = {name: rows[-1].get(name, 0) for name in COUNTS} if rows else {}
    for name, value in counts.items():
        if value not in whole(0, LARGEST):
            raise BadFile(f"{path}, line {done}: {name} is {str(value)[:60]}, expected a count")
    return rows[-1] if rows else {}


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
