"""Accuracy, counted a block at a time."""

import pytest
import torch

from asg_env.models.student import Outputs
from asg_env.tasks.objective import Classification, Hits, Seen, blocks


def test_macro_accuracy_is_the_mean_recall_of_the_classes_that_are_there():
    """A class that is only predicted used to count as a recall of 0."""
    labels, predictions = torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 2, 2])
    hits = Hits(4)
    hits.update(predictions, labels)
    assert hits.macro() == pytest.approx((0.5 + 1) / 2)
    assert hits.micro() == pytest.approx(0.75)


def views(sizes, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        new = torch.randn(size, classes, generator=generator)
        labels = torch.randint(classes, (size,), generator=generator)
        yield Seen(Outputs(new, new[:, :2]), new, labels, torch.arange(size))


def test_blocks_join_views_up_to_a_limit_and_lose_nothing():
    sizes = [3, 3, 3, 50, 2]
    found = list(blocks(views(sizes), limit=40))  # six logits an image
    assert [len(seen.labels) for seen in found] == [6, 3, 50, 2]
    assert torch.equal(
        torch.cat([seen.labels for seen in found]),
        torch.cat([seen.labels for seen in views(sizes)]),
    )


def test_a_score_is_the_same_however_the_split_is_cut():
    objective, scores = Classification(), []
    for limit in (1, 10**6):
        score = objective.score(4)
        for seen in blocks(views([5, 7, 11]), limit):
            score.update(seen)
        scores.append(score.compute())
    assert scores[0]["accuracy"] == scores[1]["accuracy"]
    assert scores[0]["ce"] == pytest.approx(scores[1]["ce"], rel=1e-6)
