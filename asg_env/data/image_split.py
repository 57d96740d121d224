"""A split of image files: decoded by threads ahead of their use, uint8 until the device."""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from asg_env.data.cache import RowCache, digest
from asg_env.data.decode import ImageError, Transform, load_image
from asg_env.data.files import FileList
from asg_env.data.splits import Batch, Split

AHEAD = 4  # batches that are prepared ahead of their use
CHECKED_AHEAD = 64  # images, when all are checked
MEMORY = 1 << 28  # bytes up to which cache="auto" keeps the decoded images of a split in memory
ON_ERROR = ("stop", "skip")

T = TypeVar("T")


class LoaderSettings(NamedTuple):
    """How image files are read.

    Attributes:
        workers: decoding threads; 0: decode where the batch is asked for. None: one for each CPU
            core, at most eight, and 0 in worker processes.
        cache: ``"none"``, ``"memory"``, a folder, or ``"auto"``: memory up to 256 MiB a split.
        on_error: what an unreadable image does: ``"stop"`` the run with its name, or ``"skip"``: it
            is left out, with a warning that names it, for as long as the process lives.
    """

    workers: int | None = None
    cache: str = "auto"
    on_error: str = "stop"

    def check(self) -> None:
        """Raise ValueError, naming the argument, if a value is out of range."""
        if self.on_error not in ON_ERROR:
            raise ValueError(f"on_error={self.on_error!r}: expected one of {', '.join(ON_ERROR)}")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 0):
            raise ValueError(f"workers={self.workers!r}: expected None or an int >= 0")


