"""A cautious start for a policy that is to learn relative learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from asg_env.control.observations import STEP_DECADES
from asg_env.policies.recurrent import GLOBAL_SIGNALS, RecurrentPolicy

TARGET = -2.0  # log10 of the relative weight change of an optimizer step that the start aims at
FALL = 1.0  # how far the target has fallen at the end, decades
GAIN = 0.85  # 4 * GAIN * decades is about the logit of the level that asks for them
WIDTH = -1.2  # of the Gaussian: a width of about .25


def start_cautious(network: RecurrentPolicy, names: Sequence[str]) -> None:
    """Make an ordinal policy of the seven factors hold each group's ``step_ratio`` near a target
    that falls, as LARS does; what it learns starts from there.

    Args:
        network: with a shared linear head and ``skip``; changed in place.
        names: of the observation.
    """
    args = network.args
    head: Any = list(network.heads[0].children())[-1]
    signals = [name.partition("/")[0] for name in names]
    own = list(dict.fromkeys(signals[GLOBAL_SIGNALS:])).index("step_ratio")
    memory = GLOBAL_SIGNALS * args.hidden
    with torch.no_grad():
        head.weight[0, memory + GLOBAL_SIGNALS + own] = -STEP_DECADES * GAIN
        head.weight[0, memory + signals.index("progress")] = -FALL * GAIN
        head.bias[0] = (TARGET + STEP_DECADES) * GAIN
        head.bias[1] = WIDTH
