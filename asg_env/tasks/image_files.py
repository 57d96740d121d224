"""Tasks whose images are files: what VisDA-17 and a user's own folders have in common."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from asg_env.data.copies import check_apart, together, warn_of_two_labels
from asg_env.data.decode import Transform
from asg_env.data.files import FileList, held_out
from asg_env.data.image_split import ImageSplit, LoaderSettings
from asg_env.isolation import isolated
from asg_env.models.groups import GroupsLike, student_groups
from asg_env.models.pretrained import (
    Pretrained,
    evaluation_resize,
    input_size,
    load_pretrained,
    weight_file,
)
from asg_env.models.student import Student
from asg_env.ranges import Range, ranges_of, whole
from asg_env.tasks.base import Defaults, Problem, Task

HEAD_WIDTH = 512  # of the new head's hidden layer (paper)
PLACES = ("none", "memory", "auto")  # values of cache= that name no folder
LARGE = 64  # pixels from which channels_last pays


@dataclass(frozen=True)
class ImageSettings:
    """How the images of a task are read and which network is fine-tuned: environment arguments."""

    model: str = "resnet101"
    """A torchvision classification model, ``cifar_resnet20`` (32, 44, 56), or "module:factory"."""
    weights: str | os.PathLike[str] = "IMAGENET1K_V1"
    """A file (safetensors or a state dict), a name of torchvision's weights, or ``"random"``."""
    classifier: str | None = None
    """Path of the network's final linear layer; None: the last ``nn.Linear``."""
    groups: GroupsLike | None = None
    """Layer groups: {name: [paths]}, a function network -> such a mapping, or "module:function"."""
    hidden: Annotated[int | None, whole(1, 100_000)] = None
    """Width of the new head's hidden layer; None: 512 (paper)."""
    image_size: Annotated[int | None, whole(1, 10_000)] = None
    """Side of the images, pixels; None: 224, or 32 for the CIFAR ResNets."""
    retention_resize: Annotated[int | None, whole(1, 10_000)] = None
    """Shorter side of the retention images, pixels, before their middle is cut out; None: 8/7 of
    image_size (ImageNet networks are evaluated at 256 and 224), or image_size for the CIFAR
    ResNets."""
    held_out: Annotated[float, Range(above=0, below=1 / 3)] = 0.1
    """Share of the source images, class by class, in each of inner_valid and outer_valid."""
    flip_average: bool = False
    """Evaluate the mean of sigmoid(logits) over each image and its mirror (paper)."""
    workers: Annotated[int | None, whole(0, 1024)] = None
    """Decoding threads; 0: none. None: one a core, at most eight, and 0 in worker processes."""
    cache: str | os.PathLike[str] = "auto"
    """Where decoded images and teacher outputs are kept: ``"none"``, ``"memory"``, a folder, or
    ``"auto"``: memory up to 256 MiB a split."""
    on_error: str = "stop"
    """An unreadable image stops the run with its name (``"stop"``), or is left out (``"skip"``)."""

    def __post_init__(self) -> None:
        self._expect("model", isinstance(self.model, str), "a name")
        self._expect("weights", isinstance(self.weights, (str, os.PathLike)), "a file or a name")
        self._expect("classifier", isinstance(self.classifier, (str, NoneType)), "None or a path")
        self._expect("cache", isinstance(self.cache, (str, os.PathLike)), "a folder or a name")
        self._expect("flip_average", isinstance(self.flip_average, bool), "True or False")
        for name, allowed in ranges_of(ImageSettings).items():
            value = getattr(self, name)
            left_open = value is None and name != "held_out"
            self._expect(name, left_open or value in allowed, allowed.words)
        self.loader.check()
        self._resolve()

    def _resolve(self) -> None:
        """Make paths absolute: the working directory may be another one when they are used."""
        if os.fspath(self.cache) not in PLACES:
            cache = os.path.abspath(os.path.expanduser(self.cache))
            object.__setattr__(self, "cache", cache)
        path = weight_file(self.model, self.weights)
        if path is not None:
            object.__setattr__(self, "weights", os.fspath(path))

    def _expect(self, name: str, fine: bool, expected: str) -> None:
        if not fine:
            raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}")

    @property
    def loader(self) -> LoaderSettings:
        """The part that the loader reads."""
        return LoaderSettings(self.workers, os.fspath(self.cache), self.on_error)

    @property
    def cache_folder(self) -> Path | None:
        """The folder to keep things in, or None."""
        cache = os.fspath(self.cache)
        return None if cache in PLACES else Path(cache)