class ImageSplit(Split):
    """Image files as a split.

    Args:
        files: which.
        transform: how they are preprocessed.
        settings: how they are read.
    """

    chunk = 64

    def __init__(self, files: FileList, transform: Transform, settings: LoaderSettings) -> None:
        settings.check()
        self.files, self.transform, self.settings = files, transform, settings
        self.labels = torch.from_numpy(files.labels)
        self.device = torch.device("cpu")
        self._mean_std = tuple(
            torch.tensor(x).view(3, 1, 1) for x in (transform.mean, transform.std)
        )
        self._cache = self._make_cache()
        self._bad: dict[int, str] = {}  # shared by all copies of this split
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    # -- Split's interface ------------------------------------------------------------------------

    def batch(self, indices: Tensor) -> Batch:
        """Decode the images at ``indices``. With ``on_error="skip"`` the batch may be empty.

        Raises:
            ImageError: naming the file, if one is unreadable and ``on_error`` is "stop", or if
                all images of the split are unreadable.
        """
        return self._finish(self._start(indices))

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """The batches of an order, decoded ahead."""
        if not self._workers:
            yield from map(self.batch, order)
            return
        pending: deque[_Pending] = deque()
        try:
            for indices in order:
                pending.append(self._start(indices))
                if len(pending) > AHEAD:
                    yield self._finish(pending.popleft())
            while pending:
                yield self._finish(pending.popleft())
        finally:
            for job in (job for batch in pending for job in batch.jobs):
                job.cancel()

    def to(self, device: torch.device) -> ImageSplit:
        """The same split with its batches on another device; the cache is shared."""
        other = copy.copy(self)
        other.device = device
        other._mean_std = tuple(x.to(device) for x in self._mean_std)
        return other

    @property
    def skipped(self) -> int:
        """Unreadable images found and left out so far."""
        return len(self._bad)

    @property
    def fingerprint(self) -> str:
        """A name for the file list and the transform."""
        return digest([self.files.fingerprint, repr(self.transform)])

    @property
    def key(self) -> str:  # type: ignore[override]
        """A name for the decoded content: file list, files and transform."""
        return digest(["images-1", self.files.content_key, repr(self.transform)])

    def unreadable(self, limit: int | None = None) -> Iterator[str | None]:
        """Decode every image (or the first ``limit``), by the decoding threads; fill the cache.

        Yields:
            For each image, in order: what is wrong with it, or None.
        """
        pool = _pool(os.getpid(), self._workers)
        pending: deque[Future[str | None]] = deque()
        for index in range(len(self))[:limit]:
            pending.append(_run(pool, self._fault, index))
            if len(pending) > (CHECKED_AHEAD if pool else 0):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    # -- decoding ---------------------------------------------------------------------------------

    @property
    def _shape(self) -> tuple[int, int, int]:
        return 3, self.transform.size, self.transform.size

    @property
    def _workers(self) -> int:
        if self.settings.workers is not None:
            return self.settings.workers
        return 0 if multiprocessing.parent_process() else min(8, os.cpu_count() or 1)

    def _make_cache(self) -> RowCache | None:
        cache, shape = self.settings.cache, (len(self), *self._shape)
        if cache == "none" or (cache == "auto" and int(np.prod(shape)) > MEMORY):
            return None
        if cache in ("auto", "memory"):
            return RowCache.in_memory(shape, np.uint8)
        return RowCache.in_folder(Path(cache), f"images-{self.key}", shape, np.uint8)

    def _start(self, indices: Tensor) -> _Pending:
        """Begin to fill a batch; with no workers, fill it now."""
        wanted = indices.numpy()
        pinned = self.device.type == "cuda"
        images = torch.empty((len(wanted), *self._shape), dtype=torch.uint8, pin_memory=pinned)
        array, pool = images.numpy(), _pool(os.getpid(), self._workers)
        rows = np.arange(len(wanted))
        jobs: list[Future[list[int]]] = []
        if self._cache is not None and (kept := self._cache.filled[wanted]).any():
            jobs.append(_run(pool, self._copy, array, rows[kept], wanted[kept]))
            rows = rows[~kept]
        for part in np.array_split(rows, max(1, min(self._workers, len(rows)))):
            if len(part):
                jobs.append(_run(pool, self._decode, array, part, wanted[part]))
        return _Pending(images, indices, jobs)

    def _copy(self, array: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> list[int]:
        """Copy what the cache has; decode what was damaged there."""
        assert self._cache is not None
        good = self._cache.good(indices)
        array[rows[good]] = self._cache.rows[indices[good]]
        return self._decode(array, rows[~good], indices[~good])

    def _decode(self, array: np.ndarray, rows: np.ndarray, indices: np.ndarray) -> list[int]:
        """Decode images into rows; the rows of those that were skipped."""
        skipped = []
        for row, index in zip(rows.tolist(), indices.tolist(), strict=True):
            if index in self._bad:
                skipped.append(row)
                continue
            try:
                self._fill(array, row, index)
            except ImageError as error:
                if self.settings.on_error == "stop":
                    raise
                self._skip(index, str(error))
                skipped.append(row)
        return skipped

    def _fill(self, array: np.ndarray, row: int, index: int) -> None:
        array[row] = load_image(self.files.root / self.files.paths[index], self.transform)
        if self._cache is not None:
            self._cache.put(index, array[row])

    def _fault(self, index: int) -> str | None:
        """What is wrong with an image."""
        if self._cache is not None and self._cache.good(np.array([index])).all():
            return None
        try:
            self._fill(np.empty((1, *self._shape), np.uint8), 0, index)
        except ImageError as error:
            return str(error)
        return None

    def _skip(self, index: int, message: str) -> None:
        with self._lock:  # batches of two epochs may be decoded at the same time
            known = index in self._bad
            self._bad[index] = message
        if not known:
            warnings.warn(f"skipped: {message} ({len(self._bad)} so far)", stacklevel=2)

    def _finish(self, pending: _Pending) -> Batch:
        """Wait for a batch, leave out what was skipped, and bring it to the device."""
        skipped = [row for job in pending.jobs for row in job.result()]
        images, indices = pending.images, pending.indices
        if skipped:
            good = torch.ones(len(indices), dtype=torch.bool)
            good[skipped] = False
            images, indices = images[good], indices[good]
        if len(self._bad) == len(self):
            raise ImageError(f"all {len(self)} images are unreadable, e.g. {self._bad[0]}")
        labels = self.labels[indices].to(self.device)
        return Batch(self._normalised(images), labels, indices)

    def _normalised(self, images: Tensor) -> Tensor:
        """uint8 on the CPU -> normalised float32 on the device."""
        mean, std = self._mean_std
        if self.device.type != "cpu":
            moved = images.to(self.device, non_blocking=True).float()
            return moved.div_(255).sub_(mean).div_(std)
        normalised = torch.empty(images.shape)
        # Not by PyTorch, whose threads would wait for each other on cores that are busy decoding.
        for row, pixels in zip(normalised.numpy(), images.numpy(), strict=True):
            row[...] = pixels
            row /= np.float32(255)
            row -= mean.numpy()
            row /= std.numpy()
        return normalised


class _Pending(NamedTuple):
    """A batch in the making: ``images`` (N, 3, S, S) uint8 that the jobs fill."""

    images: Tensor
    indices: Tensor
    jobs: list[Future[list[int]]]


@lru_cache(maxsize=4)
def _pool(process: int, workers: int) -> ThreadPoolExecutor | None:
    """The decoding threads of a process; a forked process does not inherit its parent's."""
    return ThreadPoolExecutor(workers, "decode") if workers else None


def _run(pool: ThreadPoolExecutor | None, call: Callable[..., T], *arguments: Any) -> Future[T]:
    """A job on the pool; without one, done now."""
    if pool is not None:
        return pool.submit(call, *arguments)
    done: Future[T] = Future()
    try:
        done.set_result(call(*arguments))
    except Exception as error:
        done.set_exception(error)
    return done
