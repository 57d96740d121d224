"""What an exception or Ctrl-C leaves behind: an episode that is whole, or none."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from support import constant, frame, make, play, random_actions, trajectory

import asg_env
from asg_env.training.optimizee import Optimizee

SMALLEST = {"budget": 4, "window": 1, "reward_images": 16}
OURS = str(Path(asg_env.__file__).parent)
SPREAD = 8  # places of interruption all over a call


class Interrupter:
    """Ctrl-C at the n-th line of our code that a call runs; None: counts them.

    ``near``: only lines of files whose name is one of these count.
    """

    def __init__(self, at=None, near=()):
        self.at, self.near, self.count = at, near, 0

    def __call__(self, frame, event, _):
        name = frame.f_code.co_filename
        if not name.startswith(OURS) or (self.near and Path(name).stem not in self.near):
            return None
        if "isolation" in name or "seeding" in name:
            return None  # where switches are put back
        return self.line

    def line(self, frame, event, _):
        if event == "line":
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.line


def lines(call, near=()):
    """How many lines a call runs."""
    counter, before = Interrupter(near=near), sys.gettrace()
    sys.settrace(counter)
    try:
        call()
    finally:
        sys.settrace(before)
    return counter.count


def broken_off(call, at, near=()):
    """Whether a call was interrupted."""
    before = sys.gettrace()
    sys.settrace(Interrupter(at, near))
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def assert_nothing_runs(env, path):
    for call in (
        lambda: env.step(constant(env, 0.5)),
        lambda: env.save(path),
        env.fork,
        env.evaluate,
        env.similarity,
        env.proxy_losses,
        env.render,
        lambda: env.student,
    ):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
            call()
    assert not path.exists()


@pytest.mark.parametrize("seed", [None, 5])
def test_a_reset_that_breaks_off_leaves_no_episode(seed, tmp_path):
    """Half an episode used to be left, which could be stepped and was wrong."""
    env = make(**SMALLEST, render_mode="ansi", variant="train")
    env.reset(seed=3)
    actions = random_actions(env, 2, 0)
    original = copy.deepcopy(env)
    other = copy.deepcopy(env)
    near = ("finetune",)
    own, whole = (
        lines(lambda: other.reset(seed=seed), near),
        lines(lambda: original.reset(seed=seed)),
    )
    expected = trajectory(copy.deepcopy(env), seed, actions)
    cases = [(near, at) for at in range(1, own + 1)]
    cases += [((), int(at)) for at in np.linspace(1, whole, SPREAD)]
    left = 0
    for files, at in cases:
        again = copy.deepcopy(env)
        before = copy.deepcopy(again).step(actions[0])[1]
        done = not broken_off(lambda again=again: again.reset(seed=seed), at, files)
        if again._episode is None:
            left += 1
            assert_nothing_runs(again, tmp_path / "saved")
            assert trajectory(again, seed, actions) == expected
        else:
            one = copy.deepcopy(again).step(actions[0])
            assert one[1] == before or frame(one[0], one[4], *one[1:4]) == expected[1]
            assert not done
    assert left > len(cases) / 3


def test_a_step_that_breaks_off_leaves_no_episode(tmp_path):
    """Half a window would be trained twice."""
    env = make(**SMALLEST, render_mode="ansi", regularizer="si", regularizer_strength=0.1)
    actions = random_actions(env, 2, 0)
    expected = trajectory(env, 0, actions)
    env.reset(seed=0)
    near = ("finetune",)
    other = copy.deepcopy(env)
    own = lines(lambda: other.step(actions[0]), near)
    whole = lines(lambda: other.step(actions[1]))
    cases = [(near, at) for at in range(1, own + 1)]
    cases += [((), int(at)) for at in np.linspace(1, whole, SPREAD)]
    left = 0
    for files, at in cases:
        again = copy.deepcopy(env)
        broken_off(lambda again=again: again.step(actions[0]), at, files)
        if again._episode is None:
            left += 1
            assert_nothing_runs(again, tmp_path / "saved")
            assert trajectory(again, 0, actions[:1]) == expected[:2]
        elif again._episode.ledger.decision == 0:
            assert play(again, actions) == expected[1:]
        else:
            assert play(again, actions[1:]) == expected[2:]
    assert left > SPREAD / 2


def test_a_load_that_breaks_off_leaves_the_episode_of_before(tmp_path):
    env = make(**SMALLEST)
    actions = random_actions(env, 2, 0)
    saved = trajectory(env, 0, actions)[2:]
    trajectory(env, 0, actions[:1])
    env.save(tmp_path / "saved")
    running = trajectory(env, 1, actions)
    after = trajectory(env, None, actions[:1])
    env.reset(seed=1)
    near = ("copies",)
    other = copy.deepcopy(env)
    own = lines(lambda: other.load(tmp_path / "saved"), near)
    whole = lines(lambda: other.load(tmp_path / "saved"))
    cases = [(near, at) for at in range(1, own + 1)]
    cases += [((), int(at)) for at in np.linspace(1, whole, SPREAD)]
    for files, at in cases:
        again = copy.deepcopy(env)
        broken_off(lambda again=again: again.load(tmp_path / "saved"), at, files)
        if again._episode.ledger.seed == env._episode.ledger.seed:
            assert play(again, actions) == running[1:]
            assert trajectory(again, None, actions[:1]) == after
        else:
            assert play(again, actions[1:]) == saved


def test_an_evaluation_that_breaks_off_changes_nothing():
    env = make(**SMALLEST, regularizer="feature_l2")
    actions = random_actions(env, 2, 0)
    expected = trajectory(env, 0, actions)
    for ask in ("evaluate", "similarity", "proxy_losses", "fork"):
        env.reset(seed=0)
        count = lines(getattr(env, ask))
        for at in np.linspace(1, count, 4).astype(int):
            assert broken_off(getattr(env, ask), int(at))
        assert play(env, actions) == expected[1:]


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": "one"}, {"options": {"a": 1}}])
def test_a_reset_that_is_refused_leaves_the_episode_alone(wrong):
    env = make(**SMALLEST)
    actions = random_actions(env, 2, 0)
    expected = trajectory(env, 0, actions), trajectory(env, None, actions)
    start = trajectory(env, 0, [])
    with pytest.raises(Exception, match=r"[sS]eed|option"):
        env.reset(**wrong)
    assert [start + play(env, actions), trajectory(env, None, actions)] == list(expected)


def test_an_image_that_is_missing_for_a_moment(folders, tmp_path):
    """The next reset starts the episode that the broken one would have."""
    arguments = {**folders, **SMALLEST, "cache": "none", "render_mode": "ansi"}
    env = make("ASG-ImageFolder-v0", **arguments)
    actions = random_actions(env, 1, 0)
    trajectory(env, 0, actions)
    expected = trajectory(env, None, actions)
    trajectory(env, 0, actions)
    files = env.problem.splits["outer_valid"].files
    path = files.root / files.paths[0]
    path.rename(tmp_path / "away")
    try:
        with pytest.raises(Exception, match=path.name):
            env.reset()
    finally:
        (tmp_path / "away").rename(path)
    assert_nothing_runs(env, tmp_path / "saved")
    assert trajectory(env, None, actions) == expected


def test_an_error_inside_a_step_is_not_hidden(monkeypatch):
    env = make(**SMALLEST)
    env.reset(seed=0)
    monkeypatch.setattr(Optimizee, "probe", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        env.step(constant(env, 1.0))
    with pytest.raises(ResetNeeded, match="broke off"):
        env.step(constant(env, 1.0))
