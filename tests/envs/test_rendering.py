"""Frames of runs whose groups and images are called anything."""

import warnings

import numpy as np
import pytest
from support import SMALL, make, random_actions

NAMES = ["con\nv", "a|b", "\x1b[2J", "$x$", "$\\frac{", "<b>", "caf\udce9"]


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_odd_names_are_drawn_as_they_are_spelled(monkeypatch, mode):
    env = make(render_mode=mode, **SMALL)
    monkeypatch.setattr(type(env), "title", "a\nb $x$ $\\frac{")
    env.reset(seed=0)
    env.step(random_actions(env, 1, 0)[0])
    monkeypatch.setattr(env, "group_names", NAMES[: len(env.group_names)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = env.render()
    if mode == "rgb_array":
        assert isinstance(drawn, np.ndarray)
        return
    title, head, *rows = drawn.split("\n")
    assert title == "a\\nb $x$ $\\frac{"
    assert head.endswith(r"con\nv a|b \x1b[2J $x$ $\frac{ <b>")
    assert len(rows) == 2
    assert drawn.replace("\n", "").isprintable()
