"""The folder of a run: what it was made with, and when something in it is due."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from asg_env.locks import alone
from asg_env.sealed import read_object, strict, write_object
from asg_env.writing import drop_leftovers


@contextmanager
def only_run(folder: Path, args: dict[str, Any] | None = None) -> Iterator[None]:
    """Be the only process that writes a folder, for a ``with`` block; see :func:`open_run`.

    What killed processes left half written there is removed.

    Args:
        folder: made if it is not there.
        args: the run's; None: the folder remembers none.

    Raises:
        InUse: another process writes there; the message says which one.
        SystemExit: the folder cannot be written, or holds a run with other arguments.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone(folder, f"--out {folder}"))
        except OSError as error:
            raise SystemExit(f"--out {folder} cannot be written: {error}") from error
        drop_leftovers(folder)
        if args is not None:
            open_run(folder, args)
        yield


def open_run(folder: Path, args: dict[str, Any]) -> None:
    """Make the folder, or check that the run in it has the same arguments.

    Raises:
        SystemExit: the folder cannot be written, or holds a run with other arguments.
    """
    args = strict(json.loads(json.dumps(args, default=str)))
    path = folder / "args.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_object(path, args)
    except OSError as error:
        raise SystemExit(f"--out {folder} cannot be written: {error}") from error
    try:
        before = strict(read_object(path))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{error}; to start over, delete {folder}") from error
    for name in args:
        if name != "out" and before.get(name) != args[name]:
            raise SystemExit(
                f"--out {folder} holds a run with {name}={before.get(name)!r}, not "
                f"{args[name]!r}: choose another --out, or delete it"
            )


def due(done: int, total: int, count: int) -> bool:
    """Whether one of ``count`` moments at equal distances in 1..total is ``done``."""
    return done * count // total > (done - 1) * count // total
