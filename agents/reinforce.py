"""REINFORCE for layer-wise learning rates: meta-train on the train variants, compare on the test's.

    python agents/reinforce.py                     # the main job, about eight minutes on two cores
    python agents/reinforce.py --preset paper      # the paper's settings, official quirks included

Run it again with the same --out to resume. It writes the policy (safetensors + JSON), metrics
(JSONL and TensorBoard), one record for each evaluation episode (JSONL), the table (Markdown + JSON)
and the plots.

``--preset paper`` is the paper's agent as far as it is known: its observation, network, loss,
optimizer (momentum .9, learning rate 7e-4), gamma 0, updates every five decisions, windows, SGD
with the LR inside the momentum buffer, restarts after two epochs, and sampling at deployment. It
deviates in this:

- the reward is unknown; ours is the environment's ``proxy_valid``;
- it trains on several variants (``--variant``), which the paper's single data set does not have;
- how many restarts it trained for is unknown; ours is ``--updates``;
- all runs last 30 epochs and start with ten steps (VisDA-17); GTA5's last 50 and start with twenty;
- GTA5's plain SGD (``--env-kwargs optimizer sgd``), warm-up/poly factor and lowered lambda are not
  applied; the task's base learning rate, lambda, batch size and gradient clipping are;
- the critic, which REINFORCE does not train, is left out.

``--lr`` depends on the number of updates by a trial on the train variants of ASG-Digits-v0 with 128
episodes (16 updates): mean return of the last policy, greedy, on 24 other seeds of them, for the
training seeds 10, 11 and 12 (-: not run).

==================================================  =================
4e-3                                                1.169   -   1.215
4e-3, four copies and 32 updates                    1.169   -     -
1e-2                                                1.196   -     -
1.6e-2                                              1.143 1.400 1.234
2e-2 (2.1e-2 as below)                              1.398 1.421 1.259
2e-2, four copies and 32 updates                      -   1.332   -
2e-2, normalised advantages                           -   1.423 1.300
4e-2                                                1.122 1.373 1.346
4e-2, normalised advantages                         1.306 1.339 1.411
4e-3, shift [*]                                     1.207   -     -
1e-2, shift                                         1.262   -     -
1e-2, shift, four copies and 32 updates             1.267   -     -
1e-2, shift of 1.5                                  1.270   -     -
1e-2, shift, normalised advantages                  1.366   -     -
2e-2, shift                                         1.288 1.384 1.267
2e-2, shift, normalised advantages                    -   1.405   -
4e-2, shift                                         1.249   -   1.211
==================================================  =================

[*] A random shift of all groups for a whole episode, not kept: standard deviation 1 before the
sigmoid, falling to 0 linearly, its likelihood summed over all shifts.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from torch import Tensor
from tqdm import tqdm

from asg_env.cli import (
    EnvKwargs,
    check_at_least,
    fitting_variant,
    make_env,
    parse_preset,
    refuse_env_kwargs,
)
from asg_env.evaluation.compare import compare, drawn
from asg_env.learning.checkpoint import (
    Checkpoint,
    due,
    keep_lines,
    open_run,
    read_checkpoint,
    write_checkpoint,
)
from asg_env.policies.base import Policy
from asg_env.policies.recurrent import (
    GLOBAL_SIGNALS,
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    State,
    sample,
    save_policy,
)
from asg_env.policies.schedules import COMPARED, SchedulePolicy
from asg_env.reports.comparison import write_report


@dataclass(frozen=True)
class Args:
    """Meta-train a policy with REINFORCE, then compare it with every baseline."""

    preset: Literal["fixed", "paper"] = "fixed"
    """Where the other defaults come from: ours, or the paper's with the official quirks."""
    env: str = "ASG-Digits-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 optimizer sgd. They
    add to the preset's (paper: window paper optimizer official_sgd)."""
    variant: str | None = "train"
    """Variant to meta-train on; "train" draws one for each update. None: the task itself, as always
    where a task has no variants."""
    test_variant: str | None = "test"
    """Variant to compare on; "test" draws one for each seed. None: the task itself."""
    out: Path = Path("runs/reinforce")
    """Folder for everything it writes."""
    seed: int = 0
    """Seed of the policy, its samples and the training episodes."""
    updates: int = 260
    """Meta-training episodes of each environment copy."""
    num_envs: int = 8
    """Environment copies. All of an update's start from the same seed (common random numbers)."""
    workers: Literal["processes", "none"] = "processes"
    """Where the copies run: a process each, or all in this one."""
    lr: float | None = None
    """Learning rate of the policy; None: 4e-3 * (260 / updates) ** 0.6, because few updates have
    to go far: 4e-3 for 260, 2e-2 for 16."""
    anneal: bool = True
    """Let the policy's learning rate fall to 0 linearly."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer of the policy; sgd has momentum .9 (paper)."""
    gamma: float = 1.0
    """Discount of later rewards (paper: 0)."""
    baseline: Literal["state", "copies", "none"] = "state"
    """What is subtracted from each decision's return. "copies": the other copies' mean. "state":
    what a line through the other copies' (return so far, return to come) says. Or nothing."""
    normalise: bool = False
    """Divide each decision's advantages by their standard deviation over the copies."""
    per_step_credit: bool = True
    """Weigh each decision by its own return; False: the official quirk, where a broadcast weighs
    all of them by the mean return."""
    carry_state: bool = True
    """Carry the LSTM state between decisions; False: the official quirk (never when acting)."""
    entropy: float = 0.0
    """Weight of the entropy bonus at the start, nats; it falls to 0 linearly."""
    clip: float = 1.0
    """Clip the norm of the policy's gradient; inf: never."""
    early_stop_epochs: int = 0
    """Truncate training episodes after this many epochs of the training split; 0: never (paper: 2).
    A step_limit in --env-kwargs, in optimizer steps, comes first."""
    budget_epochs: int = 0
    """Length of a whole fine-tuning run, epochs; 0: the environment's own (paper: 30 for VisDA-17,
    50 for GTA5). A budget in --env-kwargs, in optimizer steps, comes first."""
    rollout: int = 0
    """Decisions between policy updates; 0: whole episodes (paper: 5)."""
    heads: Literal["separate", "shared"] = "shared"
    """A policy head for each layer group (paper), or one shared by all."""
    scale: Literal["categorical", "ordinal"] = "ordinal"
    """How a head spreads over the levels: freely (paper), or as a Gaussian."""
    head_hidden: int = 0
    """Width of the hidden layer of each head; 0: linear (paper)."""
    skip: bool = True
    """The heads also see the global signals themselves (paper: only the LSTMs' outputs)."""
    observation: Literal["layerwise", "paper"] = "layerwise"
    """Observation set."""
    greedy: bool = True
    """Deploy the policy without exploring; False: sampled (paper). The comparison has both."""
    snapshots: int = 0
    """Policies kept on the way, at equal distances: snapshots/UPDATE.safetensors; 0: none."""
    eval_seeds: int = 48
    """Comparison episodes of each policy, spread over the test variants."""


