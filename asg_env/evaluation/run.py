"""One fine-tuning run in a folder: it can be killed at any moment, and goes on where it was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asg_env.board import Board
from asg_env.deploy import save_student
from asg_env.envs import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import Decision, decide, noted_setup, record_of
from asg_env.evaluation.records import Record
from asg_env.evaluation.selection import SELECTIONS, Evaluation, Selection
from asg_env.files import BadFile
from asg_env.policies.base import Policy, check_policy
from asg_env.sealed import line_of, unsealed, whole_lines
from asg_env.typed import from_fields
from asg_env.writing import append_lines, drop_leftovers, keep_lines


class DamagedRun(ValueError):
    """A run's files do not fit together, or not the run that is to go on."""


@dataclass(frozen=True)
class Row:
    """A line of ``metrics.jsonl``: a moment at which the policy is asked, or the end.

    ``steps`` are optimizer steps done; ``outcome`` is what the last decision brought (None at the
    start), ``rewards`` all the terms of it; ``evaluation`` by split, where there was one, and
    ``similarity`` to the start, by measure and layer group (FinetuneEnv.similarity), beside it.
    """

    decision: int
    steps: int
    epoch: float
    losses: dict[str, float]
    outcome: Decision | None
    rewards: dict[str, float]
    evaluation: dict[str, dict[str, float]] | None
    observation: list[float]
    similarity: dict[str, dict[str, float]] | None = None

    @staticmethod
    def from_json(line: str | bytes, where: str) -> Row:
        """A row of its line; BadFile if it is none.

        Args:
            line: one JSON object.
            where: the file and the line, for the message.
        """
        fields = unsealed(line, where)
        try:
            return from_fields(Row, fields)
        except ValueError as error:
            raise BadFile(f"{where} is no row of a run: {error}") from error

    @property
    def observed(self) -> np.ndarray:
        """The observation, float32."""
        return np.asarray(self.observation, dtype=np.float32)

    @property
    def error_type(self) -> str | None:
        """Why the run ended early, if it did."""
        return self.outcome.error_type if self.outcome is not None else None

    def scalars(self, groups: list[str]) -> dict[str, float]:
        """All its numbers but the observation, by TensorBoard's names."""
        values = {f"losses/{k}": v for k, v in self.losses.items()}
        values |= {f"rewards/{k}": v for k, v in self.rewards.items()}
        if self.outcome is not None:
            values["reward"] = self.outcome.reward
            scales = zip(groups, self.outcome.lr_scale, strict=True)
            values |= {f"lr_scale/{group}": scale for group, scale in scales}
        for split, result in (self.evaluation or {}).items():
            values |= {f"{split}/{k}": v for k, v in result.items()}
        for measure, by_group in (self.similarity or {}).items():
            values |= {f"{measure}/{group}": v for group, v in by_group.items()}
        return values


