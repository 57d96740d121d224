"""REINFORCE's update of a recurrent policy: returns, baselines, the loss, and the optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from asg_env.policies.recurrent import RecurrentPolicy, State
from asg_env.ranges import Range, whole


@dataclass(frozen=True)
class UpdateArgs:
    """The switches of an update."""

    updates: Annotated[int, whole(1)] = 150
    """Meta-training episodes of each environment copy."""
    lr: Annotated[float | None, Range(above=0, at_most=1e6)] = 0.01
    """Learning rate of the policy; None: 4e-3 * (260 / updates) ** 0.6, because few updates have
    to go far: 4e-3 for 260, 2e-2 for 16."""
    anneal: bool = True
    """Let the policy's learning rate fall to 0 linearly."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimizer of the policy; sgd has momentum .9 (paper)."""
    gamma: Annotated[float, Range(at_least=0, at_most=1)] = 1.0
    """Discount of later rewards (paper: 0)."""
    baseline: Literal["state", "copies", "none"] = "state"
    """What is subtracted from each decision's return. "copies": the other copies' mean. "state":
    what a line through the other copies' (return so far, return to come) says. Or nothing."""
    normalise: bool = False
    """Divide each decision's advantages by their standard deviation over the copies."""
    per_step_credit: bool = True
    """Weigh each decision by its own return; False: the official quirk, where a broadcast weighs
    all of them by the mean return."""
    floor: Annotated[float, Range(at_most=0, infinite=True)] = -0.5
    """What an episode can lose at most: its return so far counts as this where it lies below, so
    that a crash costs no more than any other failure."""
    entropy: Annotated[float, Range(at_least=0, at_most=1e6)] = 0.0
    """Weight of the entropy bonus at the start, nats; it falls to 0 linearly."""
    clip: Annotated[float, Range(above=0, infinite=True)] = 1.0
    """Clip the norm of the policy's gradient; inf: never."""


PAPER = UpdateArgs(
    updates=260,
    floor=-float("inf"),
    lr=7e-4,
    optimizer="sgd",
    gamma=0.0,
    anneal=False,
    baseline="none",
    per_step_credit=False,
    clip=float("inf"),
)
"""The paper's update, official quirks included."""


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


def bounded(rewards: Tensor, floor: float) -> Tensor:
    """Rewards (T, N) whose sums from the start are those given, but not below ``floor``."""
    if floor == -float("inf"):
        return rewards
    sums = rewards.cumsum(0).clamp_min(floor)
    return sums.diff(dim=0, prepend=torch.zeros_like(sums[:1]))


def advantages(rollout: Rollout, args: UpdateArgs) -> Tensor:
    """Returns less the baseline, (T, N); 0 where a copy's episode was over."""
    alive = rollout.alive
    rewards = bounded(rollout.rewards * alive, args.floor)
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
    network: RecurrentPolicy, rollout: Rollout, state: list[State], args: UpdateArgs, entropy: float
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

    def __init__(self, network: RecurrentPolicy, args: UpdateArgs) -> None:
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