PRESETS = {
    "fixed": Args(),
    "paper": Args(
        preset="paper",
        env_kwargs={"window": "paper", "optimizer": "official_sgd"},
        out=Path("runs/reinforce_paper"),
        num_envs=1,
        early_stop_epochs=2,
        budget_epochs=30,
        lr=7e-4,
        optimizer="sgd",
        gamma=0.0,
        anneal=False,
        baseline="none",
        normalise=False,
        per_step_credit=False,
        carry_state=False,
        entropy=0.0,
        clip=float("inf"),
        rollout=5,
        heads="separate",
        scale="categorical",
        skip=False,
        observation="paper",
        greedy=False,
    ),
}
OWN_OPTIONS = {  # arguments of the environment that --env-kwargs may not set
    "action": "the policy sets discrete levels",
    "observation": "--observation chooses it",
    "variant": "--variant and --test-variant choose it",
}
EVAL_SEED = 1_000_000  # the first seed of the comparison; training seeds are below


class Rollout(NamedTuple):
    """Some decisions of N copies: T decisions, D numbers observed, G groups.

    ``alive`` (T, N): the copy's episode had not ended before the decision.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor


def discounted(rewards: Tensor, gamma: float) -> Tensor:
    """Reward-to-go of (T, N) rewards."""
    returns, running = torch.empty_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


def advantages(rollout: Rollout, args: Args) -> Tensor:
    """Returns less the baseline, (T, N); 0 where a copy's episode was over."""
    alive = rollout.alive
    rewards = rollout.rewards * alive
    values = discounted(rewards, args.gamma)
    if args.baseline != "none":
        past = rewards.cumsum(0) - rewards
        slope = args.baseline == "state"
        values = torch.stack(
            [left_out(*row, slope) for row in zip(values, past, alive, strict=True)]
        )
    if args.normalise:
        count = alive.sum(1, keepdim=True).clamp_min(1)
        spread = ((values * alive).square().sum(1, keepdim=True) / count).sqrt()
        values = values / spread.clamp_min(1e-6)
    return values * alive


