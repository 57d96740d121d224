"""``ASG-ImageFolder-v0``: your own folders and your own network."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

from asg_env.data.files import FileList, read_class_folders
from asg_env.data.names import shown
from asg_env.tasks.base import Defaults
from asg_env.tasks.image_files import ImageFilesTask, ImageSettings

EPOCHS = 10
DEFAULTS = Defaults(
    base_lr=0.01,
    guidance=0.3,
    budget=0,  # EPOCHS, see the factory
    window="paper",
    batch_size=32,
    clip_norm=5.0,
)


def image_folder_task(
    source_root: str | os.PathLike[str],
    target_root: str | os.PathLike[str],
    retention_root: str | os.PathLike[str] | None,
    settings: ImageSettings,
) -> ImageFilesTask:
    """The task on class folders.

    Args:
        source_root, target_root: one folder for each class, the same in both.
        retention_root: one folder for each class of the pretrained network, or None.
        settings: network and loader.

    Raises:
        FileNotFoundError, ValueError: a folder that is not there, has no images, or other classes.
    """
    _check_roots(source_root=source_root, target_root=target_root, retention_root=retention_root)
    source, target = read_class_folders(source_root), read_class_folders(target_root)
    _check_classes(source, target)
    if len(source.classes) < 2:
        raise ValueError(
            f"source_root={source.root!r} has one class, {source.classes[0]!r}: expected two or "
            "more folders of images"
        )
    retention = None if retention_root is None else read_class_folders(retention_root)
    dataset = f"{_name(source_root)} -> {_name(target_root)}"
    return ImageFilesTask("image_folder", dataset, source, target, retention, settings, DEFAULTS)


def _name(root: str | os.PathLike[str]) -> str:
    """A folder's own name, for people; also of ``"."`` and ``".."``."""
    name = Path(root).name
    return shown(name if name not in ("", "..") else Path(root).resolve().name)


def _check_roots(**roots: str | os.PathLike[str] | None) -> None:
    """Raise ValueError if two of the folders are the same, or one lies in another."""
    given = {name: Path(root).expanduser().resolve() for name, root in roots.items() if root}
    for (one, first), (other, second) in combinations(given.items(), 2):
        if first.is_relative_to(second) or second.is_relative_to(first):
            raise ValueError(
                f"{one}={str(first)!r} and {other}={str(second)!r} share images: they must be "
                "folders apart, or what is reported would have been trained on"
            )


def _check_classes(source: FileList, target: FileList) -> None:
    if source.classes != target.classes:
        only = [
            f"only in {a.root}: {', '.join(names)}"
            for a, b in ((source, target), (target, source))
            if (names := [shown(n) for n in a.classes if n not in b.classes])
        ]
        raise ValueError(
            f"source and target must have the same class folders; {'; '.join(only)}: rename or "
            "remove them"
        )
