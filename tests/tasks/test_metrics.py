"""Accuracy averaged over classes."""

import pytest
import torch
from asg_env.tasks.metrics import class_accuracy


def test_macro_accuracy_is_the_mean_recall_of_the_classes_that_are_there():
    """A class that is only predicted used to count as a recall of 0."""
    labels, predictions = torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 2, 2])
    assert class_accuracy(predictions, labels, 4, "macro") == pytest.approx((0.5 + 1) / 2)
    assert class_accuracy(predictions, labels, 4, "micro") == pytest.approx(0.75)
