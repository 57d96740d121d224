"""Computing that does not depend on what the caller has switched on.

PyTorch and NumPy keep switches that change every computation of a thread, or of the process. A
caller may have them set around a call for its own networks (``no_grad`` around an agent's rollout,
``autocast``, float64 by default). What computes here pins all that it depends on:

| switch | here | holds for |
| --- | --- | --- |
| gradients (``no_grad``, ``set_grad_enabled``) | on | the thread |
| ``inference_mode`` | off | the thread |
| ``autocast`` and its cache of cast weights | off, empty | the thread |
| default device (``set_default_device``, ``with device``) | cpu | the thread |
| ``numpy.errstate`` | NumPy's default | the thread |
| default dtype | float32 | the process, see :class:`_DefaultDtype` |

What says how fast or how exactly the hardware computes stays the caller's: deterministic
algorithms, the precision of float32 matrix products, denormal numbers, cuDNN's and oneDNN's flags,
the number of threads. But in a forked process there is one thread: its parent's OpenMP threads are
not there, and PyTorch would wait for them for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")


def isolated(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with :func:`own_modes`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_modes():
            return function(*args, **kwargs)

    return run


@contextmanager
def own_modes() -> Iterator[None]:
    """Run the block with the switches of the module's table; then they are as before.

    Raises:
        RuntimeError: PyTorch makes tensors without numbers here.
    """
    _FORK.one_thread()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _no_autocast(),
        _on_cpu(),
        _FLOAT32,
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
    ):
        if type(made := torch.empty(0)) is not torch.Tensor:
            raise RuntimeError(
                f"PyTorch makes a {type(made).__name__} here, without numbers: leave "
                "FakeTensorMode (or the like) around the call"
            )
        yield


@contextmanager
def _no_autocast() -> Iterator[None]:
    """As if no autocast were around, so that one inside is an outermost one, which empties the
    cache when it ends."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    caching = torch.is_autocast_cache_enabled()
    if not depth and not kinds and caching:
        yield
        return
    for kind in kinds:
        torch.set_autocast_enabled(kind, False)
    _nest(torch.autocast_decrement_nesting, depth)
    torch.set_autocast_cache_enabled(True)
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(caching)
        _nest(torch.autocast_increment_nesting, depth)
        for kind in kinds:
            torch.set_autocast_enabled(kind, True)


def _nest(change: Callable[[], int], times: int) -> None:
    for _ in range(times):
        change()


def _on_cpu() -> AbstractContextManager[object]:
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


class _DefaultDtype:
    """float32 by default while any thread is inside.

    The default is one for the whole process: the first thread in notes the caller's, the last one
    out gives it back. Until then the caller's other threads see float32, too.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._callers = threading.Lock(), 0, torch.float32

    def renew(self) -> None:
        """In a forked process, whose parent's other threads are not there: nobody is inside."""
        if self._inside:
            torch.set_default_dtype(self._callers)
        self.__init__()  # type: ignore[misc]

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._callers = torch.get_default_dtype()
            self._inside += 1
            if torch.get_default_dtype() is not torch.float32:
                torch.set_default_dtype(torch.float32)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside = max(0, self._inside - 1)
            if not self._inside and self._callers is not torch.float32:
                torch.set_default_dtype(self._callers)


class _Fork:
    """Whether this process is a fork that has computed nothing yet."""

    def __init__(self) -> None:
        self._new = False

    def renew(self) -> None:
        """In the forked process."""
        self._new = True

    def one_thread(self) -> None:
        """At the first computation; who sets another number afterwards is believed."""
        if self._new:
            self._new = False
            torch.set_num_threads(1)


_FLOAT32, _FORK = _DefaultDtype(), _Fork()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_FLOAT32.renew)
    os.register_at_fork(after_in_child=_FORK.renew)
