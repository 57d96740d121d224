"""``visda-standin``: rendered solids in the place of VisDA-17, embedded.

Source: CAD-like renders of VisDA-17's twelve classes. Target: other shapes of the same classes
under photo-like conditions. Teacher: a small ResNet pretrained on *twelve other classes* under the
photo-like conditions, so that it knows the target's world but not the task. Retention: accuracy of
the old frozen classifier on held-out photo-like images of its own classes.

What it is not: VisDA-17. It shares the names of the classes and the kind of gap; its figures say
nothing about VisDA-17.

How it was tuned: the conditions of ``Photo`` by eye (a person recognises most targets, see
``experiments/contact_sheet.py``) and by runs; the number of CAD models, the spans of the shapes,
guidance and budget by runs of the schedules large, small backbone and frozen backbone on
``train:k`` and on sets of all twelve classes with other seeds; ``base_lr`` on three such sets, one
run for each of .05, .06, .08 and .12, with the paper's warm-up/poly factor, until the paper's order
was there. Those runs' target labels were read for that: it is a choice of the gap, not a result,
and a rough one. Earlier settings were looked at on the default variant as well. Nothing was tuned
after inner_valid and outer_valid had got 3D models of their own. What came of it is in
experiments/RESULTS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from asg_env.data.decode import IMAGENET_MEAN, IMAGENET_STD
from asg_env.data.splits import TensorSplit
from asg_env.isolation import isolated
from asg_env.models.groups import resnet_groups
from asg_env.models.resnet import CifarResNet
from asg_env.seeding import cpu_threads, isolated_rng
from asg_env.tasks.base import EmbeddedTask, Problem, embedded_defaults
from asg_env.tasks.render.objects import NEW_OBJECTS
from asg_env.tasks.render.old_objects import OLD_OBJECTS
from asg_env.tasks.render.scenes import Photo, clean_images, photo_images

WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "weights" / "visda_standin"
CLASSES = tuple(NEW_OBJECTS)
MODELS = {"train": 12, "inner_valid": 4, "outer_valid": 4}
"""CAD models of a class in each source split, all of them different; shown from many sides."""
SOURCE_SPAN, TARGET_SPAN, OLD_SPAN = (0.0, 0.65), (0.35, 1.0), (0.0, 1.0)
"""Shares of each shape parameter's range. Source and target share 0.3 of it."""
SOURCE, TARGET, OLD = range(3)  # random streams of one seed
PRETRAINING_SEED = 10**6  # the teacher's training images; variants have seeds below
HIDDEN = 64  # width of the new head's hidden layer
SUBSET = 8  # classes of a train or test variant


class Sizes(NamedTuple):
    """Views of each CAD model in the source splits, and images of the photo-like splits."""

    views: int
    test: int
    retention: int


MAIN_SIZES = Sizes(7, 600, 480)
VARIANT_SIZES = Sizes(5, 320, 240)


class StandinVariant(NamedTuple):
    """A set of classes and a seed of shapes, views and conditions."""

    name: str | None
    classes: tuple[str, ...]
    seed: int
    sizes: Sizes


def _variants() -> dict[str | None, StandinVariant]:
    rng = np.random.default_rng(2017)
    table: dict[str | None, StandinVariant] = {None: StandinVariant(None, CLASSES, 0, MAIN_SIZES)}
    seen: set[tuple[str, ...]] = set()
    names = [f"{kind}:{k}" for kind, count in (("train", 6), ("test", 4)) for k in range(count)]
    while len(table) <= len(names):
        chosen = tuple(CLASSES[k] for k in sorted(rng.choice(len(CLASSES), SUBSET, replace=False)))
        if chosen not in seen:
            name = names[len(seen)]
            table[name] = StandinVariant(name, chosen, len(table), VARIANT_SIZES)
            seen.add(chosen)
    return table


VARIANTS = _variants()


