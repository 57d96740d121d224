"""REINFORCE for layer-wise learning rates: meta-train on the train variants, compare on the test's.

    python agents/reinforce.py                     # the main job: base learning rates are hidden
    python agents/reinforce.py --preset fixed      # one known base learning rate
    python agents/reinforce.py --preset paper      # the paper's settings, official quirks included

Run it again with the same --out to resume. It writes the policy (safetensors + JSON), metrics
(JSONL and TensorBoard), one record for each evaluation episode (JSONL), the table (Markdown + JSON)
and the plots.

``--preset paper`` is the paper's agent as far as it is known: its observation, network, loss,
optimizer (momentum .9, learning rate 7e-4), gamma 0, updates every five decisions, windows, SGD
with the LR inside the momentum buffer, restarts after two epochs, and sampling at deployment. It
deviates in this:

- the reward is unknown; ours is the environment's ``proxy_valid``;
- it trains on several variants (``--variant``), the paper on one; how many restarts the paper's
  took is unknown, ours is ``--updates``;
- all runs last 30 epochs and start with ten steps (VisDA-17); GTA5's last 50 and start with twenty;
- GTA5's plain SGD (``--env-kwargs optimizer sgd``), warm-up/poly factor and lowered lambda are not
  applied; the task's base learning rate, lambda, batch size and gradient clipping are;
- the critic, which REINFORCE does not train, is left out.

How the settings were chosen is in experiments/BENCHMARK.md.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from torch import Tensor
from tqdm import tqdm

from asg_env import cli
from asg_env.cli import EnvKwargs
from asg_env.envs.setup import EnvSetup
from asg_env.learning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from asg_env.learning.copies import EVAL_SEED, closing, make_copies
from asg_env.learning.ending import compare_with_schedules
from asg_env.learning.log import Log
from asg_env.learning.reinforce import PAPER, Learner, PolicyLoss, Rollout, UpdateArgs
from asg_env.learning.run_folder import due, only_run
from asg_env.policies.cautious import start_cautious
from asg_env.policies.recurrent import (
    GLOBAL_SIGNALS,
    LearnedPolicy,
    PolicyArgs,
    PolicyShape,
    RecurrentPolicy,
    sample,
    save_policy,
)
from asg_env.ranges import SEED, whole


@dataclass(frozen=True)
class Args(UpdateArgs, PolicyShape):
    """Meta-train a policy with REINFORCE, then compare it with every baseline."""

    preset: Literal["context", "fixed", "paper"] = "context"
    """Where the other defaults come from: ours for a base learning rate that nobody is told, ours
    for a known one, or the paper's with the official quirks."""
    env: str = "ASG-DigitsContext-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 optimizer sgd. They
    add to the preset's (paper: window paper optimizer official_sgd)."""
    variant: str | None = "train"
    """Variant to meta-train on; "train" draws one for each update. None: the task itself."""
    test_variant: str | None = "test"
    """Variant to compare on; "test" draws one for each seed. None: the task itself."""
    out: Path = Path("runs/reinforce")
    """Folder for everything it writes."""
    seed: Annotated[int, SEED] = 0
    """Seed of the policy, its samples and the training episodes."""
    episodes: Annotated[int | None, whole(1)] = None
    """Meta-training episodes of all copies together; None: updates * num_envs."""
    num_envs: Annotated[int, whole(1, 1024)] = 8
    """Environment copies. All of an update's start from the same seed (common random numbers)."""
    workers: Literal["processes", "none"] = "processes"
    """Where the copies run: a process each, or all in this one."""
    early_stop_epochs: Annotated[int, whole(0)] = 0
    """Truncate training episodes after this many epochs; 0: never (paper: 2). A step_limit in
    --env-kwargs, in optimizer steps, comes first."""
    budget_epochs: Annotated[int, whole(0)] = 0
    """Length of a whole fine-tuning run, epochs; 0: the environment's own (paper: 30 for VisDA-17,
    50 for GTA5). A budget in --env-kwargs, in optimizer steps, comes first."""
    rollout: Annotated[int, whole(0)] = 0
    """Decisions between policy updates; 0: whole episodes (paper: 5)."""
    cautious: bool = True
    """Start from a policy that holds each group's relative weight change near a target, as LARS
    does, not from a random one. Needs action log and an observation with step_ratio."""
    observation: Literal["loop", "relative", "layerwise", "paper"] = "loop"
    """Observation set."""
    snapshots: Annotated[int, whole(0)] = 0
    """Policies kept on the way, at equal distances: snapshots/UPDATE.safetensors; 0: none."""
    eval_seeds: Annotated[int, whole(1)] = 48
    """Comparison episodes of each policy, spread over the test variants."""
    compare: Literal["baselines", "none"] = "baselines"
    """What the learned policy is compared with at the end."""


