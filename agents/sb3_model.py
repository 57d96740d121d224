"""The environment copies, and the algorithm of Stable-Baselines3 that learns from them."""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RescaleAction
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecMonitor,
    VecNormalize,
)

from agents.reinforce import EVAL_SEED
from agents.sb3_args import Args
from asg_env.policies.sb3 import Description, SB3Policy, network_kwargs
from asg_env.policies.sb3_algorithms import Algorithm, Values


class Copy(gym.Wrapper[Any, Any, Any, Any]):
    """One of the environment's copies: each of its episodes has a seed of its own.

    Args:
        env: the environment.
        key: numbers that the seeds are made of, together with the episode's number.
    """

    def __init__(self, env: gym.Env[Any, Any], key: tuple[int, ...]) -> None:
        super().__init__(env)
        self.key, self.episode, self.playing = key, -1, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The next episode; ``seed`` is ignored."""
        self.episode, self.playing = self.episode + 1, False
        own = int(np.random.default_rng([*self.key, self.episode]).integers(EVAL_SEED))
        return self.env.reset(seed=own, options=options)

    def step(self, action: Any) -> Any:
        """As the environment does."""
        result = self.env.step(action)
        self.playing = not (result[2] or result[3])
        return result

    def save_episode(self, path: Path) -> tuple[int, bool]:
        """The episode's number, and whether it is under way, in which case ``path`` is written."""
        if self.playing:
            self.get_wrapper_attr("save")(path)
        return self.episode, self.playing

    def load_episode(self, episode: int, path: Path | None) -> None:
        """Start an episode; with a path, go on with the one that was saved there."""
        self.episode = episode - 1
        self.reset()
        if path is not None:
            self.get_wrapper_attr("load")(path)
            self.playing = True


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
    common = algorithm.common_seeds if args.common_seeds is None else args.common_seeds
    for i in range(args.num_envs):
        key = (args.seed,) if common else (args.seed, 1 + i)
        makers.append(partial(make_copy, "asg_env:" + args.env, kwargs, key, in_process))
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    copies: VecEnv = DummyVecEnv(makers) if in_process else SubprocVecEnv(makers, method)
    return VecNormalize(
        VecMonitor(copies),
        norm_reward=values.run["normalise_reward"],
        gamma=values.model["gamma"],
    )


def end(envs: VecEnv) -> None:
    """End them at once, workers too: an interrupted step would never be answered."""
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
            "gradient_steps": run["replays"] * plan.rollout * plan.copies,
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
