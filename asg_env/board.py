"""Curves for TensorBoard, in the one place that imports it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asg_env.writing import naming


class Board:
    """A file of curves, for a ``with`` block; what it was told is on the disk at once.

    Nothing runs beside it, as in TensorBoard's own writer: a full disk is an error where it is met.

    Args:
        folder: the file goes into ``folder/tensorboard``.
        first: what an earlier run wrote from this step on does not count.
    """

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # slow to import
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / "tensorboard" / name
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(step=first, file_version="brain.Event:2")
        self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each of the named curves; OSError, naming the file, if that fails."""
        self._write(
            step=step, summary={"value": [{"tag": k, "simple_value": v} for k, v in values.items()]}
        )

    def _write(self, **fields: Any) -> None:
        with naming(self.path):
            self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
