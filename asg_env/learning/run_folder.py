"""The folder of a run: what it was made with, and when something in it is due."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asg_env.files import write_atomic


def open_run(folder: Path, args: dict[str, Any]) -> None:
    """Make the folder, or check that the run in it has the same arguments.

    Raises:
        SystemExit: the folder cannot be written, or holds a run with other arguments.
    """
    args = json.loads(json.dumps(args, default=str))
    path = folder / "args.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomic(path, (json.dumps(args, indent=1) + "\n").encode())
    except OSError as error:
        raise SystemExit(f"--out {folder} cannot be written: {error}") from error
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise SystemExit(f"{path} is damaged ({error}); delete {folder} to start over") from error
    for name in args:
        if name != "out" and before.get(name) != args[name]:
            raise SystemExit(
                f"--out {folder} holds a run with {name}={before.get(name)!r}, not "
                f"{args[name]!r}: choose another --out, or delete it"
            )


def due(done: int, total: int, count: int) -> bool:
    """Whether one of ``count`` moments at equal distances in 1..total is ``done``."""
    return done * count // total > (done - 1) * count // total