def _split(images: list[Tensor], rng: np.random.Generator, count: int | None = None) -> TensorSplit:
    """``count`` (None: all) preprocessed images in random order; ``images[k]`` has label k."""
    labels = torch.repeat_interleave(torch.arange(len(images)), len(images[0]))
    order = torch.from_numpy(rng.permutation(len(labels)))[:count]
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return TensorSplit(((torch.cat(images) - mean) / std)[order], labels[order])


def source_splits(classes: Sequence[str], views: int, seed: int) -> dict[str, TensorSplit]:
    """CAD-like renders, ``views`` of every model of every class; no two splits share a model."""
    images: dict[str, list[Tensor]] = {name: [] for name in MODELS}
    total = sum(MODELS.values())
    model = torch.arange(views * total) % total  # of each image, see clean_images
    for name in classes:
        rng = np.random.default_rng([seed, SOURCE, CLASSES.index(name)])
        made = clean_images(NEW_OBJECTS[name], len(model), total, SOURCE_SPAN, rng)
        first = 0
        for split, count in MODELS.items():
            images[split].append(made[(model >= first) & (model < first + count)])
            first += count
    rng = np.random.default_rng([seed, SOURCE])
    return {name: _split(parts, rng) for name, parts in images.items()}


def target_split(
    classes: Sequence[str], count: int, seed: int, photo: Photo | None = None
) -> TensorSplit:
    """Photo-like images of the same classes and of other shapes."""
    each = -(-count // len(classes))
    images = []
    for name in classes:
        rng = np.random.default_rng([seed, TARGET, CLASSES.index(name)])
        images.append(photo_images(NEW_OBJECTS[name], each, TARGET_SPAN, rng, photo or Photo()))
    return _split(images, np.random.default_rng([seed, TARGET]), count)


def old_split(count: int, seed: int, photo: Photo | None = None) -> TensorSplit:
    """Photo-like images of the teacher's own classes."""
    each = -(-count // len(OLD_OBJECTS))
    images = []
    for k, design in enumerate(OLD_OBJECTS.values()):
        rng = np.random.default_rng([seed, OLD, k])
        images.append(photo_images(design, each, OLD_SPAN, rng, photo or Photo()))
    return _split(images, np.random.default_rng([seed, OLD]), count)


def teacher_network() -> CifarResNet:
    """The teacher's architecture, untrained: four stages of one block, 16 to 128 channels."""
    return CifarResNet(depth=10, num_classes=len(OLD_OBJECTS), stages=4, stem_stride=2)


class VisdaStandinTask(EmbeddedTask):
    """Rendered solids -> the same under photo-like conditions. See the module's text."""

    name = "visda"
    dataset_name = "visda-standin: rendered solids (not VisDA-17)"
    defaults = embedded_defaults(base_lr=0.06, guidance=0.5, budget=100)
    table = VARIANTS

    @cache  # noqa: B019 - one VisdaStandinTask lives as long as the process
    @isolated
    def load(self, variant: str | None) -> Problem:
        """Render the images of one variant and load the teacher."""
        self.check_variant(variant)
        with cpu_threads(1):  # many small operations: more threads would only wait for each other
            return self._load(VARIANTS[variant])

    def _load(self, chosen: StandinVariant) -> Problem:
        with isolated_rng(0):
            network = teacher_network()
        network.load_state_dict(load_file(WEIGHTS / "teacher.safetensors"))
        network.eval().requires_grad_(True)
        target = target_split(chosen.classes, chosen.sizes.test, chosen.seed)
        return Problem(
            dataset=self.dataset_name,
            variant=chosen.name,
            splits={
                **source_splits(chosen.classes, chosen.sizes.views, chosen.seed),
                "test": target,
            },
            retention=old_split(chosen.sizes.retention, chosen.seed),
            classes=chosen.classes,
            network=network,
            model=f"{__name__}:{teacher_network.__name__}",
            classifier="linear",
            hidden=HIDDEN,
            groups=resnet_groups(network),
        )


VISDA_STANDIN = VisdaStandinTask()
