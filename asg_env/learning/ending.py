"""How a training ends: what it learned is compared with the schedules, and there is a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import compare, drawn
from asg_env.learning.copies import EVAL_SEED
from asg_env.policies.base import Policy
from asg_env.policies.schedules import COMPARED, SchedulePolicy
from asg_env.reports.comparison import write_report


def compare_with_schedules(
    policies: Sequence[Policy], setup: EnvSetup, variant: str | None, count: int, out: Path
) -> str:
    """Play the policies and the schedules of COMPARED, and report.

    Args:
        policies: the first one is what the others are compared with.
        setup: the environment; the policies' own arguments are added.
        variant: what is played; "test" draws one for each seed.
        count: episodes of each policy, from EVAL_SEED on.
        out: where the records, the table and the plots go.

    Returns:
        The table, Markdown.
    """
    everyone = [*policies, *(SchedulePolicy(name) for name in COMPARED)]
    episodes = drawn(variant, [EVAL_SEED + i for i in range(count)])
    records = compare(everyone, setup, episodes, out / "records.jsonl")
    return write_report(records, out, reference=policies[0].name)
