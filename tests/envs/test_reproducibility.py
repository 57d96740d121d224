import itertools
import json
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from support import (
    DIGITS_ID,
    SMALL,
    constant,
    frame,
    make,
    play,
    random_actions,
    run_python,
    trajectory,
)

from asg_env.envs import FinetuneEnv
from asg_env.tasks.digits import DigitsTask

LONG = {"budget": 40, "window": 2}  # twenty decisions


SHORT = {"budget": 12, "window": 2}  # six decisions


OPTIMIZERS = ("sgd", "official_sgd")


CASES = 13  # for each of two optimizers and two observation sets


CONTINUE = """
import json, sys
import numpy as np
from support import frame, make, play, trajectory

for job in json.load(open(sys.argv[1])):
    env = make(**job["kwargs"])
    frames = [frame(*env.load(job["path"]))]
    actions = [np.asarray(a) for a in job["actions"]]
    frames += play(env, actions)
    print(json.dumps(frames + trajectory(env, None, actions[:1])))
"""


@pytest.fixture(scope="module")
def reference():
    env = make(**LONG)
    actions = random_actions(env, 20, seed=0)
    return actions, trajectory(env, 7, actions)


def global_state():
    return (
        torch.get_rng_state().numpy().tobytes(),
        repr(np.random.get_state()),
        np.random.get_state()[1].tobytes(),
        random.getstate(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_same_seed_twice_in_one_env_gives_the_same_bits(optimizer):
    env = make(**LONG, optimizer=optimizer)
    actions = random_actions(env, 20, seed=1)
    assert trajectory(env, 7, actions) == trajectory(env, 7, actions)


def test_the_same_seed_in_two_envs_gives_the_same_bits(reference):
    actions, expected = reference
    other = make(**LONG)
    other.reset(seed=3)
    play(other, actions[:2])
    assert trajectory(other, 7, actions) == expected
    assert expected[-1][-1] == "[True, False]"


def test_the_same_seed_in_a_worker_process_gives_the_same_bits(reference):
    actions, expected = reference
    workers = gym.vector.AsyncVectorEnv([lambda: gym.make(DIGITS_ID, **LONG)])
    try:
        frames = [frame(*workers.reset(seed=7))]
        for action in actions:
            observation, reward, terminated, truncated, info = workers.step(action[None])
            frames.append(frame(observation, info, reward[0], terminated[0], truncated[0]))
    finally:
        workers.close()
    assert frames == expected


def test_different_seeds_differ(reference):
    actions, expected = reference
    other = trajectory(make(**LONG), 8, actions)
    assert all(a[0] != b[0] for a, b in zip(expected, other, strict=True))


def test_reset_without_a_seed_goes_on_from_the_last_one():
    env = make(**LONG)
    actions = random_actions(env, 2, seed=2)
    first = [trajectory(env, 7, actions), trajectory(env, None, actions)]
    again = [trajectory(env, 7, actions), trajectory(env, None, actions)]
    assert first == again
    assert first[0] != first[1]


def test_an_episode_leaves_the_global_generators_and_threads_alone():
    env = make()
    before = global_state()
    for seed in range(2):
        env.reset(seed=seed)
        play(env, random_actions(env, 4, seed))
        env.evaluate("test")
        env.fork()
    assert global_state() == before


def test_loading_a_task_leaves_the_global_generators_alone():
    before = global_state()
    env = FinetuneEnv(DigitsTask(), **SMALL, variant="train:1")  # a new task has loaded nothing
    env.reset(seed=0, options={"variant": "train:2"})
    assert global_state() == before


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_callers_threads_do_not_change_the_trajectory(reference, threads):
    actions, expected = reference
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert trajectory(make(**LONG), 7, actions) == expected
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("observation", ["layerwise", "paper"])
def test_a_fork_goes_on_with_the_same_bits(optimizer, observation):
    env = make(**SHORT, optimizer=optimizer, observation=observation)
    for case in range(CASES):
        rng = np.random.default_rng([case, len(optimizer), len(observation)])
        done = int(rng.integers(0, 6))
        env.reset(seed=case)
        play(env, random_actions(env, done, case))
        forked = env.fork()
        rest = random_actions(env, 6 - done, case + 1000)
        expected = play(env, rest) + trajectory(env, None, rest[:1])
        assert play(forked, rest) + trajectory(forked, None, rest[:1]) == expected


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fork_shares_nothing_with_its_original(optimizer):
    env, untouched = make(**SHORT, optimizer=optimizer), make(**SHORT, optimizer=optimizer)
    actions = random_actions(env, 6, seed=4)
    for one in (env, untouched):
        one.reset(seed=5)
        play(one, actions[:3])
    forked = env.fork()
    storages = [
        {t.data_ptr() for t in e._episode.optimizee.tensors().values()} for e in (env, forked)
    ]
    assert not storages[0] & storages[1]
    play(forked, [constant(env, 1.0)] * 3)
    forked.reset(seed=1)
    assert play(env, actions[3:]) == play(untouched, actions[3:])


def test_a_fork_of_a_finished_episode_is_finished():
    env = make(**SHORT)
    trajectory(env, 0, random_actions(env, 6, 0))
    with pytest.raises(gym.error.ResetNeeded):
        env.fork().step(constant(env, 0.5))


def test_a_saved_episode_goes_on_with_the_same_bits_in_a_new_process(tmp_path):
    jobs, expected = [], []
    settings = itertools.product(OPTIMIZERS, (None, "train"))
    for case, (optimizer, variant) in enumerate(settings):
        action = "continuous" if case in (1, 2) else "discrete"
        kwargs = {**SHORT, "optimizer": optimizer, "variant": variant, "action": action}
        env = make(**kwargs)
        actions = random_actions(env, 6, case)
        done = case + 1
        now = trajectory(env, case, actions[:done])[-1]
        path = str(tmp_path / f"{case}.safetensors")
        env.save(path)
        rest = actions[done:]
        job = {"kwargs": kwargs, "path": path, "actions": [a.tolist() for a in rest]}
        jobs.append(job)
        now = [*now[:2], repr(0.0), now[3], "[]"]  # load returns no reward and no ends
        expected.append([now, *play(env, rest), *trajectory(env, None, rest[:1])])
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    lines = run_python(CONTINUE, str(tmp_path / "jobs.json")).splitlines()
    assert [json.loads(line) for line in lines] == expected


def test_a_loaded_episode_may_run_with_other_threads(tmp_path):
    env = make(**SHORT)
    actions = random_actions(env, 6, 0)
    trajectory(env, 0, actions[:2])
    env.save(tmp_path / "episode")
    other = make(**SHORT, threads=2)
    other.load(tmp_path / "episode")
    assert len(play(other, actions[2:])) == 4
