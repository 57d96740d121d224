"""What several of the tests of experiments/finetune.py need."""

import math

from experiments.finetune import Args

KWARGS = {"regularizer": "si", "batch_size": 160, "window": 4}  # an epoch is ten optimizer steps


TINY = Args(env_kwargs=KWARGS, epochs=2.7, policy="random", seed=3)


STEPS, EVALUATED = [0, 4, 8, 12, 16, 20, 24, 27], [0, 12, 20, 27]


def same(first, second):
    """Whether two runs ended with the same bits."""
    files = ("student.safetensors", "record.json", "metrics.jsonl", "summary.json", "summary.md")
    return [n for n in files if (first.out / n).read_bytes() != (second.out / n).read_bytes()] == []


NAN = math.nan
