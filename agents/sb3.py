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
import json
import math
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import RescaleAction
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecMonitor,
    VecNormalize,
)
from tqdm import tqdm

import asg_env  # noqa: F401 - registers the ids
from agents.baselines import COMPARED, SchedulePolicy
from agents.checkpoint import keep_lines, open_run
from agents.evaluate import compare
from agents.reinforce import EVAL_SEED
from agents.report import finite, write_report
from agents.sb3_algorithms import ALGORITHMS, Algorithm, Values
from agents.sb3_policy import Description, SB3Policy, load_sb3_policy, save_sb3_policy
from agents.sb3_state import Copy, read_state, write_state
from asg_env.envs.config import check_choice
from asg_env.records import Policy, Record, run_episode
from asg_env.seeding import isolated_rng

VALID_SEED = 2 * EVAL_SEED  # the first seed of the evaluations during the training


@dataclass(frozen=True)
class Args:
    """Meta-train a policy with an algorithm of SB3, then compare it with every baseline."""

    algo: str = "ppo"
    """A row of agents/sb3_algorithms.py: ppo, a2c, recurrent_ppo, trpo, sac, td3."""
    hyperparameters: dict[str, int | float | str] = field(default_factory=dict)
    """Values that replace the row's, as pairs: --hyperparameters learning_rate 1e-3 episodes 4."""
    env: str = "ASG-Digits-v0"
    """Environment id."""
    env_kwargs: dict[str, int | float | str] = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 optimizer sgd."""
    variant: str = "train"
    """Variant to meta-train on; "train" draws one for each episode."""
    test_variant: str = "test"
    """Variant to compare on; "test" draws one for each seed."""
    out: Path = Path("runs/sb3")
    """Folder for everything it writes."""
    seed: int = 0
    """Seed of the policy, its samples and the training episodes."""
    episodes: int = 2080
    """Meta-training episodes of all copies together, rounded up to whole updates."""
    num_envs: int = 8
    """Environment copies."""
    common_seeds: bool = True
    """All copies play the same episodes (common random numbers); False: each has its own."""
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
    save_every: int = 1
    """Updates between checkpoints."""
    greedy: bool = True
    """Deploy the policy without exploring; False: sampled. The comparison has both."""
    eval_seeds: int = 48
    """Comparison episodes of each policy, spread over the test variants."""


def check(args: Args) -> tuple[Algorithm, Values]:
    """The algorithm and its hyperparameters; SystemExit if an argument is wrong."""
    try:
        check_choice("--algo", args.algo, ALGORITHMS)
        for name in ("episodes", "num_envs", "eval_episodes", "save_every", "eval_seeds"):
            if getattr(args, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected >= 1")
        for name in ("seed", "eval_every"):
            if getattr(args, name) < 0:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected >= 0")
        if args.select == "best" and not args.eval_every:
            raise ValueError("--select best needs evaluations: --eval-every is 0")
        algorithm = ALGORITHMS[args.algo]
        return algorithm, algorithm.values(args.hyperparameters)
    except ValueError as error:
        raise SystemExit(str(error)) from error


# -- the environment copies ------------------------------------------------------------------------


def make_copy(env_id: str, kwargs: dict[str, Any], key: tuple[int, ...], in_process: bool) -> Copy:
    """A copy, in its worker."""
    if not in_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    env = gym.make(env_id, **kwargs)
    if kwargs["action"] == "continuous":
        env = RescaleAction(env, np.float32(-1), np.float32(1))
    return Copy(env, key)


def make_envs(args: Args, algorithm: Algorithm, values: Values) -> VecNormalize:
    """The environment copies, monitored and normalised."""
    kwargs: dict[str, Any] = {"observation": args.observation, "variant": args.variant}
    kwargs |= {**args.env_kwargs, "action": algorithm.action}
    in_process = args.workers == "none"
    makers: list[Callable[[], gym.Env[Any, Any]]] = []
    for i in range(args.num_envs):
        key = (args.seed,) if args.common_seeds else (args.seed, 1 + i)
        makers.append(partial(make_copy, "asg_env:" + args.env, kwargs, key, in_process))
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    copies: VecEnv = DummyVecEnv(makers) if in_process else SubprocVecEnv(makers, method)
    return VecNormalize(
        VecMonitor(copies),
        norm_reward=values.run["normalise_reward"],
        gamma=values.model["gamma"],
    )


def close(envs: VecEnv) -> None:
    """Close them; workers are ended, because an interrupted step would never be answered."""
    for process in getattr(envs.unwrapped, "processes", []):
        process.terminate()
        process.join()
    if isinstance(envs.unwrapped, DummyVecEnv):
        envs.close()


# -- the algorithm ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """A learning rate that falls linearly, from ``start`` in the first of ``updates`` to an
    ``updates``-th of it in the last."""

    start: float
    updates: int

    def __call__(self, left: float) -> float:
        """The learning rate; ``left`` is SB3's share of the training that is left *after* the
        rollout, so that it would be 0 in the last update."""
        return self.start * (left + 1 / self.updates)


@dataclass(frozen=True)
class Plan:
    """How a training is cut into updates.

    ``decisions`` of an episode, ``episodes`` of each copy in an update, ``updates`` in all.
    """

    decisions: int
    episodes: int
    copies: int
    updates: int

    @property
    def rollout(self) -> int:
        """Decisions of each copy in an update."""
        return self.decisions * self.episodes

    @property
    def env_steps(self) -> int:
        """Decisions of all copies in the whole training."""
        return self.rollout * self.copies * self.updates


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
            "buffer_size": plan.env_steps,  # nothing is forgotten
        }
    else:
        model["n_steps"] = plan.rollout
    if "batches" in run:
        model["batch_size"] = max(1, plan.rollout * plan.copies // run["batches"])
    if "noise" in run:
        groups = envs.action_space.shape[0]  # type: ignore[index]
        model["action_noise"] = NormalActionNoise(np.zeros(groups), np.full(groups, run["noise"]))
    made = algorithm.load()(
        *(algorithm.policy, envs),
        policy_kwargs=network_arguments(values),
        seed=args.seed,
        device="cpu",
        **model,
    )
    made.set_logger(Logger(None, []))  # the callback reads what is recorded, and writes it
    return made


def network_arguments(values: Values) -> dict[str, Any]:
    """Arguments of SB3's policy class."""
    return {**values.network, "net_arch": [values.run["hidden"]] * values.run["layers"]}