def left_out(values: Tensor, past: Tensor, alive: Tensor, slope: bool) -> Tensor:
    """Each copy's value less what the *other* living copies predict for it, (N,).

    The prediction is their mean, or with ``slope`` a straight line in ``past``: fitted with the
    copy and divided by 1 - leverage, which gives the residual of the fit without it. A copy that is
    alone keeps its value.
    """
    count = alive.sum()
    if count < 2:
        return values
    centre = (past * alive).sum() / count
    offset = (past - centre) * alive
    leverage = alive / count
    residual = values - (values * alive).sum() / count
    variance = offset.square().sum()
    if slope and count > 3 and variance > 1e-8:
        residual = residual - offset * ((offset * values).sum() / variance)
        leverage = leverage + offset.square() / variance
    return residual / (1 - leverage).clamp_min(0.2)


class Unrolled(NamedTuple):
    """What a policy makes of a rollout: ``log_probs`` (T, N, G, levels), and of each decision
    (T, N) the log-probability of what was ``chosen``, summed over the groups, and the ``entropy``,
    mean over the groups, nats."""

    log_probs: Tensor
    chosen: Tensor
    entropy: Tensor


def evaluate_actions(network: RecurrentPolicy, rollout: Rollout, state: list[State]) -> Unrolled:
    """Unroll the policy over a rollout, from the state before its first decision."""
    logits, _ = network(rollout.observations, state)
    log_probs = logits.log_softmax(-1)
    chosen = log_probs.gather(-1, rollout.actions.unsqueeze(-1)).squeeze(-1).sum(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean(-1)
    return Unrolled(log_probs, chosen, entropy)


class PolicyLoss(NamedTuple):
    """The ``loss`` of a policy update, and the policy's mean ``entropy`` over the decisions and the
    groups, as the loss unrolls it (before the update), nats. What follows an episode's end counts
    for neither."""

    loss: Tensor
    entropy: Tensor


def reinforce_loss(
    network: RecurrentPolicy, rollout: Rollout, state: list[State], args: Args, entropy: float
) -> PolicyLoss:
    """The loss of one policy update; ``entropy`` is the bonus's weight."""
    played = evaluate_actions(network, rollout, state)
    weights = advantages(rollout, args)
    count = rollout.alive.sum()
    total_entropy = (played.entropy * rollout.alive).sum()
    bonus = entropy * total_entropy / count
    if args.per_step_credit:
        credit = (weights * played.chosen).sum() / count
    else:
        credit = (weights.sum() / count) * ((played.chosen * rollout.alive).sum() / count)
    return PolicyLoss(-credit - bonus, (total_entropy / count).detach())


class Learner:
    """A policy and its optimizer.

    Args:
        network: the policy; it is trained in place.
        args: the switches of the loss and of the optimizer.
    """

    def __init__(self, network: RecurrentPolicy, args: Args) -> None:
        self.network, self.args = network, args
        self.lr = 4e-3 * (260 / args.updates) ** 0.6 if args.lr is None else args.lr
        parameters = network.parameters()
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(parameters, self.lr)
            if args.optimizer == "adam"
            else torch.optim.SGD(parameters, self.lr, momentum=0.9)
        )

    def learn(self, rollout: Rollout, state: list[State], left: float = 1.0) -> PolicyLoss:
        """One policy update.

        Args:
            rollout: what was played.
            state: the policy's before the first decision of it.
            left: share of the training that is left, (0, 1]; what anneals is multiplied by it.
        """
        result = reinforce_loss(self.network, rollout, state, self.args, self.args.entropy * left)
        if self.args.anneal:
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * left
        self.optimizer.zero_grad()
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.args.clip)
        self.optimizer.step()
        return PolicyLoss(result.loss.detach(), result.entropy)


