"""The student: a pretrained backbone, its frozen old classifier and a new head."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

BACKBONE, HEAD = "backbone", "fc_new"  # names of the student's parts


class Outputs(NamedTuple):
    """Logits of the new head, (N, K) float32, and of the frozen old classifier, (N, K_old)."""

    new: Tensor
    old: Tensor


class Student(nn.Module):
    """What is fine-tuned: ``fc_new(backbone(x))`` beside ``fc_old(backbone(x))`` (paper, 3).

    The old classifier is frozen, so that it keeps measuring what the backbone still knows. The
    module stays in eval mode: batch-norm statistics are frozen, their affine parameters train.

    Args:
        network: a pretrained classifier; it is copied.
        classifier: dotted path of the final linear layer in ``network``.
        num_classes: outputs of the new head.
        hidden: width of the new head's hidden layer (Linear-ReLU-Linear).
        seed: initialises the new head (PyTorch's default initialisation).
    """

    def __init__(
        self, network: nn.Module, classifier: str, num_classes: int, hidden: int, seed: int
    ) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(network)
        old = self.backbone.get_submodule(classifier)
        if not isinstance(old, nn.Linear):
            raise ValueError(f"{classifier!r} of the pretrained network is no nn.Linear: {old}")
        parent, _, name = classifier.rpartition(".")
        setattr(self.backbone.get_submodule(parent), name, nn.Identity())
        self.fc_old = old.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        first = seeded_linear(old.in_features, hidden, generator)
        last = seeded_linear(hidden, num_classes, generator)
        self.fc_new = nn.Sequential(first, nn.ReLU(), last)
        self.eval()

    def forward(self, x: Tensor) -> Outputs:
        """(N, C, H, W) float32 -> logits of both classifiers."""
        features = self.backbone(x)
        return Outputs(self.fc_new(features), self.fc_old(features))

    @property
    def head_weight(self) -> Tensor:
        """The head's last weight matrix (K, hidden), whose mean and std the policy observes."""
        last = self.fc_new[-1]
        assert isinstance(last, nn.Linear)
        return last.weight


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from a generator of one's own:
    the global one belongs to the caller, and to all threads."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
