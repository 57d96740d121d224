"""Hidden contexts: drawn from the reset's seed, never observed, noted in info and records."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from support import DIGITS_ID, SMALL, make, play, random_actions, trajectory

from asg_env.envs.context import DRAWN, draw_context
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import play as play_policy
from asg_env.evaluation.replay import replay
from asg_env.policies.schedules import SchedulePolicy
from asg_env.training.corruption import CONTRAST

CONTEXT_IDS = {"ASG-DigitsContext-v0": (0.1, 12), "ASG-VisDAContext-v0": (0.06, 10)}
LR = {"base_lr": ("log_uniform", 0.01, 1.0)}


@pytest.mark.parametrize("env_id", CONTEXT_IDS)
@pytest.mark.parametrize(("variant", "decades"), [("train", 3), ("test", 4), ("test:0", 4)])
def test_the_ids_draw_the_base_learning_rate_around_the_tasks_own(env_id, variant, decades):
    env = gym.make(env_id, variant=variant).unwrapped
    own, decisions = CONTEXT_IDS[env_id]
    assert env.config.base_lr == own
    assert env.decisions == decisions
    name, low, high = env.config.context["base_lr"]
    assert name == "log_uniform"
    assert np.log10(high / low) == pytest.approx(decades)
    assert np.sqrt(low * high) == pytest.approx(own)
    assert env.action_space == gym.spaces.MultiDiscrete([7] * len(env.group_names))


def test_a_draw_depends_on_the_seed_and_lies_in_its_range():
    context = {
        "base_lr": ("log_uniform", 0.01, 1.0),
        "batch_size": ("uniform", 8, 64),
        "momentum": ("choice", 0.0, 0.5, 0.9),
        "guidance": 0.2,
    }
    draws = [draw_context(context, seed) for seed in range(400)]
    assert draws == [draw_context(context, seed) for seed in range(400)]
    assert draw_context(context, 0, 1) != draws[0]
    logs = np.log10([d["base_lr"] for d in draws])
    assert logs.min() >= -2
    assert logs.max() <= 0
    assert logs.mean() == pytest.approx(-1, abs=0.1)  # uniform in the logarithm
    sizes = {d["batch_size"] for d in draws}
    assert min(sizes) >= 8
    assert max(sizes) <= 64
    assert all(isinstance(size, int) for size in sizes)
    assert {d["momentum"] for d in draws} == {0.0, 0.5, 0.9}
    assert {d["guidance"] for d in draws} == {0.2}


def test_the_first_observation_tells_nothing_and_later_ones_depend_on_it():
    slow = make("ASG-DigitsContext-v0", variant="train:0", context={"base_lr": 0.01})
    fast = make("ASG-DigitsContext-v0", variant="train:0", context={"base_lr": 0.1})
    first = [env.reset(seed=3)[0] for env in (slow, fast)]
    np.testing.assert_array_equal(*first)
    action = np.full(6, 3)
    assert (slow.step(action)[0] != fast.step(action)[0]).any()


def test_the_same_seed_plays_the_same_run_in_every_context():
    plain = make(variant="train", base_lr=0.05)
    drawn = make(variant="train", context={"base_lr": 0.05}, base_lr=1.0)
    actions = random_actions(plain, 3, seed=1)
    assert trajectory(plain, 5, actions) == trajectory(drawn, 5, actions)
    assert plain.reset(seed=5)[1]["context"] == {}
    assert drawn.reset(seed=5)[1]["context"] == {"base_lr": 0.05}


@pytest.mark.parametrize(
    "context",
    [
        LR,
        {"batch_size": ("choice", 8, 16)},
        {"budget": ("uniform", 10, 40)},
        {"guidance": ("uniform", 0.0, 1.0), "momentum": ("uniform", 0.0, 0.9)},
        {"label_noise": ("uniform", 0.1, 0.5)},
        {"shift_at": ("uniform", 0.2, 0.8)},
    ],
    ids=lambda context: next(iter(context)),
)
def test_every_kind_of_context_plays_forks_and_resumes(context, tmp_path):
    env = make(context=context, observation="relative", action="log")
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    actions = list(rng.integers(0, 7, (2, 6)))
    play(env, actions)
    env.save(tmp_path / "episode")
    fork, loaded = env.fork(), make(context=context, observation="relative", action="log")
    loaded.load(tmp_path / "episode")
    more = list(rng.integers(2, 5, (10, 6)))[: len(env._episode.ledger.windows) - 2]
    assert play(env, more) == play(fork, more) == play(loaded, more)
    assert env._episode.ledger.over
    assert loaded._episode.info["context"] == env._episode.info["context"]


def test_the_rewards_lambda_is_the_same_in_every_context():
    env = make(context={"guidance": 5.0}, guidance=0.3)
    _, info = env.reset(seed=0)
    losses = info["losses"]
    assert losses["phi"] == pytest.approx(losses["valid_ce"] + 0.3 * losses["valid_kl"])


def test_label_noise_changes_that_share_of_the_labels():
    env = make(label_noise=0.3)
    env.reset(seed=0)
    corrupt, train = env._episode.optimizee._corrupt, env.problem.splits["train"]
    batch = train.batch(torch.arange(len(train)))
    wrong = corrupt(batch, 1).labels != batch.labels
    assert wrong.float().mean() == pytest.approx(0.3, abs=0.05)
    assert (corrupt(batch, 1).labels < 5).all()
    assert (corrupt(batch, 99).labels == corrupt(batch, 1).labels).all()


def test_a_shift_takes_contrast_from_its_step_on():
    env = make(shift_at=0.5)
    env.reset(seed=0)
    corrupt = env._episode.optimizee._corrupt
    batch = env.problem.splits["train"].batch(torch.arange(8))
    assert torch.equal(corrupt(batch, 10).images, batch.images)
    after = corrupt(batch, 11).images
    torch.testing.assert_close(after.mean((1, 2, 3)), batch.images.mean((1, 2, 3)))
    torch.testing.assert_close(after.std((1, 2, 3)), CONTRAST * batch.images.std((1, 2, 3)))
    with pytest.raises(ValueError, match="teacher='online'"):
        make(shift_at=0.5, teacher="cached").reset(seed=0)


def test_what_diverges_at_once_is_drawn_anew():
    wild = {"base_lr": ("choice", 0.05, 1e30)}
    drawn = []
    env = make(context=wild, action="log", start_scale=1.0)
    for seed in range(6):
        drawn.append(env.reset(seed=seed)[1]["context"]["base_lr"])
    assert set(drawn) == {0.05}
    firsts = {draw_context(wild, s)["base_lr"] for s in range(20)}
    assert firsts == {0.05, 1e30}
    with pytest.raises(ValueError, match="draws in a row diverge at once"):
        make(context={"base_lr": 1e30}, action="log").reset(seed=0)
    frozen = make(context={"base_lr": 1e30}, action="discrete")  # can freeze everything
    assert frozen.reset(seed=0)[1]["context"] == {"base_lr": 1e30}


def test_a_record_notes_the_context_and_replays():
    setup = EnvSetup(DIGITS_ID, {**SMALL, "context": LR, "threads": 1})
    policy = SchedulePolicy("cosine")
    record = play_policy(policy, setup.updated(**policy.env_kwargs), 7)
    assert record.context == setup.make_unwrapped().reset(seed=7)[1]["context"]
    assert np.max(record.lr_scales) <= 1
    assert replay(record) == []


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (3, "expected a mapping"),
        ({"speed": 1}, f"'speed' is not drawn; known: {', '.join(DRAWN)}"),
        ({"base_lr": ("normal", 0, 1)}, r"base_lr=\('normal', 0, 1\): expected a number"),
        ({"base_lr": ("log_uniform", 0.0, 1.0)}, "low < high"),
        ({"base_lr": ("uniform", 2.0, 1.0)}, "low < high"),
        ({"base_lr": ("uniform", -1.0, 1.0)}, r"context: base_lr=-1.0: expected a number in \(0"),
        ({"batch_size": ("choice",)}, "expected a number"),
        ({"momentum": ("uniform", 0.5, 1.0)}, "context: momentum=1.0"),
        ({"base_lr": float("nan")}, "expected a number"),
        ({"budget": ("choice", 0, 10)}, "context: budget=0"),
        ({"batch_size": "many"}, "expected a number"),
    ],
)
def test_bad_contexts_are_refused(context, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(context=context)