class ImageFilesTask(Task):
    """Fine-tuning on labelled image files.

    Args:
        name: the task's.
        dataset: what the images are, as shown to people.
        source: synthetic images; train, inner_valid and outer_valid come out of them.
        target: real images of the same classes.
        retention: real images of the pretrained network's classes, in its order, or None.
        settings: how they are read, and the network.
        defaults: of the environment's arguments.
        object_of: what a source image shows, by its path; see
            :func:`~asg_env.data.files.held_out`. Images of equal content count as one object, so
            that they are on one side of that split.

    Raises:
        ValueError: source, target and retention share an image, or a class has too few.
    """

    def __init__(
        self,
        name: str,
        dataset: str,
        source: FileList,
        target: FileList,
        retention: FileList | None,
        settings: ImageSettings,
        defaults: Defaults,
        object_of: Callable[[str], str] = str,
    ) -> None:
        self.size = settings.image_size or input_size(settings.model)
        self.name, self.dataset = name, dataset
        self.defaults = dataclasses.replace(defaults, channels_last=self.size >= LARGE)
        self.source, self.target, self.retention = source, target, retention
        self.settings = settings
        lists = {"source": source, "target": target, "retention": retention}
        groups = check_apart({name: files for name, files in lists.items() if files is not None})
        warn_of_two_labels(source, groups)
        object_of = together(source, groups, object_of)
        self.parts: tuple[np.ndarray, ...] = held_out(source, settings.held_out, 0, object_of)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickled without the images that it loaded; see :func:`shared`."""
        state = {name: value for name, value in vars(self).items() if name != "_problem"}
        return _rebuilt, (type(self), state)

    def __deepcopy__(self, memo: dict[int, Any]) -> ImageFilesTask:
        """Itself: all copies of what uses it share its images."""
        return self

    def variants(self, split: str) -> Sequence[str]:
        """None: there is one data set."""
        return []

    def load(self, variant: str | None) -> Problem:
        """The problem; the same object every time."""
        self.check_variant(variant)
        return self._problem

    @cached_property
    @isolated
    def _problem(self) -> Problem:
        settings = self.settings
        made = load_pretrained(settings.model, settings.weights, settings.classifier)
        size, loader = self.size, settings.loader
        transform = Transform(size, size)
        names = ("train", "inner_valid", "outer_valid")
        source = {
            name: ImageSplit(self.source.subset(part), transform, loader)
            for name, part in zip(names, self.parts, strict=True)
        }
        retention = None
        if self.retention is not None:
            _check_retention(self.retention, made)
            resize = settings.retention_resize or evaluation_resize(settings.model, size)
            retention = ImageSplit(self.retention, Transform(size, max(size, resize)), loader)
        _check_output(made, size)
        return Problem(
            dataset=self.dataset,
            variant=None,
            splits={**source, "test": ImageSplit(self.target, transform, loader)},
            retention=retention,
            classes=self.source.classes,
            network=made.network,
            model=settings.model,
            classifier=made.classifier,
            hidden=settings.hidden or HEAD_WIDTH,
            groups=student_groups(made.network, made.classifier, settings.groups, size),
            flip_average=settings.flip_average,
            transform=transform,
            teacher_folder=settings.cache_folder,
        )


_tasks: dict[tuple[str, ...], ImageFilesTask] = {}  # of this process, the last few
_lock = threading.Lock()


def shared(task: ImageFilesTask) -> ImageFilesTask:
    """An equal task that this process has made already and may have loaded, or this one."""
    lists: list[FileList] = [x for x in (task.source, task.target, task.retention) if x]
    settings = repr(task.settings), _stamp(task.settings.weights)
    key = (task.name, *settings, *(f"{x.root} {x.content_key}" for x in lists))
    with _lock:
        task = _tasks.pop(key, task)
        _tasks[key] = task
        while len(_tasks) > 4:
            del _tasks[next(iter(_tasks))]
    return task


def _stamp(path: str | os.PathLike[str]) -> str:
    """What changes when a file does; "" where there is none."""
    found = Path(path).expanduser()
    return f"{found.stat().st_size} {found.stat().st_mtime_ns}" if found.is_file() else ""


def _rebuilt(kind: type[ImageFilesTask], state: dict[str, Any]) -> ImageFilesTask:
    task = kind.__new__(kind)
    vars(task).update(state)
    return shared(task)


def _check_retention(files: FileList, made: Pretrained) -> None:
    if len(files.classes) != made.num_classes:
        raise ValueError(
            f"{files.root} has {len(files.classes)} class folders, but the pretrained network has "
            f"{made.num_classes} classes: retention_root needs one folder for each of them, in "
            "the order of the network's outputs when sorted by name"
        )


def _check_output(made: Pretrained, size: int) -> None:
    """Raise ValueError unless the network's output is its classifier's, and nothing else."""
    image = torch.linspace(-2, 2, 3 * size * size).view(1, 3, size, size)
    try:
        with torch.no_grad():
            whole: object = made.network(image)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"the network does not accept {size} x {size} images: {error}") from error
    if not (isinstance(whole, torch.Tensor) and _is_linear(whole, made, image)):
        raise ValueError(
            f"the network's output is not that of its linear layer {made.classifier!r}: name the "
            "layer that gives the logits, classifier='path.of.layer', in a network that returns "
            "them as they are (a tensor, no softmax)"
        )


def _is_linear(output: Tensor, made: Pretrained, image: Tensor) -> bool:
    """Whether it is the classifier's of the features that the student sees."""
    with torch.no_grad():
        features = Student(made.network, made.classifier, 2, 1, 0).backbone(image)
        expected = made.network.get_submodule(made.classifier)(features)
    return output.shape == expected.shape and torch.allclose(output, expected, 1e-4, 1e-4)
