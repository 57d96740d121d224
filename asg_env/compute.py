"""Where and how numbers are computed: device, memory layout, precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""``fp32``: as PyTorch computes by default. ``bf16``: autocast; weights and losses stay float32."""


@dataclass(frozen=True)
class Compute:
    """How the networks of a run are computed.

    Attributes:
        device: where.
        channels_last: keep images and convolution weights in NHWC order, which is faster for large
            images on CPUs and on GPUs with tensor cores. The same numbers up to rounding.
        precision: a key of :data:`PRECISIONS`.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    channels_last: bool = False
    precision: str = "fp32"

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module's weights to where and how they are computed, in place."""
        layout = torch.channels_last if self.channels_last else torch.preserve_format
        return module.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def images(self, images: Tensor) -> Tensor:
        """(N, C, H, W) images in the right memory layout."""
        return (
            images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        )

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which networks run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA where there is one.

    Raises:
        ValueError: if the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={name!r}: expected 'auto', 'cpu', 'cuda' or 'cuda:N'") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={name!r}: expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device={name!r}: this machine has {count} CUDA devices; try 'cpu'")
    return device