class Trainer:
    """The policy, what teaches it, and the environment copies."""

    def __init__(self, args: Args, envs: AsyncVectorEnv | SyncVectorEnv) -> None:
        self.args, self.envs = args, envs
        self.group_names = list(envs.call("group_names")[0])
        width = envs.single_observation_space.shape[0] - GLOBAL_SIGNALS  # type: ignore[index]
        groups = len(self.group_names)
        policy = PolicyArgs(
            *(args.observation, width // groups, groups),
            heads=args.heads,
            scale=args.scale,
            head_hidden=args.head_hidden,
            skip=args.skip,
            carry_state=args.carry_state,
            greedy=args.greedy,
        )
        self.network = RecurrentPolicy(policy, args.seed)
        self.learner = Learner(self.network, args)
        self.update = 0
        self.totals = {"episodes": 0, "env_steps": 0, "optimizer_steps": 0}

    def run_update(self) -> dict[str, Any]:
        """Play one episode of every copy from the same seed, and learn from it.

        Returns:
            The row to log. ``return`` and ``return_std`` are over the copies, ``loss`` and
            ``entropy`` (:class:`PolicyLoss`) means over the policy updates, ``lr_scale`` the mean
            scale that was played for each group, [0, 1]; ``episodes``, ``env_steps`` (decisions)
            and ``optimizer_steps`` are what has been played since the training began.
        """
        args, copies = self.args, self.args.num_envs
        rng = np.random.default_rng([args.seed, self.update])
        seed = int(rng.integers(EVAL_SEED))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        observation, _ = self.envs.reset(seed=[seed] * copies)
        state, alive = self.network.initial_state(copies), np.ones(copies, dtype=bool)
        returns, levels, losses = np.zeros(copies), [], list[PolicyLoss]()
        self._trained = np.zeros(copies, dtype=int)
        left = 1 - self.update / args.updates
        while alive.any():
            start = state
            rollout, observation, state, alive = self._play(observation, state, alive, generator)
            losses.append(self.learner.learn(rollout, start, left))
            returns += (rollout.rewards * rollout.alive).sum(0).numpy()
            levels.append(rollout.actions[rollout.alive.bool()].float())
        self.update += 1
        played = torch.cat(levels)
        scales = played.mean(0) / (self.network.args.levels - 1)
        new = {"episodes": copies, "env_steps": len(played)}
        new["optimizer_steps"] = int(self._trained.sum())
        self.totals = {name: count + new[name] for name, count in self.totals.items()}
        return {
            "update": self.update,
            "return": float(returns.mean()),
            "return_std": float(returns.std()),
            "loss": float(np.mean([float(row.loss) for row in losses])),
            "entropy": float(np.mean([float(row.entropy) for row in losses])),
            "lr_scale": dict(zip(self.group_names, scales.tolist(), strict=True)),
            **self.totals,
        }

    def _play(
        self,
        observation: np.ndarray,
        state: list[State],
        alive: np.ndarray,
        generator: torch.Generator,
    ) -> tuple[Rollout, np.ndarray, list[State], np.ndarray]:
        rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        while alive.any() and (not self.args.rollout or len(rows) < self.args.rollout):
            with torch.no_grad():
                seen = torch.from_numpy(np.asarray(observation, dtype=np.float32))
                logits, after = self.network(seen[None], state)
            state = after if self.args.carry_state else state
            actions = sample(logits, generator)[0]
            observation, reward, terminated, truncated, info = self.envs.step(actions.numpy())
            self._trained[alive] = info["steps"][alive]
            was_alive = torch.from_numpy(alive.astype(np.float32))
            rows.append((seen, actions, torch.from_numpy(reward).float(), was_alive))
            alive = alive & ~(terminated | truncated)
        return (
            Rollout(*(torch.stack(c) for c in zip(*rows, strict=True))),
            observation,
            state,
            alive,
        )

    def checkpoint(self) -> Checkpoint:
        """All that the rest of the training depends on."""
        return Checkpoint.of(self.network, self.learner.optimizer, self.update)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        checkpoint.load_into(self.network, self.learner.optimizer)
        self.update = checkpoint.update


def _worker_env(env_id: str, kwargs: dict[str, Any], in_process: bool) -> gym.Env[Any, Any]:
    if not in_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    return gym.make(env_id, **kwargs)


def epoch_length(args: Args) -> int:
    """Optimizer steps in one epoch of the environment, of the first variant that it draws from."""
    return make_env(args.env, {**args.env_kwargs, "variant": args.variant}).epoch_length


def run_kwargs(args: Args) -> dict[str, Any]:
    """The environment arguments of a whole fine-tuning run, in training and comparison alike."""
    if not args.budget_epochs or "budget" in args.env_kwargs:
        return dict(args.env_kwargs)
    return {"budget": args.budget_epochs * epoch_length(args), **args.env_kwargs}


def training_kwargs(args: Args) -> dict[str, Any]:
    """The environment arguments of a training episode."""
    kwargs: dict[str, Any] = {"observation": args.observation, "variant": args.variant}
    if args.early_stop_epochs:
        kwargs["step_limit"] = args.early_stop_epochs * epoch_length(args)
    return kwargs | run_kwargs(args)


def fitted(args: Args) -> Args:
    """The same, with None for "train" and "test" where the task has no variants to draw from.

    Raises:
        SystemExit: the environment's arguments are wrong.
    """
    check_at_least(1, args, "updates")
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    task = make_env(args.env, args.env_kwargs).task
    args = dataclasses.replace(
        args,
        variant=fitting_variant(task, "--variant", args.variant),
        test_variant=fitting_variant(task, "--test-variant", args.test_variant),
    )
    make_env(args.env, training_kwargs(args))
    return args


def make_envs(args: Args) -> AsyncVectorEnv | SyncVectorEnv:
    """The environment copies."""
    kwargs = training_kwargs(args)
    in_process = args.workers == "none"
    makers = [partial(_worker_env, "asg_env:" + args.env, kwargs, in_process)] * args.num_envs
    if in_process:
        return SyncVectorEnv(makers)
    methods = multiprocessing.get_all_start_methods()
    return AsyncVectorEnv(makers, context="forkserver" if "forkserver" in methods else "spawn")


def train(args: Args) -> RecurrentPolicy:
    """Meta-train, resuming from the checkpoint in ``args.out`` if there is one."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    torch.set_num_threads(1)
    metrics = args.out / "metrics.jsonl"
    envs = make_envs(args)
    try:
        trainer = Trainer(args, envs)
        saved = read_checkpoint(args.out)
        if saved is not None:
            trainer.restore(saved)
        keep_lines(metrics, trainer.update)
        for line in metrics.read_text().splitlines()[-1:]:
            trainer.totals = {name: json.loads(line)[name] for name in trainer.totals}
        board = SummaryWriter(args.out / "tensorboard", purge_step=trainer.update + 1)
        bar = tqdm(range(trainer.update, args.updates), "meta-training", args.updates)
        bar.update(trainer.update)
        for _ in bar:
            began = time.perf_counter()
            row = trainer.run_update()
            row["seconds"] = time.perf_counter() - began
            with metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
            if due(trainer.update, args.updates, args.snapshots):
                save_policy(trainer.network, args.out / "snapshots", f"{trainer.update:06d}")
            write_checkpoint(args.out, trainer.checkpoint())
            _log(board, row)
            bar.set_postfix({"return": f"{row['return']:.3f}", "entropy": f"{row['entropy']:.2f}"})
        board.close()
    except BaseException:
        envs.close(terminate=True)  # an interrupted step would never be answered
        raise
    envs.close()
    save_policy(trainer.network, args.out)
    return trainer.network


def _log(board: Any, row: dict[str, Any]) -> None:
    for name in ("return", "return_std", "loss", "entropy", "seconds"):
        board.add_scalar(f"train/{name}", row[name], row["update"])
    for group, scale in row["lr_scale"].items():
        board.add_scalar(f"lr_scale/{group}", scale, row["update"])


def main(args: Args) -> None:
    """Meta-train, compare with every baseline on the test variants, and report."""
    args = fitted(args)
    open_run(args.out, dataclasses.asdict(args))
    network = train(args)
    other = "sampled" if args.greedy else "greedy"
    policies: list[Policy] = [
        LearnedPolicy(network, args.greedy, "reinforce"),
        LearnedPolicy(network, not args.greedy, f"reinforce_{other}"),
        *(SchedulePolicy(name) for name in COMPARED),
    ]
    episodes = drawn(args.test_variant, [EVAL_SEED + i for i in range(args.eval_seeds)])
    records = compare(policies, args.env, run_kwargs(args), episodes, args.out / "records.jsonl")
    print(write_report(records, args.out, reference="reinforce"))
    print(f"everything is in {args.out}")


def parse(argv: list[str]) -> Args:
    """Arguments of the command line; ``--preset`` chooses the defaults."""
    return parse_preset(PRESETS, argv)


if __name__ == "__main__":
    try:
        main(parse(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
