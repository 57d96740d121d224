"""Images per second of our loader beside torchvision's ImageFolder in a PyTorch DataLoader.

    python experiments/bench_loader.py             # a minute or two on two cores

2,000 generated photo-like JPEGs in class folders, batch 32, shuffled. First an unshuffled pass
checks that both deliver the same images. Then each of ours (no cache, memory, folder) runs an epoch
and, if it caches, one more, just after an epoch of the DataLoader or just before one, by turns. A
ratio is the median over rounds of those, so that a busy machine slows both sides alike.
Writes ``bench_loader.json`` and ``bench_loader.md``.
"""

from __future__ import annotations

RESUMES = False  # says an interrupt, which is handled from the next line on
import asg_env  # noqa: F401  # isort: skip

import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from asg_env.cli import blamed_on, check_ranges, run
from asg_env.compute import resolve_device
from asg_env.data.decode import Transform
from asg_env.data.files import FileList, read_class_folders
from asg_env.data.image_split import ImageSplit, LoaderSettings
from asg_env.learning.run_folder import only_run
from asg_env.ranges import whole
from asg_env.reports.table import write_json
from asg_env.writing import write_atomic

CLASSES, SIDE, QUALITY = 12, 300, 90  # of the generated JPEGs; SIDE in pixels
TOLERANCE = 1e-6  # between the two loaders' normalised pixels
REFERENCE = "dataloader"
ROWS = {  # name: what it is, and the project's own target for its ratio to the DataLoader
    REFERENCE: ("ImageFolder + DataLoader, every epoch", None),
    "no_cache": ("ours, no cache, every epoch", 1.0),
    "memory_first": ("ours, first epoch, which fills a memory cache", 1.0),
    "folder_first": ("ours, first epoch, which fills a cache folder", 1.0),
    "memory_cached": ("ours, later epochs, memory cache", 3.0),
    "folder_cached": ("ours, later epochs, cache folder", 3.0),
}


@dataclass(frozen=True)
class Args:
    """Measure our image loader beside torchvision's ImageFolder in a PyTorch DataLoader."""

    out: Path = Path("runs/bench_loader")
    """Folder for bench_loader.json and bench_loader.md."""
    images: Annotated[int, whole(CLASSES)] = 2000
    """JPEGs of 300 x 300 pixels to generate, one a class at least."""
    workers: Annotated[int, whole(1, 1024)] = 2
    """Decoding threads of ours, and worker processes of the DataLoader; at least 1."""
    batch_size: Annotated[int, whole(1)] = 32
    """Images in a batch."""
    rounds: Annotated[int, whole(1)] = 5
    """Rounds; in each, every contestant runs an epoch, the DataLoader three."""
    device: str = "auto"
    """Where the batches must arrive: "auto" (CUDA where there is one), "cpu", "cuda"."""
    quick: bool = False
    """A tiny run that touches every row; its figures mean nothing."""

    def check(self) -> None:
        """SystemExit or ValueError, naming the argument, if a value is out of range."""
        check_ranges(self)
        resolve_device(self.device)


