"""Tune a family of schedules by random search: the experience of a learned policy, no learning.

    python agents/tune.py --family constant_vector            # one of asg_env/policies/families.py
    python agents/tune.py --family step_ratio --env ASG-DigitsContext-v0    # or of rivals.py there
    python experiments/finetune.py --policy runs/tune         # deploy what was found

Half of the episodes go to random candidates, which all play the same few seeds of the training
variants; the other half to the best of them, on fresh seeds, because the best of many is lucky. The
best mean return of the second half wins. Target labels are never read. Interrupt it whenever you
like; the same command resumes. It writes every candidate (``search.jsonl``) and ``policy.json``.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from tqdm import tqdm

from asg_env import cli
from asg_env.cli import EnvKwargs
from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.learning.run_folder import only_run
from asg_env.policies.families import TunedPolicy
from asg_env.policies.rivals import SEARCHED, RivalPolicy, candidate
from asg_env.ranges import SEED, whole
from asg_env.registry import check_choice
from asg_env.reports.trainings import SEARCH, Candidate, read_search
from asg_env.sealed import line_of
from asg_env.writing import append_lines, keep_lines

OWN_OPTIONS = {  # arguments of the environment that --env-kwargs may not set
    "action": "the family sets it",
    "observation": "the family sets it",
    "variant": "--variant chooses it",
}


@dataclass(frozen=True)
class Args:
    """Tune a family of schedules by random search."""

    family: str = "constant_vector"
    """A key of FAMILIES in asg_env/policies/families.py, or of RIVALS in rivals.py there."""
    env: str = "ASG-Digits-v0"
    """Environment id."""
    env_kwargs: EnvKwargs = field(default_factory=dict)
    """More arguments of the environment, as pairs: --env-kwargs base_lr 0.1 budget 400"""
    variant: str | None = "train"
    """Variant to search on; "train" draws one for each seed."""
    out: Path = Path("runs/tune")
    """Folder for everything it writes."""
    seed: Annotated[int, SEED] = 0
    """Seed of the candidates and of the episodes."""
    episodes: Annotated[int, whole(1)] = 2080
    """Episodes of the whole search."""
    repeats: Annotated[int, whole(1)] = 4
    """Episodes of each candidate."""
    finalists: Annotated[int, whole(1)] = 8
    """Candidates that the second half is played with."""


def play(env: FinetuneEnv, policy: TunedPolicy | RivalPolicy, seed: int) -> tuple[float, int]:
    """The undiscounted return of one episode, and its optimizer steps."""
    observation, _ = env.reset(seed=seed)
    policy.begin(env.group_names, env.observation_names, seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total, over = total + reward, terminated or truncated
    return total, info["steps"]


class Search:
    """The search of one family; every candidate's result is written as it comes.

    Args:
        args: see :class:`Args`.
        env: of ``args``, with the policies' own arguments.
    """

    def __init__(self, args: Args, env: FinetuneEnv) -> None:
        self.args, self.env = args, env
        self.path = args.out / SEARCH
        self.done = read_search(self.path)
        keep_lines(self.path, len(self.done))  # not the one that a crash cut short
        total = args.episodes
        self.candidates = max(1, total // 2 // args.repeats)
        self.finalists = min(args.finalists, self.candidates)
        self.fresh = max(1, (total - self.candidates * args.repeats) // self.finalists)

    def run(self) -> Candidate:
        """Play what is left; the winner."""
        count = self.candidates * self.args.repeats + self.finalists * self.fresh
        past = sum(len(c.returns) for c in self.done)
        with tqdm(total=count, initial=past, desc=self.args.family) as bar:
            first = [self._play(1, k, self._draw(k), self._seeds(1), bar) for k in self._range(1)]
            best = sorted(first, key=lambda c: -c.score)[: self.finalists]
            last = [self._play(2, k, c.parameters, self._seeds(2), bar) for k, c in enumerate(best)]
        return max(last, key=lambda c: c.score)

    def _range(self, half: int) -> range:
        return range(self.candidates if half == 1 else self.finalists)

    def _draw(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.args.seed, number])
        return SEARCHED[self.args.family].draw(rng, len(self.env.group_names))

    def _seeds(self, half: int) -> list[int]:
        rng = np.random.default_rng([self.args.seed, 10**6, half])
        count = self.args.repeats if half == 1 else self.fresh
        return rng.integers(10**6, size=count).tolist()

    def _play(
        self, half: int, number: int, parameters: dict[str, Any], seeds: Sequence[int], bar: Any
    ) -> Candidate:
        place = number + (self.candidates if half == 2 else 0)
        about = {"half": half, "parameters": parameters, "seeds": list(seeds)}
        if place < len(self.done):
            differ = [k for k, value in about.items() if getattr(self.done[place], k) != value]
            if differ:
                raise SystemExit(
                    f"{self.path}: candidate {place + 1} has other {' and '.join(differ)} than "
                    f"this version would play; delete {self.args.out} to start over"
                )
            return self.done[place]
        policy = self.policy(parameters)
        began, returns, steps = time.perf_counter(), [], 0
        for seed in seeds:
            value, done = play(self.env, policy, seed)
            returns.append(value)
            steps += done
            bar.update()
        seconds = time.perf_counter() - began
        self.done.append(Candidate(half, parameters, list(seeds), returns, steps, seconds))
        append_lines(self.path, line_of(dataclasses.asdict(self.done[-1])))
        return self.done[-1]

    def policy(self, parameters: dict[str, Any]) -> TunedPolicy | RivalPolicy:
        """A candidate as a policy."""
        return candidate(self.args.family, parameters, len(self.env.group_names))


def check(args: Args) -> Args:
    """The arguments with the variant as it will be used; SystemExit if one is wrong."""
    cli.check_ranges(args)
    if args.repeats > args.episodes:
        raise SystemExit(f"--repeats {args.repeats}: expected <= --episodes, {args.episodes}")
    try:
        check_choice("--family", args.family, SEARCHED)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    cli.refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    return cli.fit_variants(args, cli.check_env(EnvSetup(args.env, args.env_kwargs)).task)


def train(args: Args) -> TunedPolicy | RivalPolicy:
    """Search, or go on with it, and write the winner."""
    torch.set_num_threads(1)
    args = check(args)
    setup = EnvSetup(args.env, args.env_kwargs).updated(variant=args.variant)
    env = cli.check_env(setup.updated(**candidate(args.family, {}, 0).env_kwargs))
    with only_run(args.out, dataclasses.asdict(args)):
        search = Search(args, env)
        winner = search.run()
        policy = search.policy(winner.parameters)
        policy.save(args.out / "policy.json")
        shown = ", ".join(f"{k} {np.round(v, 3)}" for k, v in policy.parameters.items())
        print(
            f"{policy.name}: {shown}; mean return {winner.score:.3f} "
            f"over {search.fresh} fresh seeds"
        )
        return policy


if __name__ == "__main__":
    cli.run(train, Args)
