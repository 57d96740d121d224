"""Does a reward mean anything? Rank correlation of each named reward's return with what counts.

    python experiments/reward_validity.py --task digits
    python experiments/reward_validity.py --task visda                        # the stand-in

Random policies fine-tune, half of them with a constant scale for each layer group, half with scales
that move from one random vector to another; groups may be frozen, but never the new head. For each
variant of the task: Spearman's correlation (as scipy's) over the policies of a reward's return with
target accuracy and with retention. The table has the means over the variants and 95% intervals of a
bootstrap that draws policies anew, the same for all variants and rewards, so that differences from
the environment's default reward are paired. Rewards are computed from the recorded losses, so that
lambda inside the reward, and the number of images that it is measured on (``--probes``, the
environment's ``reward_images``), vary without training again. Writes records (JSONL; run it again
to resume), the table (Markdown + JSON) and a plot.

By default it runs on the training variants: a default that is chosen from it has not seen the test
variants, though it has seen the target labels of the training ones.
"""

from __future__ import annotations

RESUMES = True  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np

from asg_env.cli import check_ranges, refuse_env_kwargs, run
from asg_env.envs import FinetuneEnv
from asg_env.envs.rewards import REWARDS, Transition, capped
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.compare import compare, drawn
from asg_env.evaluation.play import run_episode
from asg_env.evaluation.records import Record
from asg_env.experiment import TaskArgs
from asg_env.learning.run_folder import only_run
from asg_env.policies.base import Policy
from asg_env.policies.digest import digest
from asg_env.policies.families import log_uniform
from asg_env.policies.schedules import HAND_TUNED
from asg_env.ranges import whole
from asg_env.reports.bootstrap import draw_policies, of_draws
from asg_env.reports.comparison import ON_TARGET
from asg_env.reports.statistics import Interval, no_interval
from asg_env.reports.table import Column, Entry, Table, named
from asg_env.writing import save_figure

SAME = "proxy_valid_terminal"  # its return is that of proxy_valid
LAMBDAS = (0.0, 0.1, 0.3, 1.0, 3.0)  # and the environment's own
FROZEN = 0.15  # probability of a scale of 0
Key = tuple[str, float, int | None]
"""A reward, lambda inside it, and how many images it is measured on (None: all)."""
OWN_OPTIONS = {  # arguments of the environment that --env-kwargs may not set
    "action": "the random policies set scales",
    "variant": "--variants chooses it",
    "reward_images": "--probes chooses it",
}


@dataclass(frozen=True)
class Args(TaskArgs):
    """Correlate rewards with target accuracy and retention over random policies."""

    variants: Literal["train", "test", "own"] = "train"
    """Which of the task's variants; "own": the task itself, as for your own images."""
    policies: Annotated[int, whole(2)] = 100
    """Random policies, the same for every variant."""
    probes: Annotated[tuple[int, ...], whole(1)] = (8, 32)
    """Images of the small probes beside the whole of outer_valid."""
    processes: Annotated[int, whole(1, 1024)] = 2
    """Runs at a time, a process and a CPU thread each."""
    out: Path | None = None
    """Folder for everything it writes; None: runs/reward_validity_TASK."""
    quick: bool = False
    """A tiny run: 6 policies, two variants, 4 optimizer steps."""
    may_change = ("processes", "policies", "out")


