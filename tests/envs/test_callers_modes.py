"""A trajectory does not depend on what the caller has switched on around it."""

import json

import pytest
import torch
from modes_support import MODES, all_at_once, state
from support import make, play, random_actions, trajectory

from asg_env.deploy import load_student, save_student
from asg_env.envs import FinetuneEnv
from asg_env.methods.regularizers import REGULARIZERS
from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    load_policy,
    save_policy,
)
from asg_env.tasks import digits, fonts
from asg_env.tasks.render import solids

FEW = ("autocast", "numpy_raises", "deterministic", "warnings_are_errors")
SHORT = {"budget": 4, "window": 2}
IDS = ("ASG-Digits-v0", "ASG-VisDA-v0", "ASG-ImageFolder-v0")
KINDS = (
    *({"regularizer": name} for name in REGULARIZERS),
    {"precision": "bf16"},
    {"teacher": "online", "precision": "bf16", "regularizer": "feature_l2"},
    {"observation": "paper", "action": "continuous", "optimizer": "official_sgd"},
    {"variant": "train", "clip_norm": float("inf"), "channels_last": True},
)


def everything(env, path=None):
    """A trajectory, and what else can be asked of an environment."""
    actions = random_actions(env, 2, 0)
    frames = trajectory(env, 3, actions[:1])
    fork = env.fork()
    if path:
        env.save(path)
        env.load(path)
    frames += play(env, actions[1:])
    assert play(fork, actions[1:]) == frames[2:]
    asked = env.evaluate("test"), env.similarity("test", 16)
    losses = [float(value) for value in env.proxy_losses("outer_valid", 20)]
    return frames, json.dumps([asked, losses]), env.render()


@pytest.mark.parametrize("env_id", IDS)
def test_a_trajectory_is_the_same_under_every_mode(env_id, id_arguments, tmp_path):
    arguments = {**id_arguments[env_id], "render_mode": "ansi", **SHORT}
    expected = everything(make(env_id, **arguments), tmp_path / "plain")
    modes = MODES if env_id == IDS[0] else {name: MODES[name] for name in FEW}
    for name, mode in {**modes, "all at once": all_at_once}.items():
        with mode():
            before = state()
            assert everything(make(env_id, **arguments), tmp_path / name) == expected, name
            assert state() == before, name


@pytest.mark.parametrize("kwargs", KINDS, ids=lambda k: "-".join(map(str, k.values())))
def test_so_is_one_of_every_kind(kwargs):
    kwargs = {**kwargs, "render_mode": "ansi", **SHORT}
    expected = everything(make(**kwargs))
    with all_at_once():
        assert everything(make(**kwargs)) == expected


@pytest.mark.parametrize("mode", ["inference_mode", "autocast", "float64", "default_device"])
def test_what_is_loaded_under_a_mode_serves_without_it(mode):
    """A problem that was first loaded under one used to be spoilt for the whole process."""
    expected = everything(make(render_mode="ansi", regularizer="l2_sp", **SHORT))
    for cached in (fonts.glyph, digits.load_handwriting, solids.pixel_grid):
        cached.cache_clear()
    task = digits.DigitsTask()
    with MODES[mode]():
        task.load(None)
        env = FinetuneEnv(task, "ansi", regularizer="l2_sp", **SHORT)
        env.reset(seed=1)
        env.evaluate("train")
    assert everything(env) == expected


@pytest.mark.parametrize("inside", ["no_grad", "inference_mode", "float64", "autocast"])
def test_a_fork_made_under_a_mode_goes_on_without_it(inside, tmp_path):
    env = make(regularizer="si")
    actions = random_actions(env, 4, 0)
    expected = trajectory(env, 0, actions)[3:]
    trajectory(env, 0, actions[:2])
    env.save(tmp_path / "saved")
    loaded = make(regularizer="si")
    with MODES[inside]():
        fork = env.fork()
        loaded.load(tmp_path / "saved")
    assert play(fork, actions[2:]) == play(loaded, actions[2:]) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("greedy", [True, False])
def test_a_policy_acts_the_same_under_every_mode(mode, greedy, tmp_path):
    env = make(render_mode=None)
    observations = [env.reset(seed=0)[0], env.step([1] * 6)[0]]
    args = PolicyArgs("layerwise", 5, 6, heads="shared", scale="ordinal")
    path = save_policy(RecurrentPolicy(args, seed=4), tmp_path)

    def acted():
        policy = LearnedPolicy(load_policy(path), greedy)
        policy.begin(env.group_names, env.observation_names, 0)
        logits = [policy.logits(o).tolist() for o in observations]
        return logits, [policy.act(o).tolist() for o in observations]

    expected = acted()
    with MODES[mode]():
        assert acted() == expected


@pytest.mark.parametrize("mode", ["inference_mode", "float64", "default_device"])
def test_a_student_is_loaded_the_same_under_a_mode(mode, tmp_path):
    env = make()
    env.reset(seed=0)
    with MODES[mode]():
        save_student(tmp_path / "student", env, "ASG-Digits-v0", {}, {})
        model = load_student(tmp_path / "student")
    image = torch.rand(2, 1, 8, 8)
    model(image).sum().backward()  # it can be trained further
    torch.testing.assert_close(model(image), env.student(image).new, rtol=0, atol=0)
