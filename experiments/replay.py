"""Run recorded episodes again and say whether they come out the same.

    python experiments/replay.py runs/reinforce/records.jsonl --policy reinforce

Exits with 0 if every chosen record matches, with 1 otherwise. It writes no file.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import gymnasium as gym
import tyro
from tqdm import tqdm

from asg_env.cli import blamed_on, run
from asg_env.evaluation.records import Record
from asg_env.evaluation.replay import check_trusted, how_compared, replay
from asg_env.files import BadFile
from asg_env.ranges import MANY, whole
from asg_env.sealed import parse_json


@dataclass(frozen=True)
class Args:
    """Run recorded episodes again and say whether they match."""

    record: tyro.conf.Positional[Path]
    """A file of records, one JSON line each, or of a single one."""
    index: Annotated[int | None, whole(-MANY)] = None
    """Replay only this record of the file; 0 is the first, -1 the last."""
    policy: str | None = None
    """Replay only this policy's records."""
    trust: tuple[str, ...] = ()
    """Modules whose code the records may name, as environment or in its arguments."""
    quick: bool = False
    """Replay only the first record of each policy."""


def read_strictly(path: Path) -> list[Record]:
    """The records of a file. Unlike a reader that resumes a run, it overlooks nothing but a cut.

    Raises:
        SystemExit: there is no such file, it holds no record, or a line is none.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SystemExit(
            f"{path} is no text file: expected one JSON record on each line"
        ) from error
    records, lines = [], [text] if _is_json(text) else text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                records.append(Record.from_json(line, f"{path}, line {number}"))
        except BadFile as error:
            if records and number == len(lines):
                print(f"line {number} is cut short and left out", file=sys.stderr)
                continue
            raise SystemExit(str(error)) from error
    if not records:
        raise SystemExit(f"{path} holds no record")
    return records


def _is_json(text: str) -> bool:
    """Whether a file is one JSON value, over however many lines."""
    try:
        parse_json(text, "")
    except BadFile:
        return False
    return True


def choose(records: Sequence[Record], args: Args) -> dict[int, Record]:
    """The records to replay, by their place in the file.

    Raises:
        SystemExit: none is left.
    """
    chosen = dict(enumerate(records))
    if args.index is not None:
        if not -len(records) <= args.index < len(records):
            raise SystemExit(f"--index {args.index}: {args.record} holds {len(records)} records")
        index = args.index % len(records)
        chosen = {index: records[index]}
    if args.policy is not None:
        known = dict.fromkeys(r.policy for r in chosen.values())
        if args.policy not in known:
            raise SystemExit(
                f"--policy {args.policy!r}: no such record; there are {', '.join(known)}"
            )
        chosen = {i: r for i, r in chosen.items() if r.policy == args.policy}
    if args.quick:
        first = {r.policy: i for i, r in reversed(chosen.items())}
        chosen = {i: r for i, r in chosen.items() if first[r.policy] == i}
    return chosen


def differences(record: Record, trust: Collection[str] = ()) -> list[str]:
    """What does not come out the same, in words; empty if the record matches."""
    try:
        return replay(record, trust)
    except (gym.error.Error, TypeError, ValueError, OSError) as error:
        return [f"cannot be replayed: {type(error).__name__}: {error}"]


def main(args: Args) -> int:
    """Replay; 1 if a record does not match, else 0."""
    chosen = choose(read_strictly(args.record), args)
    with blamed_on(str(args.record)):
        for index, record in chosen.items():
            check_trusted(record, f"record {index}", args.trust)
    failed = 0
    for index, record in tqdm(chosen.items(), "replaying"):
        found = differences(record, args.trust)
        failed += bool(found)
        title = f"record {index}: {record.policy}, {record.env_id}, seed {record.reset_seed}"
        how = how_compared(record)
        tqdm.write(f"{title}: {'does NOT match' if found else 'matches'} ({how})")
        for line in found:
            tqdm.write(f"  {line}")
    print(f"{len(chosen) - failed} of {len(chosen)} records match")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main, Args)
