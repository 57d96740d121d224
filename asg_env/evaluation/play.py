"""Playing one episode with a policy, into a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from asg_env.arguments import json_arguments
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.records import Record
from asg_env.policies.base import Identity, Policy


@dataclass(frozen=True)
class Decision:
    """What a policy did once and what came of it; see :class:`Record` for the units."""

    action: list[float]
    reward: float
    lr_scale: list[float]
    steps: int
    terminated: bool
    truncated: bool
    error_type: str | None

    @property
    def last(self) -> bool:
        """Whether the episode ended with it."""
        return self.terminated or self.truncated


def lr_scales(info: Mapping[str, Any], base_lr: float) -> np.ndarray:
    """The LR scales (G,) of a step's info, of an environment with this ``base_lr`` where its
    context drew none."""
    return info["lr"] / info.get("context", {}).get("base_lr", base_lr)


def decide(
    env: gym.Env[Any, Any], policy: Policy, observation: np.ndarray
) -> tuple[Decision, np.ndarray, dict[str, Any]]:
    """Let a policy take one decision; return it and the observation and info that followed."""
    u: Any = env.unwrapped
    action = policy.act(observation)
    observation, reward, terminated, truncated, info = env.step(action)
    decision = Decision(
        action=np.asarray(action).tolist(),
        reward=float(reward),
        lr_scale=lr_scales(info, u.config.base_lr).tolist(),
        steps=info["steps"],
        terminated=bool(terminated),
        truncated=bool(truncated),
        error_type=info.get("error_type"),
    )
    return decision, observation, info


def record_of(
    env: gym.Env[Any, Any],
    policy: Policy,
    setup: EnvSetup,
    seed: int,
    moments: Sequence[tuple[int, dict[str, float]]],
    decisions: Sequence[Decision],
    final: dict[str, float],
) -> Record:
    """The record of an episode of ``env``.

    Args:
        env: what it was played on.
        policy: who played it; its name is the agent.
        setup: what ``env`` was made of, its arguments as JSON values.
        seed: the reset's.
        moments: optimizer steps done and ``info["losses"]``, at the start and after each decision.
        decisions: all of them.
        final: ``evaluate("test")`` at the end.
    """
    u: Any = env.unwrapped
    last = decisions[-1]
    return Record(
        policy=policy.name,
        env_id=setup.env,
        kwargs=dict(setup.kwargs),
        reset_seed=seed,
        groups=u.group_names,
        actions=[d.action for d in decisions],
        rewards=[d.reward for d in decisions],
        lr_scales=[d.lr_scale for d in decisions],
        steps=[steps for steps, _ in moments],
        final=final,
        terminated=last.terminated,
        truncated=last.truncated,
        error_type=last.error_type,
        device=u.device.type,
        threads=u.threads,
        dataset=u.dataset_name,
        problem=u.problem.fingerprint,
        losses=[losses for _, losses in moments],
        policy_digest=policy.digest,
        context=getattr(u, "context", {}),
        **Identity(policy.name)._asdict(),
    )


def look(env: gym.Env[Any, Any], steps: int) -> dict[str, Any]:
    """What there is to see of a student: ``steps`` done, what ``evaluate`` says of ``inner_valid``
    (with ``kl``, nats) and ``test``, and ``similarity`` to the start on images of ``test``."""
    u: Any = env.unwrapped
    kl = float(u.proxy_losses("inner_valid").kl)
    inner_valid = {**u.evaluate("inner_valid"), "kl": kl}
    found = {"inner_valid": inner_valid, "test": u.evaluate("test"), "similarity": u.similarity()}
    return {"steps": steps, **found}


Watch = Literal["nothing", "end", "all"]
"""When :func:`run_episode` looks at the student: never, at the end, at every decision."""


def run_episode(
    env: gym.Env[Any, Any],
    policy: Policy,
    setup: EnvSetup,
    seed: int,
    watch: Watch = "nothing",
) -> Record:
    """Play one episode of ``env``, which ``setup`` made, with a policy.

    Raises:
        TypeError, ValueError: before the first step: an argument that no record could note.
    """
    u: Any = env.unwrapped
    noted = noted_setup(setup)
    observation, info = env.reset(seed=seed)
    policy.begin(u.group_names, u.observation_names, seed)
    moments, decisions = [(info["steps"], info["losses"])], list[Decision]()
    seen = [look(env, info["steps"])] if watch == "all" else []
    while not (decisions and decisions[-1].last):
        decision, observation, info = decide(env, policy, observation)
        decisions.append(decision)
        moments.append((info["steps"], info["losses"]))
        if watch == "all" or (watch == "end" and decision.last):
            seen.append(look(env, info["steps"]))
    final = seen[-1]["test"] if seen else u.evaluate("test")
    record = record_of(env, policy, noted, seed, moments, decisions, final)
    return dataclasses.replace(record, evaluations=seen)


def noted_setup(setup: EnvSetup) -> EnvSetup:
    """The same with arguments as JSON values; TypeError or ValueError if one has none."""
    return dataclasses.replace(setup, kwargs=json_arguments(setup.kwargs))


def play(policy: Policy, setup: EnvSetup, seed: int, watch: Watch = "nothing") -> Record:
    """One episode in an environment of its own."""
    env = setup.make()
    try:
        return run_episode(env, policy, setup, seed, watch)
    finally:
        env.close()
