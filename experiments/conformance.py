"""Compare what this project computes with figures of the paper's official implementation.

    python experiments/conformance.py
    python experiments/conformance.py --policy official_policy.pth --vectors official_vectors.json

Prints each key of the file of figures with its largest absolute error. Exits with 0 if none is
above 1e-5, with 1 if one is, or if a key is missing, unknown or cannot be compared. The keys are
explained in ``tests/data/README.md``.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import copy
import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from asg_env.cli import run
from asg_env.control.windows import paper_windows
from asg_env.files import BadFile
from asg_env.learning.reinforce import (
    PAPER,
    Learner,
    PolicyLoss,
    Rollout,
    Unrolled,
    discounted,
    evaluate_actions,
)
from asg_env.learning.run_folder import only_run
from asg_env.policies.recurrent import LearnedPolicy, RecurrentPolicy, load_policy
from asg_env.policies.schedules import warmup_poly_factor
from asg_env.ranges import MANY
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.sealed import parse_json
from asg_env.seeding import cpu_threads
from asg_env.tasks.guidance import guided_loss
from asg_env.training.optim import OfficialSGD, make_optimizer

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-5  # largest absolute error; the figures are float32
POLY_ITERATIONS = 1000  # length of the run that ``lr_warm_poly`` is about
WRONG = (
    *(KeyError, ValueError, TypeError, AttributeError, IndexError),
    *(RuntimeError, ArithmeticError, AssertionError, StopIteration),
)
"""What is raised where an entry of the file is not what it should be."""
INPUTS = ("obs", "actions", "rewards", "lr_meta")  # keys that are given, not compared


@dataclass(frozen=True)
class Args:
    """Compare this project with figures of the paper's official implementation."""

    policy: Path = ROOT / "tests/data/official_policy.pth"
    """Policy: a published checkpoint (.pth), or a folder that agents/reinforce.py wrote."""
    vectors: Path = ROOT / "tests/data/official_vectors.json"
    """The figures, JSON."""
    out: Path | None = None
    """Folder for conformance.json and conformance.md; none: only print."""


class Case:
    """A file of figures and the policy that it is about.

    Args:
        vectors: the file's content.
        policy: the policy; it is not changed.
    """

    def __init__(self, vectors: dict[str, Any], policy: RecurrentPolicy) -> None:
        self.vectors, self.policy = vectors, policy

    @cached_property
    def rollout(self) -> Rollout:
        """The T decisions, of one copy of an environment."""
        actions = torch.tensor(self.vectors["actions"], dtype=torch.int64)
        observations = floats(self.vectors["obs"])[: len(actions)]
        rewards = floats(self.vectors["rewards"])[:, None]
        return Rollout(observations[:, None], actions[:, None], rewards, torch.ones_like(rewards))

    @cached_property
    def unrolled(self) -> Unrolled:
        """The policy, unrolled over the decisions."""
        with torch.inference_mode():
            return evaluate_actions(self.policy, self.rollout, self.policy.initial_state(1))

    @cached_property
    def update(self) -> tuple[PolicyLoss, RecurrentPolicy]:
        """One update by the paper's REINFORCE, and the policy after it."""
        args = dataclasses.replace(PAPER, lr=float(self.vectors["lr_meta"]))
        learner = Learner(copy.deepcopy(self.policy), args)
        return learner.learn(self.rollout, learner.network.initial_state(1)), learner.network


def floats(values: Any) -> Tensor:
    """Numbers as a float32 tensor."""
    return torch.tensor(values, dtype=torch.float32)


# -- what is computed for each key -----------------------------------------------------------------


def act_logits(case: Case) -> Tensor:
    """The deployed policy decides about one observation after the other, (T, G, levels)."""
    policy = LearnedPolicy(case.policy)
    policy.begin([f"group {g}" for g in range(case.policy.args.groups)], [], 0)
    seen = case.rollout.observations[:, 0].numpy()
    return torch.stack([policy.logits(observation) for observation in seen]).log_softmax(-1)


