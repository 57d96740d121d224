"""CIFAR ResNets (He et al., 2015, section 4.2): three stages of basic blocks, option-A shortcuts.

Parameter names follow the widely used public checkpoints: ``conv1``, ``bn1``,
``layer{1,2,3}.N.{conv,bn}{1,2}``, ``linear``. With four stages the layer groups are those of an
ImageNet ResNet.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free (option A) shortcut."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.extra = width - in_width

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_width, H, W) -> (N, width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and not self.extra:
            return x
        before = self.extra // 2
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, before, self.extra - before))


class CifarResNet(nn.Module):
    """ResNet of depth ``2 stages n + 2``, n blocks a stage, for small images.

    Args:
        depth: 8, 14, 20, 32, 44, 56, 110, ... (three stages); 10, 18, 26, ... (four).
        num_classes: outputs of ``linear``.
        in_channels: image channels (3 for CIFAR, 1 for the digits).
        width: channels of the first stage; each later one has twice as many.
        stages: 3 for the CIFAR form.
        stem_stride: stride of ``conv1``; 1 for the CIFAR form.

    Input (N, in_channels, H, W) float32; output logits (N, num_classes) float32.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        stages: int = 3,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 2 * stages)
        if rest or blocks < 1:
            known = ", ".join(str(2 * stages * n + 2) for n in (1, 2, 3, 5))
            raise ValueError(f"depth must be {2 * stages}n+2 ({known}, ...), got {depth}")
        self.conv1 = nn.Conv2d(in_channels, width, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = [f"layer{k + 1}" for k in range(stages)]
        before = width
        for k, name in enumerate(self.stages):
            self.add_module(name, self._stage(before, width << k, blocks, 1 if k == 0 else 2))
            before = width << k
        self.linear: nn.Module = nn.Linear(before, num_classes)

    @staticmethod
    def _stage(in_width: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_width, width, stride)
        return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
