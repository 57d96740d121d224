"""A little training with each algorithm."""

import pytest
from sb3_support import TINY, opened, small

from agents import sb3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A little training on the digits with an algorithm, once: its arguments and its policy."""
    done = {}

    def of(algo):
        if algo not in done:
            folder = tmp_path_factory.mktemp("runs") / f"my_{algo}"
            args = opened(folder, TINY, algo=algo, hyperparameters=small(algo))
            done[algo] = args, sb3.train(args)
        return done[algo]

    return of
