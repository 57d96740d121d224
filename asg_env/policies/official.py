"""Policy checkpoints as the paper's authors published them: a flat dict of tensors, torch format.

net.state_encoder.{i}.rnn.{weight_ih_l0, ...}    the LSTM of global signal i, i = 0..4
action_distribution.linear.{g}.{weight, bias}    the head of layer group g
critic.fc.{weight, bias}                         the critic
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asg_env.files import BadFile

SUFFIXES = (".pth", ".pt")  # what tells such a file from one of ours
ENCODERS = 5  # of the format: one for each global signal
_HEADS = "action_distribution.linear."
_NAMES = (
    (re.compile(r"net\.state_encoder\.(\d+)\.rnn\.(\w+)"), r"encoders.\1.\2"),
    (re.compile(r"action_distribution\.linear\.(\d+)\.(weight|bias)"), r"heads.\1.0.\2"),
    (re.compile(r"critic\.fc\.(weight|bias)"), r"critic.\1"),
)


class OfficialWeights(NamedTuple):
    """``weights`` under the names of :class:`~asg_env.policies.recurrent.RecurrentPolicy`, for
    ``groups`` layer groups, ``levels`` LR scales, LSTMs of size ``hidden``."""

    groups: int
    levels: int
    hidden: int
    weights: dict[str, Tensor]


def read_official(path: Path) -> OfficialWeights:
    """Read a published checkpoint; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        BadFile: it is truncated or of another format, keys are missing or unknown, or a tensor
            has a shape that does not fit the others or holds something that is no finite number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no policy file {path}; expected a published checkpoint")
    try:
        return _translated(_flat_dict(path))
    except (ValueError, RuntimeError) as error:
        raise BadFile(f"{path} is no published policy checkpoint: {error}") from error


def _flat_dict(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()
    try:
        _check_zip(content)
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch raises nearly anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "truncated, or not a dict of tensors in torch's format (a pickle of anything else is "
            f"never loaded): {type(error).__name__}: {reason}"
        ) from error
    tensors = isinstance(loaded, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()
    )
    if not tensors:
        raise ValueError(f"expected a flat dict of tensors, found {_described(loaded)}")
    return dict(loaded)


def _check_zip(content: bytes) -> None:
    """Raise ValueError if a part of a zip archive (torch's format since 1.6) does not fit its
    checksum, at which torch does not look."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (part := archive.testzip()) is not None:
            raise ValueError(f"{part} in it does not fit its checksum")


def _described(loaded: Any) -> str:
    if not isinstance(loaded, Mapping):
        return f"a {type(loaded).__name__}"
    kinds = {f"{k!r}: {type(v).__name__}" for k, v in loaded.items() if not isinstance(v, Tensor)}
    return "a dict with " + (", ".join(sorted(kinds)[:3]) or "keys that are no strings")


def _translated(found: Mapping[str, Tensor]) -> OfficialWeights:
    """The same tensors under our names, after a check of names and shapes."""
    counts = {
        "groups": max(1, sum(k.startswith(_HEADS) and k.endswith(".bias") for k in found)),
        "hidden": max(1, _rows(found, "net.state_encoder.0.rnn.weight_ih_l0") // 4),
        "levels": _rows(found, "action_distribution.linear.0.bias"),
    }
    expected = official_shapes(**counts)
    missing, unknown = (
        [k for k in a if k not in b] for a, b in ((expected, found), (found, expected))
    )
    if missing or unknown:
        raise ValueError(f"missing keys: {_some(missing)}; unknown keys: {_some(unknown)}")
    for key, shape in expected.items():
        if tuple(found[key].shape) != shape:
            raise ValueError(f"{key} has shape {tuple(found[key].shape)}, expected {shape}")
        whole = found[key].nbytes <= found[key].untyped_storage().nbytes()
        if not whole or found[key].layout != torch.strided:
            raise ValueError(f"{key} is no plain tensor: it claims more than the file holds")
        if not (found[key].is_floating_point() and found[key].isfinite().all()):
            raise ValueError(f"{key} holds something that is no finite number")
    return OfficialWeights(**counts, weights={_our_name(k): v for k, v in found.items()})


def official_shapes(groups: int, levels: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Every key of a published checkpoint and the shape of its tensor."""
    lstm = {"weight_ih_l0": (1,), "weight_hh_l0": (hidden,), "bias_ih_l0": (), "bias_hh_l0": ()}
    width = ENCODERS * hidden + 1
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(ENCODERS):
        for name, rest in lstm.items():
            shapes[f"net.state_encoder.{i}.rnn.{name}"] = (4 * hidden, *rest)
    for g in range(groups):
        shapes[f"action_distribution.linear.{g}.weight"] = (levels, width)
        shapes[f"action_distribution.linear.{g}.bias"] = (levels,)
    return shapes | {"critic.fc.weight": (1, groups * width), "critic.fc.bias": (1,)}


def _rows(found: Mapping[str, Tensor], key: str) -> int:
    """How many rows a tensor has; 1 if it is missing or a scalar, an error that is found later."""
    return found[key].shape[0] if key in found and found[key].ndim else 1


def _our_name(key: str) -> str:
    for pattern, ours in _NAMES:
        if pattern.fullmatch(key):
            return pattern.sub(ours, key)
    raise AssertionError(key)  # the keys were checked


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") or "none"