def write_images(folder: Path, count: int) -> None:
    """Generate JPEGs in class folders: gradients, blobs and sensor-like noise, as photographs."""
    rng = np.random.default_rng(0)
    noise = rng.normal(88, 8, (2 * SIDE, 2 * SIDE, 3)).astype(np.float32)
    for number in tqdm(range(count), "images"):
        top, left = rng.integers(SIDE, size=2)
        pixels = noise[top : top + SIDE, left : left + SIDE] + _waves(rng)[:, None] + _waves(rng)
        blobs = Image.fromarray(rng.integers(0, 80, (20, 20, 3), dtype=np.uint8))
        pixels += np.asarray(blobs.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        target = folder / f"class{number % CLASSES:02d}" / f"{number:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(target, quality=QUALITY)


def _waves(rng: np.random.Generator) -> np.ndarray:
    """A smooth curve for each channel, (SIDE, 3) float32."""
    place = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None]
    frequency, phase = rng.normal(0, 8, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    return sum(30 * np.sin(f * place + p) for f, p in zip(frequency, phase, strict=True))


class Ours:
    """Our loader.

    Args:
        files: which images.
        args: workers, batch size and device.
        cache: as in :class:`~asg_env.data.image_split.LoaderSettings`.
    """

    def __init__(self, files: FileList, args: Args, cache: str) -> None:
        split = ImageSplit(files, Transform(), LoaderSettings(args.workers, cache))
        self.split, self.size = split.to(resolve_device(args.device)), args.batch_size

    def epoch(self, shuffle: bool = True) -> Iterable[tuple[Tensor, Tensor]]:
        """(images, labels) of one epoch, on the device."""
        count = len(self.split)
        order = torch.randperm(count) if shuffle else torch.arange(count)
        return (
            (batch.images, batch.labels) for batch in self.split.batches(order.split(self.size))
        )


class Plain:
    """torchvision's ImageFolder in a DataLoader whose worker processes outlive the epoch.

    Args:
        folder: of class folders.
        args: workers, batch size and device.
    """

    def __init__(self, folder: Path, args: Args) -> None:
        from torchvision import datasets, transforms  # slow to import

        ours = Transform()
        steps = [
            transforms.Resize(ours.resize),
            transforms.CenterCrop(ours.size),
            transforms.ToTensor(),
            transforms.Normalize(ours.mean, ours.std),
        ]
        images = datasets.ImageFolder(os.fspath(folder), transforms.Compose(steps))
        self.device = resolve_device(args.device)
        shared: dict[str, Any] = {
            "batch_size": args.batch_size,
            "num_workers": args.workers,
            "pin_memory": self.device.type == "cuda",
            "persistent_workers": True,
        }
        self.shuffled = DataLoader(images, shuffle=True, **shared)
        self.in_order = DataLoader(images, **shared)

    def epoch(self, shuffle: bool = True) -> Iterable[tuple[Tensor, Tensor]]:
        """(images, labels) of one epoch, on the device."""
        for images, labels in self.shuffled if shuffle else self.in_order:
            yield images.to(self.device, non_blocking=True), labels.to(self.device)


def check_same(plain: Plain, ours: Ours) -> float:
    """The largest difference between the loaders' pixels.

    Raises:
        SystemExit: they deliver different things.
    """
    largest, pairs = 0.0, zip(plain.epoch(False), ours.epoch(False), strict=True)
    for (wanted, labels), (images, own_labels) in tqdm(pairs, "check", len(plain.in_order)):
        for tensor in (wanted, images):
            if (tensor.device.type, tensor.dtype) != (ours.split.device.type, torch.float32):
                raise SystemExit(f"{tensor.dtype} on {tensor.device} instead of normalised float32")
        difference = float((wanted - images).abs().max())
        if not difference <= TOLERANCE or not torch.equal(labels, own_labels):
            raise SystemExit(f"the two loaders' images or labels differ, pixels by {difference}")
        largest = max(largest, difference)
    return largest


def rate(loader: Plain | Ours) -> float:
    """Images per second over one shuffled epoch."""
    began, count = time.perf_counter(), 0
    for images, _ in loader.epoch():
        count += len(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - began)


class Speed(NamedTuple):
    """``rate``: images per second. ``ratio``: that over the DataLoader's just before or after."""

    rate: float
    ratio: float


def run_rounds(plain: Plain, files: FileList, args: Args, folder: Path) -> dict[str, list[Speed]]:
    """Every row's speeds, round by round."""
    speeds: dict[str, list[Speed]] = {name: [] for name in ROWS}
    rate(plain)  # starts the worker processes
    for turn in tqdm(range(args.rounds), "rounds"):
        for name in ("no_cache", "memory", "folder"):
            before = rate(plain) if turn % 2 == 0 else None
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                rates = _our_epochs(name, files, args, cache)
            reference = before or rate(plain)
            for row, value in {REFERENCE: reference, **rates}.items():
                speeds[row].append(Speed(value, value / reference))
    return speeds


def _our_epochs(name: str, files: FileList, args: Args, folder: str) -> dict[str, float]:
    """The speed of ours with one kind of cache: of the first epoch, and of one from the cache."""
    if name == "no_cache":
        return {name: rate(Ours(files, args, "none"))}
    loader = Ours(files, args, folder if name == "folder" else name)
    return {f"{name}_first": rate(loader), f"{name}_cached": rate(loader)}


def summary(speeds: dict[str, list[Speed]]) -> dict[str, dict[str, Any]]:
    """Every row's images per second, its ratio to the DataLoader, and whether its target holds."""
    results: dict[str, dict[str, Any]] = {}
    for name, (_, target) in ROWS.items():
        low, middle, high = np.percentile([s.ratio for s in speeds[name]], [25, 50, 75]).tolist()
        results[name] = {
            "images_per_second": float(np.median([s.rate for s in speeds[name]])),
            "vs_dataloader": middle,
            "vs_dataloader_quartiles": [low, high],
            "target": target,
            "holds": None if target is None else middle >= target,
        }
    return results


def markdown(results: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        "| loader | images/s | times the DataLoader [quartiles] | wanted | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, (title, target) in ROWS.items():
        row = results[name]
        low, high = row["vs_dataloader_quartiles"]
        ratio = f"{row['vs_dataloader']:.2f} [{low:.2f}, {high:.2f}]"
        wanted = ("", "") if target is None else (f">= {target:g}", "yes" if row["holds"] else "NO")
        cells = (title, f"{row['images_per_second']:.0f}", ratio, *wanted)
        lines.append(f"| {' | '.join(cells)} |")
    s = results["setup"]
    return "\n".join(lines) + (
        f"\n\nMedians over {s['rounds']} rounds. {s['images']} JPEGs of {SIDE} x {SIDE} pixels, "
        f"quality {QUALITY}, batch {s['batch_size']}, {s['workers']} workers each (ours: threads; "
        f"DataLoader: processes), {s['cores']} cores, to {s['device']}. Both deliver the same "
        f"normalised float32 images (largest difference {s['largest_difference']:.1e})."
    )


def main(args: Args) -> dict[str, Any]:
    """Measure, print the table and write it."""
    args.check()
    if args.quick:
        args = Args(args.out, 2 * CLASSES, min(args.workers, 2), 8, 1, args.device, True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        write_images(folder, args.images)
        files, plain = read_class_folders(folder), Plain(folder, args)
        difference = check_same(plain, Ours(files, args, "none"))
        del plain.in_order  # and its worker processes
        results: dict[str, Any] = summary(run_rounds(plain, files, args, Path(temporary)))
    results["setup"] = {
        **{name: getattr(args, name) for name in ("images", "workers", "batch_size", "rounds")},
        "cores": os.cpu_count(),
        "device": resolve_device(args.device).type,
        "largest_difference": difference,
    }
    text = markdown(results)
    with only_run(args.out):
        write_json(args.out / "bench_loader.json", results, indent=1)
        write_atomic(args.out / "bench_loader.md", (text + "\n").encode())
    print(text)
    return results


if __name__ == "__main__":
    with blamed_on("error"):
        run(main, Args)
