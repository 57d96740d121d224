"""Weights from files, whichever trainer wrote them: read, unwrapped, checked against a network.

Nothing in a file is executed.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

COUNTER = ".num_batches_tracked"  # of batch norm: used in training mode only
AVERAGED = "n_averaged"  # what torch.optim.swa_utils.AveragedModel counts in its state
WRAPPERS = (  # keys under which files keep the weights; the first that is there counts
    *("state_dict", "model", "model_state_dict", "module", "net"),
    *("state_dict_ema", "model_ema", "ema_state_dict"),
)
PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.", "net.", "network.")
"""What DataParallel, torch.compile, FSDP and Lightning modules put before parameter names."""
NAMED = 3  # parameters in a message


def read_state(path: str | os.PathLike[str], known: Collection[str] = ()) -> dict[str, Tensor]:
    """The state dict of a file.

    Wrappers are taken off: entries around it (:data:`WRAPPERS`), and what stands before every name
    (:data:`PREFIXES`), the latter only while none of the names is a known one.

    Args:
        path: safetensors, or what ``torch.save`` wrote.
        known: the network's own names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weight file {path}: expected safetensors or a PyTorch state dict, or a name of "
            "torchvision's weights such as 'IMAGENET1K_V1', or 'random'"
        )
    try:
        content = _read(path)
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no whole weight file: {error}") from error
    except Exception as error:  # pickle's UnpicklingError: content that weights_only refuses
        raise ValueError(
            f"{path} holds more than tensors, and is not loaded: save the model's state_dict()"
        ) from error
    return _without_prefixes(_state_dict(content, path), known)


def fitted(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, model: str
) -> dict[str, Tensor]:
    """The state in the network's own types, after a look at all of it.

    Args:
        state: names -> tensors, of any floating-point type where the network's are.
        own: the network's. Batch norm's counters may be missing from ``state``.
        path, model: for messages.

    Raises:
        ValueError: parameters that are missing, unknown, of another shape, of another kind of
            number, or not finite; it names a few of each.
    """
    counters = {k: v for k, v in own.items() if k.endswith(COUNTER)}  # not in files before 2018
    state = {**counters, **state}
    missing = [k for k in own if k not in state]
    unknown = [k for k in state if k not in own]
    shapes = [
        f"{k}: {tuple(state[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and v.shape != state[k].shape
    ]
    if missing or unknown or shapes:
        raise ValueError(
            f"{path} holds weights of another architecture than {model!r}, or under other names: "
            f"{len(missing)} parameters missing{_some(missing)}, {len(unknown)} unknown"
            f"{_some(unknown)}, {len(shapes)} of another shape{_some(shapes)}"
        )
    kinds = [f"{k}: {state[k].dtype}" for k, v in own.items() if not _same_kind(k, state[k], v)]
    if kinds:
        raise ValueError(
            f"{path}: {len(kinds)} parameters are no plain floating-point numbers{_some(kinds)}: "
            "save the weights as they were before quantisation, with 16 or 32 bits"
        )
    state = {k: state[k].to(v.dtype) for k, v in own.items()}
    broken = [k for k, v in state.items() if not v.isfinite().all()]
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} parameters are not finite{_some(broken)}: the training "
            "diverged, or the file is damaged; take another checkpoint"
        )
    return state


def _read(path: Path) -> Any:
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix.lower() == ".safetensors" or head[8:] == b"{":  # whatever it is called
        return load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # a trainer's arguments
        return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The mapping names -> tensors in what a file holds."""
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        if len(inner) > 1:
            warnings.warn(
                f"{path} holds several sets of weights, {', '.join(inner)}: {inner[0]} is taken; "
                "to use another, save it in a file of its own",
                stacklevel=5,
            )
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state dict (names -> tensors)")
    if hollow := [str(name) for name, value in content.items() if _is_hollow(value)]:
        raise ValueError(f"{path}: the file is smaller than its tensors{_some(hollow)}")
    return {str(name): value for name, value in content.items()}


def _is_hollow(value: Tensor) -> bool:
    """Whether a tensor says to be larger than what is stored of it."""
    if value.layout is not torch.strided:
        return False
    return value.numel() * value.element_size() > value.untyped_storage().nbytes()


def _without_prefixes(state: dict[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    if AVERAGED not in known:
        state = {name: value for name, value in state.items() if name != AVERAGED}
    while state and not any(name in known for name in state):
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _same_kind(name: str, value: Tensor, own: Tensor) -> bool:
    """Whether a tensor may become the network's: dense, and of the same kind of numbers."""
    if value.layout is not torch.strided or value.is_quantized or value.is_complex():
        return False
    if name.endswith(COUNTER):
        return True
    return value.is_floating_point() == own.is_floating_point()


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})" if names else ""
