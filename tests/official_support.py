"""Vectors of the official code."""

import json

from support import REPO

DATA = REPO / "tests/data"


NAN, INF = float("nan"), float("inf")


def vectors(key):
    return json.loads((DATA / "official_vectors.json").read_text())[key]
