"""Proxy guidance: the loss that keeps a network close to what it knew (paper, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class GuidedLoss(NamedTuple):
    """``ce`` and ``kl``: scalar tensors, nats. ``total`` is CE + lambda * KL."""

    ce: Tensor
    kl: Tensor

    def total(self, guidance: float) -> Tensor:
        """The training loss with guidance weight lambda."""
        return self.ce + guidance * self.kl


def proxy_kl(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) of the old classifier, mean over the batch, temperature 1, nats.

    Args:
        teacher_logits, student_logits: (N, K_old) float32; no gradient flows to the teacher.
    """
    teacher = F.log_softmax(teacher_logits.detach(), dim=1)
    student = F.log_softmax(student_logits, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def guided_loss(
    new_logits: Tensor, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
) -> GuidedLoss:
    """Cross-entropy of the new head and the proxy KL of the old one.

    Args:
        new_logits: (N, K) float32.
        labels: (N,) int64.
        teacher_logits, student_logits: (N, K_old) float32.
    """
    return GuidedLoss(F.cross_entropy(new_logits, labels), proxy_kl(teacher_logits, student_logits))
