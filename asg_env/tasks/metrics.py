"""What is reported about a network: accuracies, by torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor


def class_accuracy(predictions: Tensor, labels: Tensor, classes: int, average: str) -> float:
    """Accuracy in [0, 1].

    Args:
        predictions, labels: (N,) int64.
        classes: number of classes.
        average: ``"macro"`` (mean recall of the classes among the labels, the paper's) or
            ``"micro"``.
    """
    from torchmetrics.functional.classification import multiclass_accuracy  # slow to import

    with torch.no_grad():
        if average == "micro":
            return float(multiclass_accuracy(predictions, labels, classes, average="micro"))
        recalls = multiclass_accuracy(predictions, labels, classes, average="none")
        return float(recalls[labels.bincount(minlength=classes) > 0].mean())
