"""Small image trees and weight files for the tests, made by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models

from asg_env.data.files import FileList, read_class_folders
from asg_env.models import CifarResNet
from asg_env.seeding import isolated_rng
from asg_env.tasks.visda import CLASSES


def pixels(seed: int, height: int = 48, width: int = 40) -> np.ndarray:
    """A (height, width, 3) uint8 image: a smooth pattern whose colours depend on the seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width][..., None] / 8.0
    waves = np.sin(x * rng.random(3) + y * rng.random(3) + 6 * rng.random(3))
    return (127 + 100 * waves + 20 * rng.random((height, width, 3))).astype(np.uint8)


def write_image(path: Path, seed: int) -> None:
    """One image of 40-80 pixels a side; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = np.random.default_rng(seed).integers(40, 81, 2)
    Image.fromarray(pixels(seed, *sides.tolist())).save(path)


def write_folders(root: Path, classes: Sequence[str], count: int, seed: int = 0) -> Path:
    """``root/CLASS/N.png``."""
    for label, name in enumerate(classes):
        for i in range(count):
            write_image(root / name / f"{i}.png", 1000 * seed + 50 * label + i)
    return root


def write_visda(root: Path, models_a_class: int, views: int, real: int) -> Path:
    """The layout of an unpacked VisDA-17 archive."""
    lines: dict[str, list[str]] = {"train": [], "validation": []}
    for label, name in enumerate(CLASSES):
        for i in range(models_a_class * views):
            model, view = divmod(i, views)
            file = f"{name}/src_1_02691156_{model:08x}{label:02x}__{view}_147_164.png"
            write_image(root / "train" / file, 100 * label + i)
            lines["train"].append(f"{file} {label}")
        for i in range(real):
            file = f"{name}/vid{i}_frame{7 * i}.jpg"
            write_image(root / "validation" / file, 5000 + 100 * label + i)
            lines["validation"].append(f"{file} {label}")
    for part, entries in lines.items():
        (root / part / "image_list.txt").write_text("\n".join(entries) + "\n")
    return root


def file_list(root: Path, count: int, classes: int = 3) -> FileList:
    """A list of ``count`` images in class folders below ``root``."""
    names = [f"class{i}" for i in range(classes)]
    return read_class_folders(write_folders(root, names, -(-count // classes)))


def random_network(model: str, classes: int) -> nn.Module:
    """A network with weights from a fixed seed whose residual branches are small, so that its
    outputs stay near 1 without training."""
    with isolated_rng(1):
        cifar = model.startswith("cifar_resnet")
        network = (
            CifarResNet(int(model[12:]), classes)
            if cifar
            else models.get_model(model, weights=None, num_classes=classes)
        )
    for name, module in network.named_modules():
        if "." in name and name.endswith(("bn2", "bn3")):
            nn.init.constant_(module.weight, 0.2)
    return network.eval()


def write_weights(path: Path, model: str, classes: int) -> Path:
    """A file with a random network's state dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(random_network(model, classes).state_dict(), path)
    return path
