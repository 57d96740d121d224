"""Threads that read ahead, and images that cannot be read."""

import contextlib
import itertools
import re

import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv
from images import write_image
from loading_support import SMALL, order, same, split

from asg_env.data import image_split
from asg_env.data.decode import ImageError
from asg_env.data.image_split import ImageSplit, LoaderSettings


def damage(files, *indices):
    for i in indices:
        (files.root / files.paths[i]).write_text("no image")


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