class RandomPath:
    """A policy whose scales go from one random vector to another; number k decides both.

    Even numbers stay at the first vector.
    """

    def __init__(self, number: int) -> None:
        self.number, self.name = number, f"random {number}"
        self.env_kwargs: dict[str, Any] = dict(HAND_TUNED)
        self.digest = digest({"random path": number})

    def begin(
        self, group_names: Sequence[str], observation_names: Sequence[str], seed: int
    ) -> None:
        """Draw the vectors."""
        rng = np.random.default_rng([7, self.number])
        self._ends = [self._draw(rng, len(group_names)) for _ in range(2)]
        if self.number % 2 == 0:
            self._ends[1] = self._ends[0]
        self._progress = list(observation_names).index("progress")

    @staticmethod
    def _draw(rng: np.random.Generator, groups: int) -> np.ndarray:
        scales = np.array([log_uniform(rng) for _ in range(groups)])
        scales[:-1] *= rng.random(groups - 1) >= FROZEN  # never the new head, the last group
        return scales

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The action (G,) float32 for an observation."""
        progress = float(observation[self._progress])
        first, last = self._ends
        return (first + progress * (last - first)).astype(np.float32)


class Probed(gym.Wrapper[Any, Any, Any, Any]):
    """Adds the losses on the first images of outer_valid, for each number of ``probes``."""

    def __init__(self, env: gym.Env[Any, Any], probes: Sequence[int]) -> None:
        super().__init__(env)
        self.probes = probes

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        observation, info = self.env.reset(**kwargs)
        return observation, self._with_probes(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        *outcome, info = self.env.step(action)
        return (*outcome, self._with_probes(info))

    def _with_probes(self, info: dict[str, Any]) -> dict[str, Any]:
        u = self.env.unwrapped
        assert isinstance(u, FinetuneEnv)
        losses = dict(info["losses"])
        for images in self.probes:
            ce, kl = u.proxy_losses("outer_valid", images)
            losses |= {loss_name("ce", images): float(ce), loss_name("kl", images): float(kl)}
        return {**info, "losses": losses}


def loss_name(term: str, images: int | None) -> str:
    """Under which name a loss on outer_valid is recorded; None: on all its images."""
    return f"valid_{term}" if images is None else f"valid_{term}_{images}"


def play_probed(policy: Policy, setup: EnvSetup, seed: int, probes: Sequence[int]) -> Record:
    """One episode, with the losses that a reward would read on few images."""
    env = Probed(setup.make(), probes)
    try:
        return run_episode(env, policy, setup, seed)
    finally:
        env.close()


# -- from records to rewards -----------------------------------------------------------------------


def phis(record: Record, guidance: float, images: int | None) -> list[float]:
    """Phi at the start and after each decision, with another lambda or on fewer images."""
    ce, kl = loss_name("ce", images), loss_name("kl", images)
    return [capped(loss[ce] + guidance * loss[kl]) for loss in record.losses]


def returns(record: Record, guidance: float, images: int | None = None) -> dict[str, float]:
    """The return that each named reward (but the oracle, and SAME) would have given."""
    phi, losses = phis(record, guidance, images), record.losses
    train = [capped(x["train_ce"] + guidance * x["train_kl"]) for x in losses]
    steps = [
        Transition(phi[0], phi[t - 1], phi[t], train[t - 1], train[t], t == len(phi) - 1)
        for t in range(1, len(phi))
    ]
    terms = {n: term.value for n, term in REWARDS.items() if not term.oracle and n != SAME}
    return {name: sum(value(step) for step in steps) for name, value in terms.items()}


def scores(
    records: Sequence[Record], lambdas: Sequence[float], probes: Sequence[int]
) -> dict[Key, np.ndarray]:
    """Returns by reward, lambda and images, in the order of the policies."""
    table: dict[Key, list[float]] = {}
    for guidance in lambdas:
        for images in (None, *probes):
            for record in records:
                for name, value in returns(record, guidance, images).items():
                    if images is None or name != "train_loss":  # which reads no such image
                        table.setdefault((name, guidance, images), []).append(value)
    return {key: np.array(values) for key, values in table.items()}


# -- correlations ----------------------------------------------------------------------------------


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis less their mean, divided by their norm; NaN where all are equal."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ranks / np.sqrt((ranks**2).sum(-1, keepdims=True))


def correlations(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the variants of Spearman's correlation, for each row of :func:`centred_ranks`."""
    return np.mean([(x * y).sum(-1) for x, y in zip(first, second, strict=True)], 0)


