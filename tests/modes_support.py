"""What a caller may have switched on around a call, by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def gradients_off() -> Iterator[None]:
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*ASG-VisDA-v0 runs on its embedded stand-in")
        yield


MODES: dict[str, Any] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients_off": gradients_off,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "uncached_autocast": lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "default_device": lambda: default_device("meta"),
    "within_device": lambda: torch.device("meta"),
    "numpy_raises": lambda: np.errstate(all="raise"),
    "deterministic": deterministic,
    "warnings_are_errors": warnings_are_errors,
}


@contextmanager
def all_at_once() -> Iterator[None]:
    """The five that used to change, or break, a computation."""
    names = ("no_grad", "inference_mode", "autocast", "float64", "default_device")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(MODES[name]())
        yield


def _autocast_depth() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def state() -> tuple[Any, ...]:
    """All of these, as they are."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_cache_enabled(),
        _autocast_depth(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        np.geterr(),
    )
