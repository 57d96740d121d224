"""What ``gymnasium.make`` calls: one function for each id."""

from __future__ import annotations

import dataclasses
import os
import warnings
from typing import Any

from asg_env.data.order import epoch_length
from asg_env.envs.arguments import Arguments, check_names, field_names
from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.plain import plain_values
from asg_env.tasks.base import Defaults
from asg_env.tasks.image_files import ImageFilesTask, ImageSettings, shared

DATA_ROOT = "ASG_DATA_ROOT"  # environment variable
STANDIN = (
    "no data_root= and no ASG_DATA_ROOT: ASG-VisDA-v0 runs on its embedded stand-in visda-standin, "
    "not on VisDA-17"
)
CONTEXT_DEFAULTS = {"action": "log", "observation": "loop"}
TRAIN_DECADES, TEST_DECADES = 3.0, 4.0  # over which a hidden base learning rate is drawn


def make_digits(data_root: str | None = None, **arguments: Any) -> FinetuneEnv:
    """``ASG-Digits-v0``. See :mod:`asg_env.tasks.digits`."""
    from asg_env.tasks.digits import DIGITS  # fonts and images load only when asked for

    if data_root is not None:
        raise ValueError(
            f"data_root={data_root!r}: ASG-Digits-v0 is embedded and reads no folder; leave it out"
        )
    return FinetuneEnv(DIGITS, **arguments)


def make_digits_context(**arguments: Any) -> FinetuneEnv:
    """``ASG-DigitsContext-v0``: the digits with a base learning rate that nobody is told.

    It is drawn at each reset, log-uniform over three decades around the task's own, or with a test
    variant over four. Twelve decisions of five optimizer steps.

    Args:
        arguments: as of ``ASG-Digits-v0``; those of CONTEXT_DEFAULTS have other defaults.
    """
    from asg_env.tasks.digits import DIGITS

    return make_digits(**_hidden(DIGITS.defaults, {"window": 5}, arguments))


def make_visda_context(**arguments: Any) -> FinetuneEnv:
    """``ASG-VisDAContext-v0``: the same on VisDA-17, at the paper's windows, or on its embedded
    stand-in: ten decisions of ten steps."""
    from asg_env.tasks.visda import PAPER

    if arguments.get("data_root") or os.environ.get(DATA_ROOT):
        return make_visda(**_hidden(PAPER, {"decide_first": True}, arguments))
    from asg_env.tasks.visda_standin import VISDA_STANDIN

    return make_visda(**_hidden(VISDA_STANDIN.defaults, {"window": 10}, arguments))


def _hidden(own: Defaults, more: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with a hidden base learning rate around a task's own; those that are given win."""
    wide = str(arguments.get("variant")).startswith("test")
    decades = (TEST_DECADES if wide else TRAIN_DECADES) / 2
    low, high = (own.base_lr * 10.0**d for d in (-decades, decades))
    context = {"base_lr": ("log_uniform", low, high)}
    return {**CONTEXT_DEFAULTS, "context": context, **more, **arguments}


def make_visda(
    data_root: str | os.PathLike[str] | None = None,
    retention_root: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> FinetuneEnv:
    """``ASG-VisDA-v0``. See :mod:`asg_env.tasks.visda`.

    Args:
        data_root: an unpacked VisDA-17; None: the environment variable ASG_DATA_ROOT, and without
            it the embedded stand-in.
        retention_root: an ImageNet validation folder, one folder for each of its 1000 classes.
        arguments: of :class:`~asg_env.tasks.image_files.ImageSettings` and of Arguments.
    """
    from asg_env.tasks.visda import EPOCHS, HELD_OUT, visda_task

    defaults = ImageSettings(held_out=HELD_OUT, flip_average=True)
    roots = "data_root", "retention_root"
    settings, arguments = _sorted(defaults, arguments, *roots)
    if data_root is None:
        data_root = os.environ.get(DATA_ROOT) or None
    if data_root is None:
        return _standin(settings, defaults, retention_root, arguments)
    _check_roots(data_root=data_root, retention_root=retention_root)
    return _make(visda_task(data_root, retention_root, settings), EPOCHS, arguments)


def make_image_folder(
    source_root: str | os.PathLike[str] | None = None,
    target_root: str | os.PathLike[str] | None = None,
    retention_root: str | os.PathLike[str] | None = None,
    **arguments: Any,
) -> FinetuneEnv:
    """``ASG-ImageFolder-v0``. See :mod:`asg_env.tasks.image_folder`.

    Args:
        source_root: labelled synthetic images, one folder a class.
        target_root: labelled real images, the same class folders.
        retention_root: real images of the pretrained network's classes, or None.
        arguments: of :class:`~asg_env.tasks.image_files.ImageSettings` and of Arguments.
    """
    from asg_env.tasks.image_folder import EPOCHS, image_folder_task

    if source_root is None or target_root is None:
        raise ValueError(
            "ASG-ImageFolder-v0 needs source_root= (labelled synthetic images) and target_root= "
            "(labelled real images), folders with one sub-folder of images a class; also "
            "retention_root=, model= and weights="
        )
    roots = "source_root", "target_root", "retention_root"
    settings, arguments = _sorted(ImageSettings(weights="DEFAULT"), arguments, *roots)
    _check_roots(source_root=source_root, target_root=target_root, retention_root=retention_root)
    task = image_folder_task(source_root, target_root, retention_root, settings)
    return _make(task, EPOCHS, arguments)


def _sorted(
    defaults: ImageSettings, arguments: dict[str, Any], *roots: str
) -> tuple[ImageSettings, dict[str, Any]]:
    """The image settings among the arguments, and the others; ``cache=None`` is ``"none"``.

    ``roots`` are known too.
    """
    own = field_names(ImageSettings)
    known = [*roots, *own, *field_names(Arguments), "render_mode"]
    check_names(arguments, known)
    plain = plain_values(arguments)
    chosen = {name: value for name, value in plain.items() if name in own}
    if chosen.get("cache", "") is None:
        chosen["cache"] = "none"
    rest = {name: value for name, value in plain.items() if name not in own}
    return dataclasses.replace(defaults, **chosen), rest


def _check_roots(**roots: Any) -> None:
    for name, root in roots.items():
        if root is not None and (not isinstance(root, (str, os.PathLike)) or not os.fspath(root)):
            raise ValueError(f"{name}={root!r}: expected the path of a folder")


def _make(task: ImageFilesTask, epochs: int, arguments: dict[str, Any]) -> FinetuneEnv:
    """The environment on a task, or on an equal one that this process has loaded already."""
    task = shared(task)
    batch = arguments.get("batch_size") or task.defaults.batch_size
    if arguments.get("budget") is None:
        fine = isinstance(batch, int) and batch > 0  # else it is refused, by its own name
        arguments["budget"] = epochs * epoch_length(len(task.parts[0]), batch) if fine else 1
    return FinetuneEnv(task, **arguments)


def _standin(
    settings: ImageSettings,
    defaults: ImageSettings,
    retention_root: Any,
    arguments: dict[str, Any],
) -> FinetuneEnv:
    from asg_env.tasks.visda_standin import VISDA_STANDIN

    given = [n for n in field_names(ImageSettings) if getattr(settings, n) != getattr(defaults, n)]
    given += ["retention_root"] if retention_root is not None else []
    if given:
        raise ValueError(
            f"{given[0]}= needs the real VisDA-17: pass data_root= too, or set {DATA_ROOT}; the "
            "embedded stand-in has its own images and network"
        )
    warnings.warn(STANDIN, stacklevel=3)
    return FinetuneEnv(VISDA_STANDIN, **arguments)
