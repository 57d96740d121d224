"""Small episodes of ASG-VisDA-v0."""

from support import make

ID = "ASG-VisDA-v0"


SHORT = {"budget": 4, "window": 1, "batch_size": 8}


def short(visda, **kwargs):
    return make(ID, **{**visda, **SHORT, **kwargs})