KNOWN_LR = Args(
    preset="fixed",
    env="ASG-Digits-v0",
    updates=260,
    lr=None,
    floor=-math.inf,
    cautious=False,
    observation="layerwise",
    out=Path("runs/reinforce_fixed"),
)
PRESETS = {
    "context": Args(),
    "fixed": KNOWN_LR,
    "paper": dataclasses.replace(
        KNOWN_LR,
        **dataclasses.asdict(PAPER),
        preset="paper",
        env_kwargs={"window": "paper", "optimizer": "official_sgd"},
        out=Path("runs/reinforce_paper"),
        num_envs=1,
        early_stop_epochs=2,
        budget_epochs=30,
        carry_state=False,
        rollout=5,
        heads="separate",
        scale="categorical",
        skip=False,
        observation="paper",
        greedy=False,
    ),
}


class Trainer:
    """The policy, what teaches it, and the environment copies."""

    def __init__(self, args: Args, envs: AsyncVectorEnv | SyncVectorEnv) -> None:
        self.args, self.envs = args, envs
        self.group_names = list(envs.call("group_names")[0])
        width = envs.single_observation_space.shape[0] - GLOBAL_SIGNALS  # type: ignore[index]
        groups = len(self.group_names)
        shape = {f.name: getattr(args, f.name) for f in dataclasses.fields(PolicyShape)}
        levels = int(envs.single_action_space.nvec[0])  # type: ignore[attr-defined]
        policy = PolicyArgs(args.observation, width // groups, groups, levels=levels, **shape)
        self.network = RecurrentPolicy(policy, args.seed)
        if args.cautious:
            start_cautious(self.network, list(envs.call("observation_names")[0]))
        self.learner = Learner(self.network, args)
        self.update, self.totals = 0, dict.fromkeys(("episodes", "env_steps", "optimizer_steps"), 0)

    def run_update(self) -> dict[str, Any]:
        """Play one episode of every copy from the same seed, and learn from it.

        Returns:
            The row to log. ``return`` and ``return_std`` are over the copies, ``loss`` and
            ``entropy`` (:class:`PolicyLoss`) means over the policy updates, ``lr_scale`` the mean
            level that was played for each group as a share of the highest; ``episodes``,
            ``env_steps`` (decisions) and ``optimizer_steps`` are of the whole training.
        """
        rng = np.random.default_rng([self.args.seed, self.update])
        self._begin(int(rng.integers(EVAL_SEED)), int(rng.integers(2**31)))
        rollouts, losses = list[Rollout](), list[PolicyLoss]()
        left = 1 - self.update / self.args.updates
        while self.alive.any():
            start = self.state
            rollouts.append(self._play())
            losses.append(self.learner.learn(rollouts[-1], start, left))
        self.update += 1
        return self._row(rollouts, losses)

    def _begin(self, seed: int, sampling_seed: int) -> None:
        copies = self.args.num_envs
        self.generator = torch.Generator().manual_seed(sampling_seed)
        self.observation, _ = self.envs.reset(seed=[seed] * copies)
        self.state = self.network.initial_state(copies)
        self.alive, self.trained = np.ones(copies, dtype=bool), np.zeros(copies, dtype=int)

    def _play(self) -> Rollout:
        """Go on for ``args.rollout`` decisions, or to the end of every copy's episode."""
        rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        while self.alive.any() and (not self.args.rollout or len(rows) < self.args.rollout):
            with torch.no_grad():
                seen = torch.from_numpy(np.asarray(self.observation, dtype=np.float32))
                logits, after = self.network(seen[None], self.state)
            self.state = after if self.args.carry_state else self.state
            actions, alive = sample(logits, self.generator)[0], self.alive
            self.observation, reward, terminated, truncated, info = self.envs.step(actions.numpy())
            self.trained[alive] = info["steps"][alive]
            was_alive = torch.from_numpy(alive.astype(np.float32))
            rows.append((seen, actions, torch.from_numpy(reward).float(), was_alive))
            self.alive = alive & ~(terminated | truncated)
        return Rollout(*(torch.stack(column) for column in zip(*rows, strict=True)))

    def _row(self, rollouts: list[Rollout], losses: list[PolicyLoss]) -> dict[str, Any]:
        copies = self.args.num_envs
        returns = sum(((r.rewards * r.alive).sum(0).numpy() for r in rollouts), np.zeros(copies))
        played = torch.cat([r.actions[r.alive.bool()].float() for r in rollouts])
        scales = played.mean(0) / (self.network.args.levels - 1)
        new = (copies, len(played), int(self.trained.sum()))
        self.totals = {k: v + n for (k, v), n in zip(self.totals.items(), new, strict=True)}
        return {
            "update": self.update,
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "loss": float(np.mean([float(row.loss) for row in losses])),
            "entropy": float(np.mean([float(row.entropy) for row in losses])),
            "lr_scale": dict(zip(self.group_names, scales.tolist(), strict=True)),
            **self.totals,
        }

    def checkpoint(self) -> Checkpoint:
        """All that the rest of the training depends on."""
        return Checkpoint.of(self.network, self.learner.optimizer, self.update)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        checkpoint.load_into(self.network, self.learner.optimizer)
        self.update = checkpoint.update


def epoch_length(args: Args) -> int:
    """Optimizer steps in one epoch of the environment, of the first variant that it draws from."""
    setup = EnvSetup(args.env, args.env_kwargs).updated(variant=args.variant)
    return cli.check_env(setup).epoch_length


def run_setup(args: Args) -> EnvSetup:
    """The environment of a whole fine-tuning run, in training and comparison alike."""
    setup = EnvSetup(args.env, args.env_kwargs)
    if not args.budget_epochs or "budget" in args.env_kwargs:
        return setup
    return EnvSetup(args.env, {"budget": args.budget_epochs * epoch_length(args), **setup.kwargs})


def training_setup(args: Args) -> EnvSetup:
    """The environment of a training episode."""
    kwargs: dict[str, Any] = {"observation": args.observation, "variant": args.variant}
    if args.early_stop_epochs:
        kwargs["step_limit"] = args.early_stop_epochs * epoch_length(args)
    return EnvSetup(args.env, kwargs).updated(**run_setup(args).kwargs)


def make_envs(args: Args) -> AsyncVectorEnv | SyncVectorEnv:
    """The environment copies."""
    return make_copies(training_setup(args), args.num_envs, args.workers == "none")


def train(args: Args) -> RecurrentPolicy:
    """Meta-train, resuming from the checkpoint in ``args.out`` if there is one."""
    torch.set_num_threads(1)
    envs = make_envs(args)
    with closing(envs):
        trainer = Trainer(args, envs)
        if (saved := read_checkpoint(args.out)) is not None:
            trainer.restore(saved)
        with Log(args.out, trainer.update) as log:
            trainer.totals |= {k: v for k, v in log.last().items() if k in trainer.totals}
            learn(trainer, log)
    save_policy(trainer.network, args.out)
    return trainer.network


def learn(trainer: Trainer, log: Log) -> None:
    """All updates that are left; each is logged, then kept."""
    args = trainer.args
    done = trainer.update
    bar = tqdm(range(done, args.updates), "meta-training", args.updates, initial=done)
    for _ in bar:
        began = time.perf_counter()
        row = trainer.run_update()
        log.write({**row, "seconds": time.perf_counter() - began})
        if due(trainer.update, args.updates, args.snapshots):
            save_policy(trainer.network, args.out / "snapshots", f"{trainer.update:06d}")
        write_checkpoint(args.out, trainer.checkpoint())
        bar.set_postfix({"return": f"{row['return']:.3f}", "entropy": f"{row['entropy']:.2f}"})


def check(args: Args) -> Args:
    """The arguments with counts and variants as they will be used; SystemExit if one is wrong."""
    cli.check_ranges(args)
    if args.episodes is not None:
        copies = min(args.num_envs, args.episodes)
        args = dataclasses.replace(args, num_envs=copies, updates=args.episodes // copies)
    cli.refuse_env_kwargs(args.env_kwargs, cli.LEARNERS_OWN)
    args = cli.fit_variants(args, cli.check_env(EnvSetup(args.env, args.env_kwargs)).task)
    cli.check_env(training_setup(args))
    return args


def main(args: Args) -> None:
    """Meta-train, compare with every baseline on the test variants, and report."""
    args = check(args)
    noted = dataclasses.asdict(args)
    del noted["compare"]  # may change when the same command resumes
    with only_run(args.out, noted):
        network = train(args)
        if args.compare == "baselines":
            other = "reinforce_" + ("sampled" if args.greedy else "greedy")
            ways = {"reinforce": args.greedy, other: not args.greedy}
            policies = [LearnedPolicy(network, greedy, name) for name, greedy in ways.items()]
            setup, count = run_setup(args), args.eval_seeds
            print(compare_with_schedules(policies, setup, args.test_variant, count, args.out))
        print(f"everything is in {args.out}")


if __name__ == "__main__":
    cli.run(main, PRESETS)
