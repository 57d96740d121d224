"""``ASG-VisDA-v0``: the paper's VisDA-17 (Peng et al., 2017), renders -> real photographs.

152,397 renders of 3D models (``train``) and 55,388 crops of COCO photographs (``validation``, the
real target here) of twelve classes. Settings: the paper, section 4, and its official code.
"""

from __future__ import annotations

import os
from pathlib import Path

from asg_env.data.files import FileList, read_class_folders, read_image_list
from asg_env.tasks.base import Defaults
from asg_env.tasks.image_files import ImageFilesTask, ImageSettings

CLASSES = (
    *("aeroplane", "bicycle", "bus", "car", "horse", "knife", "motorcycle", "person", "plant"),
    *("skateboard", "train", "truck"),
)
EPOCHS = 30
HELD_OUT = 0.02  # about three 3D models a class in each of inner_valid and outer_valid
PAPER = Defaults(
    base_lr=1e-4,
    guidance=0.1,
    budget=0,  # EPOCHS, see the factory
    window="paper",
    batch_size=32,
    optimizer="official_sgd",
)


def read_visda(data_root: str | os.PathLike[str]) -> tuple[FileList, FileList]:
    """The lists (train, validation) of an unpacked VisDA-17 archive.

    Raises:
        FileNotFoundError: naming what is missing and how to get it.
        ValueError: a malformed list.
    """
    root = Path(os.path.abspath(os.path.expanduser(data_root)))
    for part in ("train", "validation"):
        if not (root / part / "image_list.txt").is_file():
            raise FileNotFoundError(
                f"no VisDA-17 in {root}: expected {root / part / 'image_list.txt'}. Unpack "
                "train.tar and validation.tar of the VisDA-17 classification challenge there, or "
                "leave data_root (and the environment variable ASG_DATA_ROOT) out for the stand-in"
            )
    return read_image_list(root / "train", CLASSES), read_image_list(root / "validation", CLASSES)


def visda_task(
    data_root: str | os.PathLike[str],
    retention_root: str | os.PathLike[str] | None,
    settings: ImageSettings,
) -> ImageFilesTask:
    """The task on real files.

    Args:
        data_root: an unpacked archive.
        retention_root: an ImageNet validation folder (1000 class folders), or None.
        settings: network and loader.
    """
    train, validation = read_visda(data_root)
    retention = None if retention_root is None else read_class_folders(retention_root)
    about = "visda", "VisDA-17", train, validation, retention, settings, PAPER
    return ImageFilesTask(*about, object_of=model_of)


def model_of(path: str) -> str:
    """The 3D model of a render: its path up to ``__``, after which VisDA-17 names the view."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.partition("__")[0]
