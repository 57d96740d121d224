"""Meta-train with an algorithm of Stable-Baselines3, and compare on the test variants.

    python agents/sb3.py                                    # PPO
    python agents/sb3.py --algo sac --out runs/sac          # or a2c, recurrent_ppo, trpo, td3
    python agents/sb3.py --hyperparameters learning_rate 1e-3 n_epochs 5 --out runs/other
    python experiments/finetune.py --policy runs/sb3        # deploy what it learned

The algorithms, some of them sb3-contrib's, and their hyperparameters, with a sentence for each, are
the rows of asg_env/policies/sb3_algorithms.py. ``--episodes`` counts as ``updates * num_envs`` of
agents/reinforce.py does, and the variants and the comparison at the end are the same.

Interrupt it whenever you like: the same command resumes, and ends with the same bits. It writes the
policy (safetensors + JSON, the statistics of the observations included), ``best.*`` (the policy
with the best return on held-out seeds of the *training* variants), metrics (JSONL and TensorBoard),
the records, the table and the plots. Nothing that it writes or reads is a pickle.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize
from tqdm import tqdm

from asg_env import cli
from asg_env.cli import EnvKwargs
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.records import Record
from asg_env.learning.copies import VALID_SEED, closing
from asg_env.learning.ending import compare_with_schedules
from asg_env.learning.log import Log
from asg_env.learning.run_folder import due, only_run
from asg_env.learning.sb3_copies import make_sb3_copies
from asg_env.learning.sb3_state import read_state, write_state
from asg_env.learning.sb3_updates import Linear, Plan, UpdateCallback
from asg_env.policies.sb3 import SB3Policy, load_sb3_policy, network_kwargs, save_sb3_policy
from asg_env.policies.sb3_algorithms import ALGORITHMS, Algorithm, Values
from asg_env.ranges import SEED, whole
from asg_env.registry import check_choice
from asg_env.seeding import isolated_rng


@dataclass(frozen=True)
class Args:
    """Meta-train a policy with an algorithm of SB3, then compare it with every baseline."""

    algo: str = "ppo"
    """A row of ALGORITHMS in asg_env/policies/sb3_algorithms.py."""
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
    seed: Annotated[int, SEED] = 0
    """Seed of the policy, its samples and the training episodes."""
    episodes: Annotated[int, whole(1)] = 2080
    """Meta-training episodes of all copies together, rounded up to whole updates."""
    num_envs: Annotated[int, whole(1, 1024)] = 8
    """Environment copies, no more than episodes."""
    common_seeds: bool | None = None
    """All copies play the same episodes (common random numbers); False: each has its own. None: as
    the algorithm's row says."""
    workers: Literal["processes", "none"] = "processes"
    """Where the copies run: a process each, or all in this one."""
    observation: Literal["layerwise", "paper"] = "layerwise"
    """Observation set."""
    eval_every: Annotated[int, whole(0)] = 416
    """Episodes between evaluations, greedy, on held-out seeds of the training variant (they choose
    "best") and of the test variant (they are logged only); 0: never."""
    eval_episodes: Annotated[int, whole(1)] = 8
    """Episodes of each such evaluation, on each variant."""
    select: Literal["last", "best"] = "last"
    """The policy that is deployed: the last one, or the best one on held-out training episodes."""
    snapshots: Annotated[int, whole(0)] = 0
    """Policies kept on the way, at equal distances: snapshots/UPDATE.safetensors; 0: none."""
    save_every: Annotated[int, whole(1)] = 1
    """Updates between checkpoints."""
    greedy: bool = True
    """Deploy the policy without exploring; False: sampled. The comparison has both."""
    eval_seeds: Annotated[int, whole(1)] = 48
    """Comparison episodes of each policy, spread over the test variants."""
    compare: Literal["baselines", "none"] = "baselines"
    """What the learned policy is compared with at the end."""


def check(args: Args) -> tuple[Algorithm, Values]:
    """The algorithm and its hyperparameters; SystemExit if an argument is wrong."""
    cli.check_ranges(args)
    try:
        check_choice("--algo", args.algo, ALGORITHMS)
        if args.select == "best" and not args.eval_every:
            raise ValueError("--select best needs evaluations: --eval-every is 0")
        algorithm = ALGORITHMS[args.algo]
        return algorithm, algorithm.values(args.hyperparameters)
    except ValueError as error:
        raise SystemExit(str(error)) from error


