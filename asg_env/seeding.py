"""Randomness that is a function of a seed and leaves the caller's generators alone."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_lock = threading.RLock()  # of the global generators


def _renew() -> None:
    """In a forked process, where the thread that held the lock may be missing."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of torch, numpy and random; restore them on leaving.

    Threads that come here wait for each other. A thread of the caller's that draws from a global
    generator meanwhile draws from the block's: what has a generator of its own needs none of this.
    """
    with _lock:
        saved = torch.get_rng_state(), np.random.get_state(), random.getstate()
        try:
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            torch.set_rng_state(saved[0])
            np.random.set_state(saved[1])
            random.setstate(saved[2])


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run the block with ``count`` intra-op threads (None: leave as it is), then restore."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
