"""``ASG-Digits-v0``: rendered fonts -> real handwriting, embedded and real.

Source: digits of five classes rendered from fonts. Target: the UCI handwritten digits of the same
classes. Teacher: a small ResNet pretrained on *real handwriting of the other five digits*, so that
it knows the real domain but not the task, as ImageNet networks do for VisDA. Retention: accuracy of
the old frozen classifier on held-out handwriting of the teacher's digits.
"""

from __future__ import annotations

import itertools
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from asg_env.data.splits import TensorSplit
from asg_env.isolation import isolated
from asg_env.models.groups import resnet_groups
from asg_env.models.resnet import CifarResNet
from asg_env.seeding import isolated_rng
from asg_env.tasks.base import EmbeddedTask, Problem, embedded_defaults
from asg_env.tasks.fonts import TEST_FONTS, TRAIN_FONTS, render_digits

WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "weights" / "digits"
HELD_OUT = 1 / 3  # share of the teacher's handwriting kept for retention
SIZES = {"train": 1600, "inner_valid": 256, "outer_valid": 256}
HIDDEN = 32  # width of the new head's hidden layer
FONTS_PER_VARIANT = 6


class DigitsVariant(NamedTuple):
    """A class split, a set of fonts and a data seed.

    ``old`` are the teacher's digits; the task is to tell the other five apart.
    """

    name: str | None
    old: tuple[int, ...]
    fonts: tuple[str, ...]
    seed: int

    @property
    def new(self) -> tuple[int, ...]:
        """The digits of the task."""
        return tuple(d for d in range(10) if d not in self.old)

    @property
    def weights(self) -> Path:
        """The teacher's weight file."""
        return WEIGHTS / f"teacher_{''.join(map(str, self.old))}.safetensors"


def _variants() -> dict[str | None, DigitsVariant]:
    main = (0, 1, 2, 3, 4)
    splits = [c for c in itertools.combinations(range(10), 5) if c != main]
    rng = np.random.default_rng(2020)
    order = [splits[i] for i in rng.permutation(len(splits))]
    table: dict[str | None, DigitsVariant] = {
        None: DigitsVariant(None, main, TRAIN_FONTS + TEST_FONTS, 0)
    }
    for kind, pool, first, count in (("train", TRAIN_FONTS, 0, 8), ("test", TEST_FONTS, 8, 6)):
        for i in range(count):
            fonts = tuple(sorted(rng.choice(pool, FONTS_PER_VARIANT, replace=False).tolist()))
            name = f"{kind}:{i}"
            table[name] = DigitsVariant(name, order[first + i], fonts, 1 + first + i)
    return table


VARIANTS = _variants()


class Handwriting(NamedTuple):
    """``images`` (1797, 1, 8, 8) float32 in [0, 1]; ``labels`` (1797,) int64: the digit."""

    images: Tensor
    labels: Tensor


@lru_cache(maxsize=1)
@isolated
def load_handwriting() -> Handwriting:
    """The UCI handwritten digits that scikit-learn carries."""
    from sklearn.datasets import load_digits  # slow to import, needed only here

    data = load_digits()
    images = torch.from_numpy((data.images / 16).astype(np.float32))[:, None]
    return Handwriting(images, torch.from_numpy(data.target.astype(np.int64)))


def handwriting_of(digits: tuple[int, ...]) -> TensorSplit:
    """Every handwritten image of ``digits``; label k is ``digits[k]``."""
    data = load_handwriting()
    chosen = torch.isin(data.labels, torch.tensor(digits))
    return TensorSplit(
        data.images[chosen], torch.bucketize(data.labels[chosen], torch.tensor(digits))
    )


def teacher_splits(variant: DigitsVariant) -> tuple[TensorSplit, TensorSplit]:
    """The teacher's handwriting: (for pretraining, held out for retention)."""
    data = handwriting_of(variant.old)
    order = torch.from_numpy(np.random.default_rng(variant.seed).permutation(len(data)))
    cut = int(len(data) * HELD_OUT)
    return data.subset(order[cut:]), data.subset(order[:cut])


def teacher_network() -> CifarResNet:
    """The teacher's architecture, untrained."""
    return CifarResNet(depth=8, num_classes=5, in_channels=1, width=16)


def _source_splits(variant: DigitsVariant) -> dict[str, TensorSplit]:
    rendered = render_digits(variant.fonts, variant.new, sum(SIZES.values()), variant.seed)
    labels = torch.bucketize(rendered.labels, torch.tensor(variant.new))
    images, targets = (
        rendered.images.split(list(SIZES.values())),
        labels.split(list(SIZES.values())),
    )
    return {name: TensorSplit(i, t) for name, i, t in zip(SIZES, images, targets, strict=True)}


class DigitsTask(EmbeddedTask):
    """Rendered fonts -> real handwriting. See the module's text."""

    name = "digits"
    dataset_name = "fonts -> UCI handwritten digits"
    defaults = embedded_defaults(base_lr=0.1, guidance=0.3, budget=60)
    table = VARIANTS

    @cache  # noqa: B019 - one DigitsTask lives as long as the process
    @isolated
    def load(self, variant: str | None) -> Problem:
        """Render the source, load the teacher and the handwriting of one variant."""
        self.check_variant(variant)
        chosen = VARIANTS[variant]
        with isolated_rng(0):
            network = teacher_network()
        network.load_state_dict(load_file(chosen.weights))
        network.eval().requires_grad_(True)
        target = handwriting_of(chosen.new)
        return Problem(
            dataset=self.dataset_name,
            variant=variant,
            splits={**_source_splits(chosen), "test": target},
            retention=teacher_splits(chosen)[1],
            classes=tuple(map(str, chosen.new)),
            network=network,
            model=f"{__name__}:{teacher_network.__name__}",
            classifier="linear",
            hidden=HIDDEN,
            groups=resnet_groups(network),
        )


DIGITS = DigitsTask()