# -- the environment copies, and the algorithm that learns from them -------------------------------


def make_envs(args: Args, algorithm: Algorithm, values: Values) -> VecNormalize:
    """The environment copies, monitored and normalised."""
    setup = EnvSetup(args.env, {"observation": args.observation, "variant": args.variant})
    setup = setup.updated(**args.env_kwargs).updated(action=algorithm.action)
    common = algorithm.common_seeds if args.common_seeds is None else args.common_seeds
    keys = [(args.seed,) if common else (args.seed, 1 + i) for i in range(args.num_envs)]
    return VecNormalize(
        VecMonitor(make_sb3_copies(setup, keys, args.workers == "none")),
        norm_reward=values.run["normalise_reward"],
        gamma=values.model["gamma"],
    )


def make_plan(args: Args, values: Values, envs: VecEnv) -> Plan:
    """The plan of a training."""
    each = values.run["episodes"]
    updates = math.ceil(args.episodes / (each * args.num_envs))
    return Plan(envs.get_attr("decisions", 0)[0], each, args.num_envs, updates)


def make_model(
    args: Args, algorithm: Algorithm, values: Values, envs: VecEnv, plan: Plan
) -> BaseAlgorithm:
    """SB3's object, untrained. It seeds the global generators."""
    run, model = values.run, dict(values.model)
    if run["linear"]:
        model["learning_rate"] = Linear(model["learning_rate"], plan.updates)
    if "warmup" in run:  # off-policy
        model |= {
            "train_freq": (plan.rollout, "step"),
            "learning_starts": run["warmup"] * plan.decisions,
            "gradient_steps": run["replays"] * plan.rollout * plan.copies,
            "buffer_size": plan.env_steps,  # nothing is forgotten
        }
    else:
        model["n_steps"] = plan.rollout
    if "batches" in run:
        model["batch_size"] = max(2, plan.rollout * plan.copies // run["batches"])
    if "noise" in run:
        groups = envs.action_space.shape[0]  # type: ignore[index]
        model["action_noise"] = NormalActionNoise(np.zeros(groups), np.full(groups, run["noise"]))
    made = algorithm.load()(
        *(algorithm.policy, envs),
        policy_kwargs=network_kwargs(network_arguments(values)),
        seed=args.seed,
        device="cpu",
        **model,
    )
    made.set_logger(Logger(None, []))  # the callback reads what is recorded, and writes it
    return made


def network_arguments(values: Values) -> dict[str, Any]:
    """What the policy's network is made of."""
    return {**values.network, "net_arch": [values.run["hidden"]] * values.run["layers"]}


def policy_of(model: BaseAlgorithm, args: Args, values: Values) -> SB3Policy:
    """The policy as it is now, to be played, with the statistics as they are now."""
    return SB3Policy.of(
        model,
        algorithm=args.algo,
        observation=args.observation,
        network=network_arguments(values),
        noise=values.run.get("noise", 0.0),
        greedy=args.greedy,
    )


# -- between two updates ---------------------------------------------------------------------------


class Progress(UpdateCallback):
    """Logs, evaluates and saves between two updates.

    Args:
        args: the run's.
        values: the hyperparameters.
        plan: the updates.
        log: the run's.
        done: updates done before.
        notes: what a checkpoint remembers: totals, and the best evaluation.
    """

    def __init__(
        self, args: Args, values: Values, plan: Plan, log: Log, done: int, notes: dict[str, Any]
    ) -> None:
        super().__init__(done, notes)
        self.args, self.values, self.plan, self.log = args, values, plan, log
        self.bar = tqdm(total=plan.updates, initial=done, desc="meta-training")

    def after_update(self, row: dict[str, Any]) -> None:
        """Log, evaluate and save where it is due."""
        args, last = self.args, self.update == self.plan.updates
        if args.eval_every and (last or self.plan.crosses(self.update, args.eval_every)):
            row |= self._evaluate()
        self.log.write(row)
        if due(self.update, self.plan.updates, args.snapshots):
            policy = policy_of(self.model, args, self.values)
            save_sb3_policy(policy, args.out / "snapshots", f"{self.update:06d}")
        if self.update % args.save_every == 0 or last:
            write_state(self.model, args.out, self.update, self.notes)
        self.bar.update()
        self.bar.set_postfix({"return": f"{row['return']:.3f}"})
        if last:
            self.bar.close()

    def _evaluate(self) -> dict[str, float]:
        """Play on held-out seeds, and keep the best policy; what to log."""
        policy = policy_of(self.model, self.args, self.values)
        valid = self._play(policy, self.args.variant, VALID_SEED)
        test = self._play(policy, self.args.test_variant, VALID_SEED)
        found = {"valid_return": mean([r.episode_return for r in valid])}
        found["test_return"] = mean([r.episode_return for r in test])
        for key in ("accuracy", "retention"):
            found[f"test_{key}"] = mean([r.final.get(key, float("nan")) for r in test])
        if self.notes["best"] is None or found["valid_return"] > self.notes["best"]:
            self.notes["best"] = found["valid_return"]  # the test variants choose nothing
            save_sb3_policy(policy, self.args.out, "best")
        return found

    def _play(self, policy: SB3Policy, variant: str | None, first: int) -> list[Record]:
        setup = EnvSetup(self.args.env, {**self.args.env_kwargs, **policy.env_kwargs})
        setup = setup.updated(variant=variant)
        env = setup.make()
        greedy, policy.greedy = policy.greedy, True
        seeds = range(first, first + self.args.eval_episodes)
        try:
            return [run_episode(env, policy, setup, seed) for seed in seeds]
        finally:
            policy.greedy = greedy
            env.close()


def mean(values: list[float]) -> float:
    """As a float."""
    return float(np.mean(values))


# -- the job ---------------------------------------------------------------------------------------


def train(args: Args) -> SB3Policy:
    """Meta-train, resuming from the checkpoint in ``args.out`` if there is one."""
    algorithm, values = check(args)
    torch.set_num_threads(1)
    envs = make_envs(args, algorithm, values)
    with closing(envs), isolated_rng(args.seed):  # SB3 draws from the global generators
        plan = make_plan(args, values, envs)
        model = make_model(args, algorithm, values, envs, plan)
        learn(args, values, model, plan)
        save_sb3_policy(policy_of(model, args, values), args.out)
    stem = "policy" if args.select == "last" else "best"
    if stem == "best":
        save_sb3_policy(load_sb3_policy(args.out / "best.safetensors"), args.out)
    return load_sb3_policy(args.out / "policy.safetensors", args.greedy, args.algo)


def learn(args: Args, values: Values, model: BaseAlgorithm, plan: Plan) -> None:
    """Go on from the checkpoint, or begin, to the last update."""
    fresh = 0, {"episodes": 0, "optimizer_steps": 0, "best": None}
    done, notes = read_state(model, args.out) or fresh
    left = plan.env_steps - model.num_timesteps
    if left > 0:
        with Log(args.out, done) as log:
            callback = Progress(args, values, plan, log, done, notes)
            model.learn(left, callback, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]


def resolve(args: Args) -> Args:
    """The arguments with counts and variants as they will be used; SystemExit if one is wrong."""
    algorithm, _ = check(args)
    cli.refuse_env_kwargs(args.env_kwargs, cli.LEARNERS_OWN)
    kwargs = {"observation": args.observation, "action": algorithm.action, **args.env_kwargs}
    args = dataclasses.replace(args, num_envs=min(args.num_envs, args.episodes))
    return cli.fit_variants(args, cli.check_env(EnvSetup(args.env, kwargs)).task)


def main(args: Args) -> None:
    """Meta-train, compare with every baseline on the test variants, and report."""
    args = resolve(args)
    noted = {**dataclasses.asdict(args), "values": check(args)[1]._asdict()}
    del noted["compare"]  # may change when the same command resumes
    with only_run(args.out, noted):
        policy = train(args)
        if args.compare == "baselines":
            name = f"{args.algo}_{'sampled' if args.greedy else 'greedy'}"
            other = load_sb3_policy(args.out / "policy.safetensors", not args.greedy, name)
            setup, count = EnvSetup(args.env, args.env_kwargs), args.eval_seeds
            both = [policy, other]
            print(compare_with_schedules(both, setup, args.test_variant, count, args.out))
        print(f"everything is in {args.out}")


if __name__ == "__main__":
    cli.run(main, Args)