def act_values(case: Case) -> Tensor:
    """Each value from a zero state, (T,): the decisions as copies of one."""
    seen = case.rollout.observations.transpose(0, 1)
    with torch.inference_mode():
        return case.policy.values(seen, case.policy.initial_state(seen.shape[1]))[0]


def unrolled_values(case: Case) -> Tensor:
    """Values (T,), the state carried."""
    with torch.inference_mode():
        return case.policy.values(case.rollout.observations, case.policy.initial_state(1))[:, 0]


def returns_gamma0(case: Case) -> Tensor:
    """Returns (T + 1,): the bootstrap of 0 counts as a reward after the last one."""
    rewards = torch.cat([case.rollout.rewards, torch.zeros(1, 1)])
    return discounted(rewards, PAPER.gamma)[:, 0]


def head0_bias(case: Case) -> Tensor:
    """The bias (levels,) of the first group's head after the update."""
    last = list(case.update[1].heads[0].children())[-1]
    assert isinstance(last, nn.Linear)
    return last.bias.detach()


def sgd_weights(case: Case) -> Tensor:
    """The weight vector after each step, (steps, size)."""
    given = case.vectors["sgd"]
    weight = nn.Parameter(floats(given["start"]))
    settings = {name: given[name] for name in ("momentum", "weight_decay")}
    optimizer = make_optimizer(OfficialSGD, [[weight]], given["lrs"][0], **settings)
    path = []
    for lr, gradient in zip(given["lrs"], given["grads"], strict=True):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = floats(gradient)
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path)


def poly_factors(case: Case) -> list[float]:
    """The factor at each of the file's iterations."""
    return [warmup_poly_factor(int(i) / POLY_ITERATIONS) for i in case.vectors["lr_warm_poly"]]


