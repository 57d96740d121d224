"""Decoded images in memory and in files."""

import re
import shutil
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest
import torch
from images import write_image
from loading_support import order, same, split
from support import REPO, run_python

from asg_env.data import image_split
from asg_env.data.cache import RowCache


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
