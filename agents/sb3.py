"""Meta-train with an algorithm of Stable-Baselines3, and compare on the test variants.

    python agents/sb3.py                                    # PPO
    python agents/sb3.py --algo sac --out runs/sac          # or a2c, recurrent_ppo, trpo, td3
    python agents/sb3.py --hyperparameters learning_rate 1e-3 n_epochs 5 --out runs/other
    python experiments/finetune.py --policy runs/sb3        # deploy what it learned

The algorithms, some of them sb3-contrib's, and their hyperparameters, with a sentence for each, are
the rows of agents/sb3_algorithms.py. ``--episodes`` counts as ``updates * num_envs`` of
agents/reinforce.py does, and the variants and the comparison at the end are the same.

Interrupt it whenever you like: the same command resumes, and ends with the same bits. It writes the
policy (safetensors + JSON, the statistics of the observations included), ``best.*`` (the policy
with the best return on held-out seeds of the *training* variants), metrics (JSONL and TensorBoard),
the records, the table and the plots. Nothing that it writes or reads is a pickle.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.reinforce import EVAL_SEED, OWN_OPTIONS
from agents.sb3_args import Args, check
from agents.sb3_model import Plan, end, make_envs, make_model, make_plan, policy_of
from agents.sb3_progress import Progress
from asg_env.cli import fitting_variant, make_env, parse, refuse_env_kwargs
from asg_env.evaluation.compare import compare, drawn
from asg_env.learning.checkpoint import keep_lines, open_run
from asg_env.learning.sb3_state import read_state
from asg_env.policies.base import Policy
from asg_env.policies.sb3 import SB3Policy, load_sb3_policy, save_sb3_policy
from asg_env.policies.sb3_algorithms import Values
from asg_env.policies.schedules import COMPARED, SchedulePolicy
from asg_env.reports.comparison import write_report
from asg_env.seeding import isolated_rng


def train(args: Args) -> SB3Policy:
    """Meta-train, resuming from the checkpoint in ``args.out`` if there is one."""
    algorithm, values = check(args)
    torch.set_num_threads(1)
    envs = make_envs(args, algorithm, values)
    try:
        with isolated_rng(args.seed):  # SB3 draws from the global generators
            plan = make_plan(args, values, envs)
            model = make_model(args, algorithm, values, envs, plan)
            learn(args, values, model, plan)
            save_sb3_policy(policy_of(model, args, values), args.out)
    except BaseException:
        end(envs)
        raise
    envs.close()
    stem = "policy" if args.select == "last" else "best"
    if stem == "best":
        save_sb3_policy(load_sb3_policy(args.out / "best.safetensors"), args.out)
    return load_sb3_policy(args.out / "policy.safetensors", args.greedy, args.algo)


def learn(args: Args, values: Values, model: BaseAlgorithm, plan: Plan) -> None:
    """Go on from the checkpoint, or begin, to the last update."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    fresh = 0, {"episodes": 0, "optimizer_steps": 0, "best": None}
    done, notes = read_state(model, args.out) or fresh
    keep_lines(args.out / "metrics.jsonl", done)
    left = plan.env_steps - model.num_timesteps
    if left > 0:
        with SummaryWriter(args.out / "tensorboard", purge_step=done + 1) as board:
            callback = Progress(args, values, plan, board, done, notes)
            model.learn(left, callback, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]


def fitted(args: Args) -> Args:
    """The same, with None for variants that the task does not have; SystemExit if one is bad."""
    algorithm, _ = check(args)
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    kwargs = {"observation": args.observation, "action": algorithm.action, **args.env_kwargs}
    task = make_env(args.env, kwargs).task
    return dataclasses.replace(
        args,
        variant=fitting_variant(task, "--variant", args.variant),
        test_variant=fitting_variant(task, "--test-variant", args.test_variant),
    )


def noted(args: Args) -> dict[str, Any]:
    """What a folder remembers: the arguments and every hyperparameter's value."""
    _, values = check(args)
    return {**dataclasses.asdict(args), "values": values._asdict()}


def main(args: Args) -> None:
    """Meta-train, compare with every baseline on the test variants, and report."""
    args = fitted(args)
    open_run(args.out, noted(args))
    policy = train(args)
    other = "sampled" if args.greedy else "greedy"
    path = args.out / "policy.safetensors"
    policies: list[Policy] = [
        policy,
        load_sb3_policy(path, not args.greedy, f"{args.algo}_{other}"),
        *(SchedulePolicy(name) for name in COMPARED),
    ]
    episodes = drawn(args.test_variant, [EVAL_SEED + i for i in range(args.eval_seeds)])
    records = compare(
        *(policies, args.env, dict(args.env_kwargs), episodes),
        args.out / "records.jsonl",
    )
    print(write_report(records, args.out, reference=args.algo))
    print(f"everything is in {args.out}")


if __name__ == "__main__":
    try:
        main(parse(Args, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
