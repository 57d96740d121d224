"""Decoding, lists, caches and the threads that read ahead."""

import contextlib
import io
import itertools
import re
import shutil
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections import namedtuple

import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv
from images import file_list, pixels, write_folders, write_image
from PIL import Image
from support import REPO, run_python
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from asg_env.data import image_split
from asg_env.data.cache import RowCache
from asg_env.data.decode import IMAGENET_MEAN, IMAGENET_STD, ImageError, Transform, load_image
from asg_env.data.files import FileList, held_out, read_class_folders
from asg_env.data.image_split import ImageSplit, LoaderSettings
from asg_env.tasks.visda import model_of

SMALL = Transform(16, 16)
FLAT = Transform(8, 8)  # of uniform images: the colours themselves


def split(files, cache="none", workers=0, on_error="stop", transform=SMALL):
    return ImageSplit(files, transform, LoaderSettings(workers, str(cache), on_error))


def order(files, size=4, epochs=2):
    rng = np.random.default_rng(0)
    shuffled = [torch.from_numpy(rng.permutation(len(files))) for _ in range(epochs)]
    return [batch for epoch in shuffled for batch in epoch.split(size)]


def same(batches, others):
    return all(
        torch.equal(a, b)
        for one, two in zip(batches, others, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return file_list(tmp_path_factory.mktemp("images"), 21)


@pytest.fixture(scope="module")
def expected(files):
    return list(split(files).batches(order(files)))


@pytest.fixture
def own(tmp_path):
    """A list that a test may damage."""
    return file_list(tmp_path / "own", 12)


def damage(files, *indices):
    for i in indices:
        (files.root / files.paths[i]).write_text("no image")


# -- decoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(300, 260), (224, 224), (100, 480), (225, 223), (7, 9)])
def test_decoding_is_torchvisions_to_the_last_bit(tmp_path, suffix, size):
    path = tmp_path / "a" / f"image{suffix}"
    path.parent.mkdir()
    Image.fromarray(pixels(3, *size)).save(path)
    usual = Compose(
        [Resize(224), CenterCrop(224), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    listed = FileList(tmp_path, (f"a/{path.name}",), np.zeros(1, np.int64), ("a",))
    batch = split(listed, transform=Transform()).batch(torch.arange(1))
    assert torch.equal(batch.images[0], usual(Image.open(path)))


def test_a_larger_resize_crops_the_middle(tmp_path):
    Image.fromarray(pixels(1, 60, 90)).save(tmp_path / "x.png")
    usual = Compose([Resize(32), CenterCrop(20)])(Image.open(tmp_path / "x.png"))
    loaded = load_image(tmp_path / "x.png", Transform(20, 32))
    assert (loaded == np.asarray(usual).transpose(2, 0, 1)).all()
    with pytest.raises(ValueError, match="32 and 20"):
        Transform(32, 20)


def uniform(mode, colour, **options):
    """A file of one colour."""
    content = io.BytesIO()
    format_ = options.pop("format", "PNG")
    Image.new(mode, (12, 12), colour).save(content, format_, **options)
    return content.getvalue()


def palette(**options):
    image = Image.new("P", (12, 12), 2)
    image.putpalette([0, 0, 0, 255, 255, 255, 200, 100, 50])
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    return content.getvalue()


def png(width, height, bits, colour_type, rows=b""):
    """A PNG made by hand."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgb16(*colour):
    return png(8, 8, 16, 2, (b"\0" + struct.pack(">3H", *colour) * 8) * 8)


def grey16(value):
    content = io.BytesIO()
    Image.fromarray(np.full((12, 12), value, np.uint16)).save(content, "PNG")
    return content.getvalue()


COLOURS = {
    "grey": (uniform("L", 77), (77, 77, 77), 0),
    "grey and alpha": (uniform("LA", (77, 10)), (77, 77, 77), 0),
    "one bit": (uniform("1", 1), (255, 255, 255), 0),
    "alpha": (uniform("RGBA", (200, 100, 50, 10)), (200, 100, 50), 0),
    "palette": (palette(), (200, 100, 50), 0),
    "palette, one colour transparent": (palette(transparency=2), (200, 100, 50), 0),
    "palette, alpha": (palette(transparency=bytes([0, 9, 99])), (200, 100, 50), 0),
    "16-bit grey, 77 * 257": (grey16(77 * 257), (77, 77, 77), 0),
    "16-bit grey, 77 * 256": (grey16(77 * 256), (77, 77, 77), 0),
    "16-bit white": (grey16(65535), (255, 255, 255), 0),
    "16-bit colours": (rgb16(51400, 25700, 12850), (200, 100, 50), 0),
    "gif": (uniform("L", 77, format="GIF"), (77, 77, 77), 0),
    "jpeg": (uniform("RGB", (200, 100, 50), format="JPEG"), (200, 100, 50), 2),
    "grey jpeg": (uniform("L", 77, format="JPEG"), (77, 77, 77), 1),
    "CMYK jpeg": (uniform("CMYK", (55, 155, 205, 0), format="JPEG"), (200, 100, 50), 4),
    "tiff": (uniform("RGB", (200, 100, 50), format="TIFF"), (200, 100, 50), 0),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_every_kind_of_image_becomes_its_rgb_colours_silently(tmp_path, kind):
    content, colour, tolerance = COLOURS[kind]
    (tmp_path / "image").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / "image", FLAT)
    assert loaded.shape == (3, 8, 8)
    assert loaded.dtype == np.uint8
    wrong = np.abs(loaded.astype(int) - np.reshape(colour, (3, 1, 1))).max()
    assert wrong <= tolerance, loaded[:, 0, 0]


def cut(format_, share):
    content = io.BytesIO()
    Image.fromarray(pixels(0)).save(content, format_)
    return content.getvalue()[: int(len(content.getvalue()) * share)]


BROKEN = {
    "float": (uniform("F", 0.5, format="TIFF"), "floating-point"),
    "32 bit": (uniform("I", 1 << 20, format="TIFF"), "32-bit"),
    "empty": (b"", "empty file"),
    "text": (b"<html>404</html>", "no image"),
    "cut jpeg": (cut("JPEG", 0.7), "truncated"),
    "cut png": (cut("PNG", 0.7), "unreadable"),
    "cut header": (cut("PNG", 0.001), "no image"),
    "bomb": (png(60000, 60000, 8, 2), "decompression bomb"),
    "large": (png(15000, 15000, 8, 2), "2250{6}|15000 x 15000 pixels"),
    "strip": (png(1, 20000, 8, 0, b"\0\0" * 20000), "1 x 20000 pixels is too long"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_named_with_its_reason(tmp_path, kind):
    content, reason = BROKEN[kind]
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"^{re.escape(str(path))}: .*{reason}"):
        load_image(path, SMALL if kind != "strip" else Transform())


def test_a_missing_image_and_a_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such image file"):
        load_image(tmp_path / "gone.png", SMALL)
    with pytest.raises(ImageError, match=re.escape(str(tmp_path))):
        load_image(tmp_path, SMALL)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_an_image_or_an_image_error(tmp_path, format_):
    whole, rng = cut(format_, 1.0), np.random.default_rng(0)
    for case in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(damaged) if case % 2 else min(len(damaged), 100), 4)
        damaged[places] = rng.integers(0, 256, 4)
        (tmp_path / "image").write_bytes(damaged.tobytes()[: None if case % 3 else -99])
        with contextlib.suppress(ImageError):
            assert load_image(tmp_path / "image", SMALL).shape == (3, 16, 16)


# -- caches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("cache", ["none", "memory", "auto", "folder"])
def test_caches_and_workers_change_nothing(files, expected, tmp_path, cache, workers):
    data = split(files, tmp_path / "kept" if cache == "folder" else cache, workers)
    for _ in range(2):
        assert same(data.batches(order(files)), expected)
    assert same(map(data.batch, order(files)), expected)
    assert same(data.to(torch.device("cpu")).batches(order(files)), expected)


COUNT_DECODES = """
import sys, numpy, torch
from pathlib import Path
from asg_env.data import image_split
from asg_env.data.decode import Transform
from asg_env.data.files import read_class_folders
real, counted = image_split.load_image, []
image_split.load_image = lambda *a: (counted.append(1), real(*a))[1]
files = read_class_folders(sys.argv[1])
size = int(sys.argv[3])
settings = image_split.LoaderSettings(2, sys.argv[2], "stop")
data = image_split.ImageSplit(files, Transform(size, size), settings)
total = sum(batch.images.double().sum().item() for batch in data.chunks())
print(len(counted), repr(total))
"""


@pytest.fixture
def decodes(monkeypatch):
    """What a fresh split does with a cache: (images decoded, sum of all pixels)."""
    counted = []
    monkeypatch.setattr(
        image_split, "load_image", lambda *a: (counted.append(1), load_image(*a))[1]
    )

    def count(root, folder, size=16):
        counted.clear()
        data = split(read_class_folders(root), folder, transform=Transform(size, size))
        total = sum(batch.images.double().sum().item() for batch in data.chunks())
        return len(counted), total

    return count


def test_a_folder_cache_is_used_until_something_changes(own, tmp_path, decodes):
    kept = tmp_path / "kept"
    first = decodes(own.root, kept)
    assert first[0] == len(own)
    assert decodes(own.root, kept) == (0, first[1])
    assert decodes(own.root, kept, size=17)[0] == len(own)
    write_image(own.root / own.paths[0], seed=77)
    changed = decodes(own.root, kept)
    assert changed[0] == len(own)
    assert changed[1] != first[1]
    write_image(own.root / "class0" / "new.png", seed=78)
    assert decodes(own.root, kept)[0] == len(own) + 1


def test_processes_share_a_cache_even_if_they_make_it_at_once(own, tmp_path, decodes):
    command = [sys.executable, "-c", COUNT_DECODES, str(own.root), str(tmp_path / "kept"), "16"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO) for _ in range(2)
    ]
    totals = {float(process.communicate(timeout=120)[0].split()[1]) for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert decodes(own.root, tmp_path / "kept") == (0, totals.pop())
    assert not totals
    assert not [p for p in (tmp_path / "kept").iterdir() if p.name.startswith(".")]


def test_many_threads_may_open_the_same_cache_at_once(tmp_path):
    caches, start = [], threading.Barrier(8)

    def open_it():
        start.wait()
        caches.append(RowCache.in_folder(tmp_path / "kept", "x", (3, 2), np.float32))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caches) == 8
    caches[0].put(1, np.full(2, 7.0))
    assert all((c.rows[1] == 7).all() for c in caches)


KILLED = """
import os, sys, torch
from asg_env.data import image_split
from asg_env.data.decode import Transform
from asg_env.data.files import read_class_folders
real, counted = image_split.load_image, []
def load(*a):
    counted.append(1)
    return real(*a) if len(counted) < 6 else os._exit(0)
image_split.load_image = load
settings = image_split.LoaderSettings(0, sys.argv[2], "stop")
data = image_split.ImageSplit(read_class_folders(sys.argv[1]), Transform(16, 16), settings)
list(data.chunks())
"""


def test_after_a_kill_the_next_run_decodes_the_rest(own, tmp_path):
    run_python(KILLED, str(own.root), str(tmp_path / "kept"))
    data = split(own, tmp_path / "kept")
    assert int(data._cache.filled.sum()) == 5
    assert same(data.chunks(), split(own).chunks())


def test_deleted_rows_are_made_again(own, tmp_path):
    list(split(own, tmp_path).chunks())
    (rows,) = tmp_path.glob("*.rows.npy")
    rows.unlink()
    assert same(split(own, tmp_path).chunks(), split(own).chunks())


@pytest.mark.parametrize("kind", ["empty", "cut", "other"])
def test_a_damaged_cache_file_is_named(own, tmp_path, kind):
    list(split(own, tmp_path).chunks())
    (rows,) = tmp_path.glob("*.rows.npy")
    content = {"empty": b"", "cut": rows.read_bytes()[:-9], "other": b"mine" * 99}[kind]
    rows.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(rows))}.*delete it"):
        split(own, tmp_path)


def test_a_full_disk_is_found_before_the_run(own, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 9, 1))
    with pytest.raises(OSError, match=r"kept.*1e-09 GB are free.*cache="):
        split(own, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def test_a_disk_that_fills_up_while_the_cache_is_made_is_an_error(own, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_space, raising=False)
    with pytest.raises(OSError, match=r"kept.*No space left.*cache="):
        split(own, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


def test_a_folder_that_cannot_be_written_is_named(own, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=f"{re.escape(str(folder))}.*cache="):
            split(own, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_auto_keeps_small_splits_only(files, monkeypatch):
    assert split(files, "auto")._cache is not None
    monkeypatch.setattr(image_split, "MEMORY", 21 * 3 * 16 * 16 - 1)
    assert split(files, "auto")._cache is None


# -- threads ---------------------------------------------------------------------------------------


def test_batches_are_decoded_ahead_but_not_without_end(files):
    asked = []

    def endless():
        for batch in itertools.cycle(order(files)):
            asked.append(batch)
            yield batch

    batches = split(files, workers=2).batches(endless())
    next(batches)
    assert 1 < len(asked) <= image_split.AHEAD + 2


@pytest.mark.parametrize("workers", [0, 2])
def test_abandoned_batches_stop_cleanly(files, expected, workers):
    data = split(files, workers=workers)
    for taken in (0, 1, 3):
        batches = data.batches(itertools.cycle(order(files)))
        for _ in range(taken):
            next(batches)
        batches.close()
    assert same(data.batches(order(files)), expected)


def test_a_split_is_only_read_by_threads_in_the_main_process(files, monkeypatch):
    data = split(files, workers=None)
    assert data._workers >= 1
    monkeypatch.setattr(image_split.multiprocessing, "parent_process", lambda: object())
    assert data._workers == 0


class Reader:
    """What an environment in a worker process does with a split that its parent has used."""

    metadata: dict = {}
    render_mode = spec = None

    def __init__(self, data, asked):
        import gymnasium as gym

        self.data, self.asked, self.unwrapped = data, asked, self
        self.observation_space = gym.spaces.Box(-1e9, 1e9, (1,), np.float64)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, **_):
        total = sum(batch.images.double().sum().item() for batch in self.data.batches(self.asked))
        return np.array([total]), {}

    def close(self):
        """Nothing to do."""


@pytest.mark.parametrize("workers", [0, 2, None])
def test_a_forked_process_reads_on_without_a_deadlock(files, workers):
    data = split(files, workers=workers)
    running = data.batches(itertools.cycle(order(files)))  # its threads are at work
    next(running)
    envs = AsyncVectorEnv([lambda: Reader(data, order(files))] * 2, context="fork")
    with contextlib.closing(envs):
        envs.reset_async()
        observations, _ = envs.reset_wait(timeout=60)
    total = Reader(data, order(files)).reset()[0]
    assert (observations == total).all()
    next(running)


# -- unreadable images -----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_stop_names_the_image_whichever_thread_found_it(own, workers):
    damage(own, 7)
    data = split(own, workers=workers)
    with pytest.raises(ImageError, match=re.escape(own.paths[7])):
        list(data.batches(order(own)))
    with pytest.raises(ImageError, match=re.escape(own.paths[7])):
        data.batch(torch.tensor([7]))
    assert data.batch(torch.tensor([6])).indices.tolist() == [6]


@pytest.mark.parametrize("cache", ["none", "memory", "folder"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_skip_leaves_images_out_counts_and_names_them(own, tmp_path, workers, cache):
    whole = list(split(own).batches(order(own)))
    damage(own, 2, 7)
    data = split(own, tmp_path / "kept" if cache == "folder" else cache, workers, "skip")
    with pytest.warns(UserWarning, match="skipped") as caught:
        batches = list(data.to(torch.device("cpu")).batches(order(own)))
    assert {p for p in own.paths for w in caught if p in str(w.message)} == {
        own.paths[2],
        own.paths[7],
    }
    assert len(caught) == 2
    assert data.skipped == 2
    for before, batch in zip(whole, batches, strict=True):
        kept = ~torch.isin(before.indices, torch.tensor([2, 7]))
        assert same([[t[kept] for t in before]], [batch])
    assert sum(len(batch.indices) for batch in data.chunks()) == len(own) - 2


def test_a_whole_bad_batch_is_empty_and_passes_leave_it_out(own):
    damage(own, *range(5))
    data = split(own, on_error="skip")
    with pytest.warns(UserWarning, match="skipped"):
        batch = data.batch(torch.arange(4))
    assert [len(part) for part in batch] == [0, 0, 0]
    with pytest.warns(UserWarning, match="skipped"):
        assert data.first(2).indices.tolist() == [5]
    assert data.spread(1).indices.tolist() == [5]  # image 0 is a bad one
    data.chunk = 2
    assert [b.indices.tolist() for b in data.chunks()] == [[5], [6, 7], [8, 9], [10, 11]]


@pytest.mark.parametrize(
    ("count", "places"), [(1, [0]), (2, [0, 11]), (4, [0, 4, 7, 11]), (99, list(range(12)))]
)
def test_a_spread_reaches_from_end_to_end(own, count, places):
    assert split(own).spread(count).indices.tolist() == places


def test_an_image_once_skipped_stays_skipped(own):
    damage(own, 1)
    data = split(own, on_error="skip")
    with pytest.warns(UserWarning, match="skipped"):
        list(data.chunks())
    write_image(own.root / own.paths[1], seed=5)
    assert data.batch(torch.arange(3)).indices.tolist() == [0, 2]


def test_a_split_without_a_readable_image_is_an_error(own):
    damage(own, *range(len(own)))
    data = split(own, on_error="skip")
    with pytest.raises(ImageError, match="all 12 images"):  # noqa: SIM117
        with pytest.warns(UserWarning, match="skipped"):
            list(data.chunks())


@pytest.mark.parametrize("workers", [0, 3])
def test_unreadable_finds_all_and_fills_the_cache(own, tmp_path, workers):
    damage(own, 0, 9)
    (own.root / own.paths[4]).unlink()
    data = split(own, "memory", workers)
    found = list(data.unreadable())
    assert [i for i, reason in enumerate(found) if reason] == [0, 4, 9]
    assert all(own.paths[i] in found[i] for i in (0, 4, 9))
    assert data._cache.filled.sum() == len(own) - 3
    assert len(list(data.unreadable(limit=5))) == 5
    assert len(list(data.unreadable(limit=99))) == len(own)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (LoaderSettings(-1), "workers=-1"),
        (LoaderSettings(1.5), "workers=1.5"),
        (LoaderSettings("2"), "workers='2'"),
        (LoaderSettings(on_error="ignore"), "on_error='ignore'.*stop, skip"),
    ],
)
def test_bad_loader_settings_are_named(files, settings, name):
    with pytest.raises(ValueError, match=name):
        ImageSplit(files, SMALL, settings)


# -- lists -----------------------------------------------------------------------------------------


def models_list(sizes):
    """A list of one class for each entry; an entry holds the number of views of each 3D model."""
    paths, labels = [], []
    for label, models in enumerate(sizes):
        for model, views in enumerate(models):
            paths += [f"c{label}/src_{model:04x}__{view}_1_2.png" for view in range(views)]
            labels += [label] * views
    names = tuple(f"c{i}" for i in range(len(sizes)))
    return FileList(REPO, tuple(paths), np.array(labels), names)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_held_out_is_disjoint_whole_and_keeps_models_together(share, seed):
    rng = np.random.default_rng(seed)
    sizes = [rng.integers(1, 20, rng.integers(3, 60)).tolist() for _ in range(5)]
    files = models_list(sizes)
    parts = held_out(files, share, seed, model_of)
    assert sorted(np.concatenate(parts)) == list(range(len(files)))
    model = np.array([path.split("__")[0] for path in files.paths])
    for a, b in itertools.combinations(parts, 2):
        assert not set(model[a]) & set(model[b])
    for label, models in enumerate(sizes):
        counts = [int((files.labels[part] == label).sum()) for part in parts]
        assert min(counts) > 0
        if len(models) > 20 and share < 0.3:
            assert all(share * sum(models) <= c < share * sum(models) + 20 for c in counts[1:])


def test_held_out_depends_on_the_seed_alone_and_mixes_the_classes():
    files = models_list([[1] * 40] * 3)
    first, again, other = (held_out(files, 0.1, seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))
    assert len(set(files.labels[first[0][:12]])) == 3


@pytest.mark.parametrize("object_of", [str, model_of])
def test_plain_names_are_their_own_models(object_of):
    paths = tuple(f"a/{name}" for name in ("x.png", "x.jpg", "y_1.png", "y_2.png"))
    files = FileList(REPO, paths, np.zeros(4, np.int64), ("a",))
    assert [len(part) for part in held_out(files, 0.1, 0, object_of)] == [2, 1, 1]


def test_two_underscores_mean_nothing_in_other_lists():
    files = FileList(REPO, tuple(f"a/x__{i}.png" for i in range(4)), np.zeros(4, np.int64), ("a",))
    assert [len(part) for part in held_out(files, 0.1, 0)] == [2, 1, 1]
    with pytest.raises(ValueError, match="4 images of 1 obj"):
        held_out(files, 0.1, 0, model_of)


@pytest.mark.parametrize("models", [[], [9], [9, 9]])
def test_held_out_needs_three_objects_a_class(models):
    with pytest.raises(ValueError, match=rf"'c1'.*{9 * len(models)} images of {len(models)} obj"):
        held_out(models_list([[1] * 9, models]), 0.1, 0, model_of)


@pytest.mark.parametrize("share", [0, -0.1, 1 / 3, 0.5, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="held_out="):
        held_out(models_list([[1] * 9]), share, 0)


def test_class_folders_are_read_in_order(tmp_path):
    write_folders(tmp_path, ["b", "a"], 2)
    write_image(tmp_path / "a" / "deep" / "z.jpg", 1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files = read_class_folders(tmp_path)
    assert files.classes == ("a", "b")
    assert list(files.paths) == ["a/0.png", "a/1.png", "a/deep/z.jpg", "b/0.png", "b/1.png"]
    assert files.labels.tolist() == [0, 0, 0, 1, 1]


def test_a_list_has_a_name_for_its_content(own):
    lists = [own, own.subset(np.arange(5)), own.subset(np.arange(5)[::-1])]
    assert len({f.fingerprint for f in lists}) == len({f.content_key for f in lists}) == 3
    assert read_class_folders(own.root).content_key == own.content_key
    moved = own.root.parent / "moved"
    shutil.copytree(own.root, moved)
    assert read_class_folders(moved).content_key == own.content_key  # copytree keeps the times
    write_image(moved / own.paths[3], seed=9)
    assert read_class_folders(moved).content_key != own.content_key
    assert read_class_folders(moved).fingerprint == own.fingerprint
