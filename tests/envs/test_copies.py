"""Copies, forks and pickles: the identical future, nothing shared, of the same class."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import cloudpickle
import gymnasium as gym
import pytest
import torch
from pickling_support import Doubled, play_there
from support import DIGITS_ID, constant, make, play, random_actions, trajectory

from asg_env.control.observations import OBSERVATIONS
from asg_env.envs.rewards import REWARDS, RewardTerm
from asg_env.seeding import cpu_threads
from asg_env.tasks.digits import DIGITS, DigitsTask

SHORT = {"budget": 6, "window": 2}
HOW = {
    "fork": lambda env: env.fork(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "old pickle": lambda env: pickle.loads(pickle.dumps(env, 0)),
    "cloudpickle": lambda env: cloudpickle.loads(cloudpickle.dumps(env)),
}
KINDS = (
    {"regularizer": "feature_l2", "variant": "train"},
    {"regularizer": "si", "optimizer": "official_sgd", "action": "continuous"},
    {"precision": "bf16", "observation": OBSERVATIONS["paper"], "reward": REWARDS["train_loss"]},
)


def assert_goes_on(env, other, actions):
    """The copy is played first and to its end, so that what it shared would show."""
    theirs = play(other, actions) + trajectory(other, None, actions[:1])
    assert play(env, actions) + trajectory(env, None, actions[:1]) == theirs


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("env_id", ["ASG-Digits-v0", "ASG-VisDA-v0", "ASG-ImageFolder-v0"])
def test_a_copy_goes_on_with_the_same_bits(env_id, how, id_arguments):
    env = make(env_id, **{**id_arguments[env_id], **SHORT})
    actions = random_actions(env, 3, 0)
    trajectory(env, 0, actions[:1])
    other = HOW[how](env)
    assert type(other) is type(env)
    assert other.spec == env.spec
    assert other.problem is env.problem or how not in ("fork", "copy", "deepcopy")
    assert_goes_on(env, other, actions[1:])


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kwargs", KINDS, ids=["feature_l2", "si", "bf16"])
def test_so_does_one_of_every_kind(kwargs, how):
    env = make(**SHORT, **kwargs)
    actions = random_actions(env, 3, 0) if "action" in kwargs else [constant(env, 0.5)] * 3
    trajectory(env, 0, actions[:1])
    env.action_space.seed(4)
    other = HOW[how](env)
    assert other.action_space.sample().tolist() == env.action_space.sample().tolist()
    assert_goes_on(env, other, actions[1:])


@pytest.mark.parametrize("how", [h for h in HOW if h != "fork"])
def test_before_the_first_reset(how):
    env = make(**SHORT)
    other = HOW[how](env)
    with pytest.raises(gym.error.ResetNeeded):
        other.step(constant(env, 0.5))
    actions = random_actions(env, 1, 0)
    assert trajectory(other, 2, actions) == trajectory(env, 2, actions)


@pytest.mark.parametrize("how", HOW)
def test_a_subclass_keeps_its_class_its_reward_and_its_attributes(how):
    """fork() used to give the base class, with its reward."""
    env = Doubled(DIGITS, **SHORT, regularizer="feature_l2")
    actions = random_actions(env, 3, 0)
    trajectory(env, 0, actions[:1])
    other = HOW[how](env)
    assert type(other) is Doubled
    assert other.taken == env.taken
    assert_goes_on(env, other, actions[1:])
    assert other.taken is not env.taken


def test_what_a_subclass_holds_of_the_episode_is_that_of_the_copy():
    env = Doubled(DIGITS, **SHORT, regularizer="feature_l2")
    env.reset(seed=0)
    env.watched = {"student": env.student, "problem": env.problem}
    other = copy.deepcopy(env)
    assert other.watched["student"] is other.student is not env.student
    assert other.watched["problem"] is env.problem


def test_wrapped_environments_are_copied():
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(DIGITS_ID, **SHORT))
    actions = random_actions(env.unwrapped, 3, 0)
    trajectory(env, 0, actions[:1])
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert other.unwrapped is not env.unwrapped
        assert play(other, actions[1:]) == play(copy.deepcopy(env), actions[1:])


def test_a_pool_of_spawned_processes_plays_and_sends_back():
    env = Doubled(DigitsTask(), **SHORT, regularizer="feature_l2")
    actions = random_actions(env, 3, 0)
    trajectory(env, 0, actions[:1])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(play_there, env, actions[1:])
        frames, back = future.result(120)
    assert frames + play(back, actions[2:]) == play(env, actions[1:])


def test_a_vector_environment_calls_fork():
    with cpu_threads(2):  # OpenMP's second thread, for which forked processes wait in vain
        torch.rand(1000, 1000).add(1)
    envs = gym.vector.AsyncVectorEnv([lambda: gym.make(DIGITS_ID, **SHORT)] * 2)
    try:
        envs.reset(seed=[0, 1])
        forks = envs.call("fork")
    finally:
        envs.close()
    env = make(**SHORT)
    actions = random_actions(env, 2, 0)
    for seed, fork in enumerate(forks):
        assert play(fork, actions) == trajectory(env, seed, actions)[1:]


def test_registered_rewards_and_signals_are_pickled():
    for term in REWARDS.values():
        assert pickle.loads(pickle.dumps(term)) is copy.deepcopy(term) is term
    for signals in OBSERVATIONS.values():
        assert pickle.loads(pickle.dumps(signals)) == signals
    own = RewardTerm("mine", lambda t: t.phi, lambda n: -20.0 * n)
    assert copy.deepcopy(own) == own
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(own)


def test_a_task_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(DIGITS)) is copy.deepcopy(DIGITS) is DIGITS
    assert isinstance(pickle.loads(pickle.dumps(DigitsTask())), DigitsTask)


def test_a_pickle_of_other_images_is_refused(id_arguments):
    env = make("ASG-ImageFolder-v0", **{**id_arguments["ASG-ImageFolder-v0"], **SHORT})
    env.reset(seed=0)
    state = env.__getstate__()
    state["_episode"][1]["problem"] = "0" * 32
    with pytest.raises(ValueError, match="this pickle was saved with other images"):
        type(env).__new__(type(env)).__setstate__(state)