def windows(case: Case) -> list[list[int]]:
    """[epoch, length] of each window, one setting after the other."""
    rows: list[list[int]] = []
    for name in case.vectors["windows"]:
        setting = re.search(r"_(\d+)x(\d+)_min(\d+)$", name)
        if setting is None:
            raise ValueError(f"{name!r}: expected a name that ends with STEPSxEPOCHS_minSHORTEST")
        epoch, epochs, shortest = map(int, setting.groups())
        if not (0 < epoch <= MANY and epochs > 0 and epoch * epochs <= MANY and shortest > 0):
            raise ValueError(f"{name!r}: expected at least one, and at most {MANY} steps")
        lengths = paper_windows(epoch, epoch * epochs, shortest)
        starts = np.cumsum([0, *lengths[:-1]])
        rows += [[int(s) // epoch, length] for s, length in zip(starts, lengths, strict=True)]
    return rows


def guidance(case: Case) -> list[float]:
    """CE and KL."""
    given = case.vectors["guidance"]
    loss = guided_loss(
        floats(given["new_logits"]),
        torch.tensor(given["labels"], dtype=torch.int64),
        floats(given["teacher_logits"]),
        floats(given["student_old_logits"]),
    )
    return [float(loss.ce), float(loss.kl)]


class Check(NamedTuple):
    """What is ``computed`` for a key, and what its entry in the file says (``expected``)."""

    computed: Callable[[Case], Any]
    expected: Callable[[Any], Any] = lambda entry: entry


CHECKS: dict[str, Check] = {
    "act_logits": Check(act_logits),
    "act_values": Check(act_values),
    "unrolled_logits": Check(lambda case: case.unrolled.log_probs[:, 0]),
    "unrolled_log_prob": Check(lambda case: case.unrolled.chosen[:, 0]),
    "unrolled_values": Check(unrolled_values),
    "unrolled_entropy_mean": Check(lambda case: case.unrolled.entropy.mean()),
    "returns_gamma0": Check(returns_gamma0),
    "reinforce_loss": Check(lambda case: case.update[0].loss),
    "after_update_head0_bias": Check(head0_bias),
    "sgd": Check(sgd_weights, lambda entry: entry["weights"]),
    "lr_warm_poly": Check(poly_factors, lambda entry: list(entry.values())),
    "windows": Check(windows, lambda entry: [row for rows in entry.values() for row in rows]),
    "guidance": Check(guidance, lambda entry: [entry["ce"], entry["kl"]]),
}
"""Every key that is compared."""


# -- comparing -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table: the largest absolute error, or (``note``) why there is none."""

    key: str
    error: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is small enough; NaN is not."""
        return self.error <= TOLERANCE


def check(key: str, case: Case) -> Row:
    """Compare one key."""
    if key not in case.vectors:
        return Row(key, math.inf, "missing from the file")
    try:
        expected = np.asarray(CHECKS[key].expected(case.vectors[key]), dtype=np.float64)
        computed = np.asarray(CHECKS[key].computed(case), dtype=np.float64)
    except WRONG as error:
        return Row(key, math.inf, f"cannot be compared: {type(error).__name__}: {error}")
    if computed.shape != expected.shape:
        return Row(key, math.inf, f"computed {computed.shape}, the file has {expected.shape}")
    if not expected.size:
        return Row(key, math.inf, "the file's entry is empty")
    return Row(key, float(np.abs(computed - expected).max()))


def check_all(case: Case) -> list[Row]:
    """A row for each key to compare, each input that is missing and each unknown key."""
    missing = [Row(k, math.inf, "missing from the file") for k in INPUTS if k not in case.vectors]
    unknown = [k for k in case.vectors if k not in (*INPUTS, *CHECKS)]
    known = f"unknown key; known: {', '.join((*INPUTS, *CHECKS))}"
    rows = [check(key, case) for key in CHECKS]
    return [*rows, *missing, *(Row(key, math.inf, known) for key in unknown)]


def conformance_table(rows: list[Row]) -> Table:
    """For people, and (an error that is no number becomes null) for programs."""
    entries = [{"key": r.key, "error": r.error, "passed": r.passed, "note": r.note} for r in rows]
    columns = [
        named("key", "key"),
        Column("largest absolute error", text=lambda entry: f"{entry['error']:.1e}"),
        Column("", text=_verdict),
    ]
    return Table(entries, columns, by=("key",), head={"tolerance": TOLERANCE})


def _verdict(entry: Entry) -> str:
    return "ok" if entry["passed"] else f"FAILED {entry['note']}".strip()


def read_case(args: Args) -> Case:
    """The files of the command line.

    Raises:
        SystemExit: one is missing, or is not what is expected there.
    """
    try:
        vectors = parse_json(args.vectors.read_bytes(), f"--vectors {args.vectors}")
    except OSError as error:
        raise SystemExit(f"--vectors {args.vectors} cannot be read: {error.strerror}") from error
    except BadFile as error:
        raise SystemExit(f"--vectors {args.vectors} is no JSON file: {error}") from error
    if not isinstance(vectors, dict):
        raise SystemExit(f"--vectors {args.vectors}: expected a JSON object of figures by key")
    try:
        return Case(vectors, load_policy(args.policy))
    except (OSError, ValueError) as error:
        raise SystemExit(f"--policy: {error}") from error


def main(args: Args) -> int:
    """Compare everything; how many keys do not conform."""
    with cpu_threads(1):
        rows = check_all(read_case(args))
    table = conformance_table(rows)
    print(table.markdown() + "\n")
    if args.out is not None:
        with only_run(args.out):
            table.write(args.out, "conformance")
    failed = [row.key for row in rows if not row.passed]
    verdict = f"within {TOLERANCE}" if not failed else f"FAILED: {', '.join(failed)}"
    print(f"{len(rows) - len(failed)} of {len(rows)} keys conform; {verdict}")
    return len(failed)


def exit_code(args: Args) -> int:
    """0 if everything conforms, else 1."""
    return min(1, main(args))


if __name__ == "__main__":
    run(exit_code, Args)
