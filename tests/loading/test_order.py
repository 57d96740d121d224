"""The order of batches: each image once an epoch, from one position."""

import itertools

import torch

from asg_env.data.order import BatchOrder


def test_an_epoch_sees_every_image_once_and_a_position_is_all_there_is_to_know():
    order = BatchOrder(count=10, batch_size=4, seed=3)
    batches = list(itertools.islice(order.upcoming(), 6))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    epochs = [torch.cat(batches[:3]).tolist(), torch.cat(batches[3:]).tolist()]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    for position, batch in enumerate(batches):
        assert torch.equal(next(BatchOrder(10, 4, 3, position).upcoming()), batch)
