"""What policies see: observations of whole episodes, kept in a file that a call can resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import Episode
from asg_env.evaluation.parallel import run_parallel
from asg_env.evaluation.play import decide
from asg_env.locks import alone
from asg_env.policies.base import Policy
from asg_env.sealed import line_of, unsealed, whole_lines
from asg_env.writing import append_lines


def watch(policy: Policy, setup: EnvSetup, episode: Episode) -> dict[str, Any]:
    """Play an episode; who played, its seed and the observations that were acted on."""
    env: Any = setup.updated(**policy.env_kwargs, variant=episode.variant).make().unwrapped
    observation, _ = env.reset(seed=episode.seed)
    policy.begin(env.group_names, env.observation_names, episode.seed)
    seen, last = [], False
    while not last:
        seen.append(observation.tolist())
        decision, observation, _ = decide(env, policy, observation)
        last = decision.last
    env.close()
    return {"policy": policy.digest, "seed": episode.seed, "observations": seen}


def observations_of(
    policies: Sequence[Policy],
    setup: EnvSetup,
    episodes: Sequence[Episode],
    path: Path,
    processes: int = 2,
) -> list[list[np.ndarray]]:
    """What each policy sees in each episode: by policy and episode, (decisions, D) float32.

    Args:
        policies: each with a digest of its own.
        setup: the environment; the policies' own arguments are added.
        episodes: each with a seed of its own.
        path: a JSONL file; what is there already is not played again.
        processes: episodes at a time.
    """
    with alone(path):
        rows = [unsealed(line, where) for where, line in whole_lines(path)]
        found = {(row["policy"], row["seed"]): row["observations"] for row in rows}
        wanted = [(p, setup, e) for e in episodes for p in policies]
        left = [job for job in wanted if (job[0].digest, job[2].seed) not in found]

        def keep(row: dict[str, Any]) -> None:
            append_lines(path, line_of(row))
            found[row["policy"], row["seed"]] = row["observations"]

        if left:
            run_parallel(watch, left, processes, keep)
    return [[np.asarray(found[p.digest, e.seed], np.float32) for e in episodes] for p in policies]