def table_rows(
    by_variant: Sequence[Sequence[Record]], default: Key, probes: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """One entry for each reward, lambda, number of images and metric.

    Args:
        by_variant: records.
        default: the reward that all are compared with.
        probes: numbers of images that the records have losses on.
    """
    count = len(by_variant[0])
    chosen = draw_policies(count)
    lambdas = sorted({*LAMBDAS, default[1]})
    scored = [scores(records, lambdas, probes) for records in by_variant]
    measured = {
        metric: [
            centred_ranks(np.array([r.final.get(metric, np.nan) for r in records])[chosen])
            for records in by_variant
        ]
        for metric in ON_TARGET
    }
    found: dict[tuple[Key, str], np.ndarray] = {}
    for key in scored[0]:
        ranks = [centred_ranks(values[key][chosen]) for values in scored]
        for metric in ON_TARGET:
            found[key, metric] = correlations(ranks, measured[metric])
    return [
        row_of(key, metric, values, found.get((default, metric)))
        | {"policies": count, "variants": len(by_variant), "default": key == default}
        for (key, metric), values in found.items()
    ]


def row_of(key: Key, metric: str, values: np.ndarray, default: np.ndarray | None) -> dict[str, Any]:
    """An entry: the correlation, and that less the default reward's."""
    row: dict[str, Any] = {"name": key[0], "guidance": key[1], "images": key[2], "metric": metric}
    row |= {**of_draws(values).entry(), "seeds": 1}
    if default is None:
        return row | no_interval("difference")
    return row | of_draws(values - default).entry("difference")


def validity_table(rows: Sequence[Entry], title: str) -> Table:
    """A part for each metric, a row for each reward, a column for each lambda."""
    lambdas = list(dict.fromkeys(row["guidance"] for row in rows))
    parts = [
        [
            named(f"with {metric}"),
            Column("images", text=lambda row: str(row["images"] or "all")),
            *(
                Column(f"lambda {x:g}", {"metric": metric, "guidance": x}, digits=2, mark=_judged)
                for x in lambdas
            ),
        ]
        for metric in ON_TARGET
    ]
    count = rows[0]["variants"]
    note = (
        f"{title}. Spearman's rank correlation of the return over {rows[0]['policies']} random "
        f"policies, {f'mean of {count} variants, ' if count > 1 else ''}95% bootstrap intervals "
        "over policies. "
        "Lambda is that inside the reward. Bold: the environment's default; + or -: above or below "
        "it, the interval of the paired difference excluding 0. proxy_valid_terminal has the "
        "return of proxy_valid."
    )
    return Table(rows, parts, by=("name", "images"), note=note)


def _judged(row: Entry, text: str) -> str:
    """Bold for the default; whether others are above or below it."""
    if np.isnan(row["mean"]):
        return text
    if row["default"]:
        return f"**{text}**"
    gap = Interval.of(row, "difference")
    return text if gap is None or not gap.excludes_zero else text + (" +" if gap.low > 0 else " -")


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Correlation over lambda, a line for each reward."""
    from matplotlib.figure import Figure

    figure = Figure((11, 4), 120, layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ON_TARGET, strict=True):
        names = dict.fromkeys((r["name"], r["images"]) for r in rows)
        for i, (name, images) in enumerate(names):
            line = [
                r for r in rows if (r["name"], r["images"], r["metric"]) == (name, images, metric)
            ]
            mean = np.array([r["mean"] for r in line])
            ends = np.array([r["ci95"] for r in line]).T
            place = np.arange(len(line)) + 0.06 * (i - len(names) / 2)
            label = name if images is None else f"{name}, {images} images"
            axes.errorbar(place, mean, [mean - ends[0], ends[1] - mean], marker="o", label=label)
        axes.axhline(0, color="black", linewidth=0.5)
        lambdas = dict.fromkeys(r["guidance"] for r in rows)
        axes.set_xticks(range(len(lambdas)), [f"{x:g}" for x in lambdas])
        axes.set(xlabel="lambda inside the reward", title=f"with {metric}")
    figure.axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.supylabel("Spearman's correlation of the return")
    figure.suptitle(title)
    save_figure(figure, path)


# -- running ---------------------------------------------------------------------------------------


def variant_names(args: Args, env: FinetuneEnv) -> list[str | None]:
    """The variants to run on; SystemExit if the task has none of that kind."""
    if args.variants == "own":
        return [None]
    names = list(env.task.variants(args.variants))
    if not names:
        name = args.env or args.task
        raise SystemExit(f"--variants {args.variants}: {name} has none; pass --variants own")
    return [*names[:2]] if args.quick else [*names]


def main(args: Args) -> str:
    """Play, correlate, report."""
    out = args.out or args.folder("reward_validity")
    check_ranges(args)
    refuse_env_kwargs(args.env_kwargs, OWN_OPTIONS)
    setup = args.setup()
    env = args.make(setup)
    names = variant_names(args, env)
    with only_run(out, args.noted()):
        policies = [RandomPath(k) for k in range(6 if args.quick else args.policies)]
        trials = [
            compare(
                policies,
                setup,
                drawn(name, [0]),
                out / f"records_{(name or 'own').replace(':', '')}.jsonl",
                args.processes,
                partial(play_probed, probes=args.probes),
            )
            for name in names
        ]
        default = env.config.reward, float(env.config.reward_guidance or 0), None
        rows = table_rows(trials, default, args.probes)
        title = trials[0][0].dataset + (f", {args.variants} variants" if names[0] else "")
        text = validity_table(rows, title).write(out)
        plot(rows, title, out / "table.png")
        print(text)
        return text


if __name__ == "__main__":
    run(main, Args)
