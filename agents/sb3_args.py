"""The arguments of agents/sb3.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from asg_env.cli import EnvKwargs, check_at_least
from asg_env.envs.arguments import check_choice
from asg_env.policies.sb3_algorithms import ALGORITHMS, Algorithm, Values


@dataclass(frozen=True)
class Args:
    """Meta-train a policy with an algorithm of SB3, then compare it with every baseline."""

    algo: str = "ppo"
    """A row of ALGORITHMS in agents/sb3_algorithms.py."""
    hyperparameters: dict[str, int | float | str] = field(default_factory=dict)
    """Values that replace the row's, as pairs: --hyperparameters learning_rate 1e-3 episodes 4."""
    env: str = "ASG-Digits-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 optimizer sgd."""
    variant: str | None = "train"
    """Variant to meta-train on; "train" draws one for each episode. None: the task itself."""
    test_variant: str | None = "test"
    """Variant to compare on; "test" draws one for each seed. None: the task itself."""
    out: Path = Path("runs/sb3")
    """Folder for everything it writes."""
    seed: int = 0
    """Seed of the policy, its samples and the training episodes."""
    episodes: int = 2080
    """Meta-training episodes of all copies together, rounded up to whole updates."""
    num_envs: int = 8
    """Environment copies."""
    common_seeds: bool | None = None
    """All copies play the same episodes (common random numbers); False: each has its own. None: as
    the algorithm's row says."""
    workers: Literal["processes", "none"] = "processes"
    """Where the copies run: a process each, or all in this one."""
    observation: Literal["layerwise", "paper"] = "layerwise"
    """Observation set."""
    eval_every: int = 416
    """Episodes between evaluations, greedy, on held-out seeds of the training variant (they choose
    "best") and of the test variant (they are logged only); 0: never."""
    eval_episodes: int = 8
    """Episodes of each such evaluation, on each variant."""
    select: Literal["last", "best"] = "last"
    """The policy that is deployed: the last one, or the best one on held-out training episodes."""
    snapshots: int = 0
    """Policies kept on the way, at equal distances: snapshots/UPDATE.safetensors; 0: none."""
    save_every: int = 1
    """Updates between checkpoints."""
    greedy: bool = True
    """Deploy the policy without exploring; False: sampled. The comparison has both."""
    eval_seeds: int = 48
    """Comparison episodes of each policy, spread over the test variants."""


def check(args: Args) -> tuple[Algorithm, Values]:
    """The algorithm and its hyperparameters; SystemExit if an argument is wrong."""
    check_at_least(1, args, "episodes", "num_envs", "eval_episodes", "save_every", "eval_seeds")
    check_at_least(0, args, "seed", "eval_every", "snapshots")
    try:
        check_choice("--algo", args.algo, ALGORITHMS)
        if args.select == "best" and not args.eval_every:
            raise ValueError("--select best needs evaluations: --eval-every is 0")
        algorithm = ALGORITHMS[args.algo]
        return algorithm, algorithm.values(args.hyperparameters)
    except ValueError as error:
        raise SystemExit(str(error)) from error
