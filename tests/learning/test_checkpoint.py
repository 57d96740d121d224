"""When a training keeps a snapshot."""

import numpy as np
import pytest

from asg_env.learning.run_folder import due


@pytest.mark.parametrize(("total", "count"), [(10, 3), (7, 7), (5, 1), (4, 0), (3, 5)])
def test_snapshots_are_at_equal_distances_and_the_last_is_the_end(total, count):
    moments = [i for i in range(1, total + 1) if due(i, total, count)]
    assert len(moments) == min(count, total)
    assert not moments or moments[-1] == total
    assert len(set(np.diff([0, *moments]))) <= 2