@dataclass
class Run:
    """A run: ``train()`` begins or resumes it.

    A snapshot, and with it all that a resumed run needs, is written wherever there is an
    evaluation: at the start (with ``window="paper"``, after its first window), at the first
    decision at or after each epoch's end, and at the end.

    Args:
        folder: where its files are.
        setup: the environment's; TypeError or ValueError if no record could note an argument.
        env: what ``setup`` made, unwrapped.
        policy: what sets the learning rates; TypeError if it is none.
        seed: of the reset and of the policy.
        select: which student is kept: a key of SELECTIONS, ``"module:attribute"``, a Selection or
            a class of one; ValueError if it is unknown, TypeError if it lacks something.
        save_every: decisions between further snapshots; 0: none.
    """

    folder: Path
    setup: EnvSetup
    env: FinetuneEnv
    policy: Policy
    seed: int = 0
    select: str | Selection | type[Selection] = "last"
    save_every: int = 0

    def __post_init__(self) -> None:
        self.setup = noted_setup(self.setup)
        self.selection = SELECTIONS.find(self.select)
        check_policy(self.policy)
        self.rows: list[Row] = []
        self.metrics = self.folder / "metrics.jsonl"
        self.snapshot = self.folder / "snapshot.safetensors"
        self.student = self.folder / "student.safetensors"

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those of the run so far."""
        budget = self.env.config.budget
        return [
            Evaluation(r.steps, r.epoch, r.steps / budget, **r.evaluation)
            for r in self.rows
            if r.evaluation is not None
        ]

    def train(self) -> Record:
        """Begin or resume, and go on to the end.

        Raises:
            DamagedRun: the folder's files do not fit, or the policy is not the one that began it.
        """
        self.policy.begin(self.env.group_names, self.env.observation_names, self.seed)
        drop_leftovers(self.folder)
        if self.snapshot.exists():
            self._resume()
        first = self.rows[-1].steps + 1 if self.rows else 0
        with Board(self.folder, first) as board:
            if not self.rows:
                self._begin(board)
            self._loop(board)
        return self._record()

    # -- begin and resume -------------------------------------------------------------------------

    def _begin(self, board: Board) -> None:
        keep_lines(self.metrics, 0)
        observation, info = self.env.reset(seed=self.seed)
        self._note(board, observation, info, None)

    def _resume(self) -> None:
        """Take up the snapshot, the rows up to it, and the policy's state of then."""
        try:
            _, info = self.env.load(self.snapshot)
            count = info["decision"] + 1
            lines = whole_lines(self.metrics)[:count]
            self.rows = [Row.from_json(line, where) for where, line in lines]
        except (FileNotFoundError, ValueError) as error:
            raise DamagedRun(f"{self.folder} holds a damaged run: {error}") from error
        if len(self.rows) < count:
            raise DamagedRun(f"{self.metrics} has only {len(lines)} of at least {count} lines")
        self._check_rows(info)
        self._recall()
        keep_lines(self.metrics, count)
        self._keep_student()  # a kill may have come between the snapshot and this

    def _check_rows(self, info: dict[str, Any]) -> None:
        """Raise DamagedRun unless the rows are those of the snapshot's run."""
        width, groups = len(self.env.observation_names), len(self.env.group_names)
        for k, row in enumerate(self.rows):
            fits = row.decision == k and len(row.observation) == width
            fits &= row.outcome is None or len(row.outcome.lr_scale) == groups
            if not fits or (row.outcome is None) != (k == 0):
                raise DamagedRun(f"{self.metrics}, line {k + 1} is no row of this run")
        if self.rows[-1].steps != info["steps"] or repr(self.rows[-1].losses) != repr(
            info["losses"]
        ):
            raise DamagedRun(f"{self.metrics} and {self.snapshot.name} are of different runs")

    def _recall(self) -> None:
        """Show the policy all that it has seen, so that its state is what it was."""
        for before, after in pairwise(self.rows):
            action = self.policy.act(before.observed).tolist()
            if after.outcome is None or action != after.outcome.action:
                raise DamagedRun(
                    f"policy {self.policy.name!r} no longer decides as it did in {self.folder}: "
                    "was its file changed?"
                )

    # -- going on ---------------------------------------------------------------------------------

    def _loop(self, board: Board) -> None:
        with tqdm(
            total=self.env.config.budget, initial=self.rows[-1].steps, desc="fine-tuning"
        ) as bar:
            while not ((past := self.rows[-1].outcome) and past.last):
                outcome, seen, info = decide(self.env, self.policy, self.rows[-1].observed)
                self._note(board, seen, info, outcome)
                bar.update(outcome.steps - bar.n)
                losses = self.rows[-1].losses
                bar.set_postfix({k: f"{losses[k]:.3f}" for k in ("train_ce", "train_kl", "phi")})

    def _note(
        self, board: Board, observation: np.ndarray, info: dict[str, Any], outcome: Decision | None
    ) -> None:
        """Log a moment; where it is due, evaluate and save."""
        due = self._due(info["steps"], outcome)
        row = Row(
            decision=info["decision"],
            steps=info["steps"],
            epoch=info["steps"] / self.env.epoch_length,
            losses=info["losses"],
            outcome=outcome,
            rewards=info["rewards"],
            evaluation=self._evaluate() if due else None,
            observation=observation.tolist(),
            similarity=self.env.similarity() if due else None,
        )
        self.rows.append(row)
        self._write_line(row)
        board.add(row.scalars(self.env.group_names), row.steps)
        if row.evaluation or (self.save_every and row.decision % self.save_every == 0):
            self.env.save(self.snapshot)
            self._keep_student()

    def _due(self, steps: int, outcome: Decision | None) -> bool:
        """Whether to evaluate: at the start, at the end, and where an epoch has ended."""
        length = self.env.epoch_length
        return outcome is None or outcome.last or steps // length > self.rows[-1].steps // length

    def _evaluate(self) -> dict[str, dict[str, float]]:
        return {split: self.env.evaluate(split) for split in ("inner_valid", "test")}

    def _write_line(self, row: Row) -> None:
        line = line_of(dataclasses.asdict(row))
        append_lines(self.metrics, line, sync=True)  # before the snapshot that relies on it

    def _keep_student(self) -> None:
        """Write the student if the rule chooses the newest evaluation, and that is of now."""
        rows = self.evaluations
        if self.rows[-1].evaluation and self.selection.choose(rows) == len(rows) - 1:
            rule = self.select if isinstance(self.select, str) else self.selection.name
            facts = {"rule": rule, "steps": rows[-1].steps, "epoch": rows[-1].epoch}
            save_student(self.student, self.env, self.setup.env, dict(self.setup.kwargs), facts)

    def _record(self) -> Record:
        decisions = [row.outcome for row in self.rows if row.outcome is not None]
        final = dict(self.evaluations[-1].test)
        moments = [(row.steps, row.losses) for row in self.rows]
        return record_of(self.env, self.policy, self.setup, self.seed, moments, decisions, final)