def policy_of(model: BaseAlgorithm, args: Args, values: Values) -> SB3Policy:
    """The policy as it is now, to be played, with the statistics as they are now."""
    envs = model.get_vec_normalize_env()
    assert envs is not None
    space: Any = envs.observation_space
    description = Description(
        algorithm=args.algo,
        observation=args.observation,
        group_names=list(envs.get_attr("group_names", 0)[0]),
        observation_names=list(envs.get_attr("observation_names", 0)[0]),
        low=space.low.tolist(),
        high=space.high.tolist(),
        network=network_arguments(values),
        noise=values.run.get("noise", 0.0),
        greedy=args.greedy,
        clip=envs.clip_obs,
        epsilon=envs.epsilon,
    )
    rms: Any = envs.obs_rms
    return SB3Policy(description, model.policy, rms.mean, rms.var, name=args.algo)


# -- what happens after each update ----------------------------------------------------------------


class Progress(BaseCallback):
    """Logs, evaluates and saves between two updates.

    Args:
        args: the run's.
        values: the hyperparameters.
        plan: the updates.
        board: TensorBoard's writer.
        done: updates done before.
        notes: what a checkpoint remembers: totals, and the best evaluation.
    """

    def __init__(
        self, args: Args, values: Values, plan: Plan, board: Any, done: int, notes: dict[str, Any]
    ) -> None:
        super().__init__()
        self.args, self.values, self.plan, self.board = args, values, plan, board
        self.update, self.notes = done, notes
        self.bar = tqdm(total=plan.updates, initial=done, desc="meta-training")
        self._played()

    def _played(self) -> None:
        """Forget what was played."""
        self.returns: list[float] = []
        self.scales: list[np.ndarray] = []
        self.began = time.perf_counter()

    def _init_callback(self) -> None:
        self.names = list(self.training_env.get_attr("group_names", 0)[0])
        self.base_lr = self.training_env.get_attr("config", 0)[0].base_lr

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.scales.append(info["lr"] / self.base_lr)
            if "episode" in info:
                self.returns.append(float(info["episode"]["r"]))
                self.notes["episodes"] += 1
                self.notes["optimizer_steps"] += info["steps"]
        return True

    def _on_rollout_start(self) -> None:
        if self.scales:  # after an update
            self._finish()

    def _on_training_end(self) -> None:
        self._finish()
        self.bar.close()

    def _finish(self) -> None:
        row = self._row()
        evaluations = self._evaluate()
        row |= evaluations
        with (self.args.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")
        log(self.board, row)
        if self.update % self.args.save_every == 0 or self.update == self.plan.updates:
            write_state(self.model, self.args.out, self.update, self.notes)
        self.bar.update()
        self.bar.set_postfix({"return": f"{row['return']:.3f}"})
        self._played()

    def _row(self) -> dict[str, Any]:
        """The row to log, with the keys of agents/reinforce.py where there is the same."""
        self.update += 1
        returns = np.array(self.returns or [np.nan])
        recorded = {
            k.removeprefix("train/"): float(v)
            for k, v in self.logger.name_to_value.items()
            if k.startswith("train/")
        }
        self.logger.dump()
        row = {
            "update": self.update,
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "lr_scale": dict(zip(self.names, np.mean(self.scales, 0).tolist(), strict=True)),
            "episodes": self.notes["episodes"],
            "env_steps": self.model.num_timesteps,
            "optimizer_steps": self.notes["optimizer_steps"],
            "train": recorded,
            "seconds": time.perf_counter() - self.began,
        }
        if "loss" in recorded:
            row["loss"] = recorded["loss"]
        if "entropy_loss" in recorded:  # over all groups; REINFORCE's is the mean
            row["entropy"] = -recorded["entropy_loss"] / len(self.names)
        return row

    # -- evaluations ------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        """Evaluate where it is due, and keep the best policy; what to log."""
        every = self.args.eval_every
        each = self.plan.episodes * self.plan.copies
        last = self.update == self.plan.updates
        if not every or not (
            last or self.update * each // every > (self.update - 1) * each // every
        ):
            return {}
        policy = policy_of(self.model, self.args, self.values)
        valid = self._play(policy, self.args.variant, VALID_SEED)
        test = self._play(policy, self.args.test_variant, VALID_SEED)
        found = {"valid_return": _mean([r.episode_return for r in valid])}
        found["test_return"] = _mean([r.episode_return for r in test])
        for key in ("accuracy", "retention"):
            found[f"test_{key}"] = _mean([r.final.get(key, float("nan")) for r in test])
        if self.notes["best"] is None or found["valid_return"] > self.notes["best"]:
            self.notes["best"] = found["valid_return"]  # the test variants choose nothing
            save_sb3_policy(policy, self.args.out, "best")
        return found

    def _play(self, policy: SB3Policy, variant: str, first: int) -> list[Record]:
        kwargs = {**self.args.env_kwargs, **policy.env_kwargs, "variant": variant}
        env = gym.make("asg_env:" + self.args.env, **kwargs)
        greedy, policy.greedy = policy.greedy, True
        seeds = range(first, first + self.args.eval_episodes)
        try:
            return [run_episode(env, policy, self.args.env, kwargs, seed) for seed in seeds]
        finally:
            policy.greedy = greedy
            env.close()


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def log(board: Any, row: dict[str, Any]) -> None:
    """Write a row to TensorBoard."""
    step = row["update"]
    for name, value in row.items():
        if isinstance(value, float):
            group = "eval" if name.startswith(("valid_", "test_")) else "train"
            board.add_scalar(f"{group}/{name}", value, step)
    for group, scale in row["lr_scale"].items():
        board.add_scalar(f"lr_scale/{group}", scale, step)
    for name, value in row["train"].items():
        board.add_scalar(f"sb3/{name}", value, step)


# -- the job ---------------------------------------------------------------------------------------


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
    finally:
        close(envs)
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


def main(args: Args) -> None:
    """Meta-train, compare with every baseline on the test variants, and report."""
    check(args)
    open_run(args.out, dataclasses.asdict(args))
    policy = train(args)
    other = "sampled" if args.greedy else "greedy"
    path = args.out / "policy.safetensors"
    policies: list[Policy] = [
        policy,
        load_sb3_policy(path, not args.greedy, f"{args.algo}_{other}"),
        *(SchedulePolicy(name) for name in COMPARED),
    ]
    seeds = [EVAL_SEED + i for i in range(args.eval_seeds)]
    records = compare(
        *(policies, args.env, dict(args.env_kwargs), args.test_variant, seeds),
        args.out / "records.jsonl",
    )
    print(write_report(records, args.out, reference=args.algo))
    print(f"everything is in {args.out}")


if __name__ == "__main__":
    import tyro

    try:
        main(tyro.cli(Args))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
