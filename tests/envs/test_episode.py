import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from support import SMALL, constant, make, play, random_actions, started, student

from asg_env.envs import FinetuneEnv
from asg_env.envs.rewards import REWARDS
from asg_env.policies.schedules import SchedulePolicy
from asg_env.tasks.digits import DigitsTask

PLAIN = {"momentum": 0.0, "weight_decay": 0.0, "base_lr": 0.2, "budget": 1, "window": 1}


def weights(env):
    return {k: v.clone() for k, v in student(env).state_dict().items()}


def group_of(name):
    return name.removeprefix("backbone.").split(".")[0]


def rewards_and_infos(env, actions, seed=0):
    infos, total = [env.reset(seed=seed)[1]], 0.0
    for action in actions:
        _, reward, *_, info = env.step(action)
        total += reward
        infos.append(info)
    return total, infos


def distance(before, after):
    return sum(float((after[k] - before[k]).double().square().sum()) for k in before) ** 0.5


@pytest.mark.parametrize("frozen", ["conv1", "bn1", "layer1", "layer2", "layer3", "fc_new"])
def test_a_group_at_scale_zero_keeps_its_bits_with_sgd(frozen):
    env = started()
    env.step(constant(env, 1.0))  # momentum is there
    before, action = weights(env), constant(env, 1.0)
    action[env.group_names.index(frozen)] = 0
    env.step(action)
    for name, after in weights(env).items():
        if group_of(name) == frozen:
            assert torch.equal(before[name], after)
        elif name.endswith("weight") and group_of(name) != "fc_old":
            assert not torch.equal(before[name], after)


def test_a_group_at_scale_zero_coasts_with_official_sgd():
    env = started(optimizer="official_sgd")
    env.step(constant(env, 1.0))
    before = weights(env)
    env.step(constant(env, 0.0))
    assert not torch.equal(before["backbone.conv1.weight"], weights(env)["backbone.conv1.weight"])


def test_scale_zero_from_the_start_changes_nothing_and_earns_nothing():
    env = started()
    before = weights(env)
    _, reward, *_, info = env.step(constant(env, 0.0))
    assert all(torch.equal(before[name], after) for name, after in weights(env).items())
    assert reward == 0.0
    assert not info["lr"].any()


def test_the_gradient_is_clipped_to_its_norm_and_observed_unclipped():
    moved, seen = {}, {}
    for clip_norm in (0.01, 0.02, float("inf")):
        env = started(clip_norm=clip_norm, **PLAIN)
        before = weights(env)
        seen[clip_norm] = env.step(constant(env, 1.0))[0]
        moved[clip_norm] = distance(before, weights(env))
    assert moved[0.01] == pytest.approx(0.2 * 0.01, rel=1e-3)
    assert moved[0.02] == pytest.approx(0.2 * 0.02, rel=1e-3)
    assert moved[float("inf")] > 0.2 * 0.02
    gradients = [name.startswith("grad_norm") for name in env.observation_names]
    assert np.array_equal(seen[0.01][gradients], seen[float("inf")][gradients])


def test_the_learning_rate_is_scale_times_base():
    env = started(base_lr=0.4)
    *_, info = env.step(np.array([0, 1, 2, 5, 9, 10]))
    assert info["lr"] == pytest.approx(0.4 * np.array([0, 0.1, 0.2, 0.5, 0.9, 1.0]))


def test_the_teacher_sees_each_image_once():
    env = FinetuneEnv(DigitsTask(), **SMALL)  # a new task: nothing is remembered yet
    teacher, seen = env.problem.network, []

    def count(module, inputs, _output):
        if module is teacher:  # students are copies and bring the hook along
            seen.append(len(inputs[0]))

    teacher.register_forward_hook(count)
    for seed in range(2):
        env.reset(seed=seed)
        play(env, random_actions(env, 4, seed))
    splits = env.problem.splits
    assert sum(seen) == len(splits["train"]) + len(splits["outer_valid"])


def test_an_episode_trains_only_the_layer_groups():
    env = started(window=10)
    network, before = env.problem.network, weights(env)
    teacher = {k: v.clone() for k, v in network.state_dict().items()}
    play(env, [constant(env, 1.0)] * 2)
    frozen = [n for n in before if "running" in n or "num_batches" in n or n.startswith("fc_old")]
    assert len(frozen) > 10
    assert all(torch.equal(before[name], weights(env)[name]) for name in frozen)
    assert all(torch.equal(teacher[k], v) for k, v in network.state_dict().items())
    assert not any(module.training for module in student(env).modules())


def test_measuring_at_reset_neither_trains_nor_draws_a_batch():
    env = make()
    observation, info = env.reset(seed=0)
    assert info["steps"] == info["decision"] == 0
    assert set(info["rewards"].values()) == {0.0}
    named = dict(zip(env.observation_names, observation, strict=True))
    assert all(named[f"drift/{g}"] == named[f"update_ratio/{g}"] == 0 for g in env.group_names)
    assert all(named[f"lr_scale/{g}"] == 1 for g in env.group_names)
    assert env._episode.optimizee.order.position == 0


@pytest.mark.parametrize("guidance", [0.0, 0.3])
def test_returns_telescope(guidance):
    env = make(guidance=guidance)
    total, infos = rewards_and_infos(env, random_actions(env, 4, seed=0))
    phi = [info["losses"]["phi"] for info in infos]
    train = [i["losses"]["train_ce"] + guidance * i["losses"]["train_kl"] for i in infos]
    sums = {k: sum(info["rewards"][k] for info in infos[1:]) for k in infos[1]["rewards"]}
    assert total == pytest.approx(phi[0] - phi[-1])
    assert sums["proxy_valid"] == sums["proxy_valid_terminal"] == pytest.approx(total)
    assert sums["train_loss"] == pytest.approx(train[0] - train[-1])
    assert sums["proxy_valid_level"] == pytest.approx(-sum(phi[1:]))
    for info in infos:
        losses = info["losses"]
        assert losses["phi"] == pytest.approx(losses["valid_ce"] + guidance * losses["valid_kl"])


@pytest.mark.parametrize("reward", [name for name in REWARDS if not REWARDS[name].oracle])
def test_the_reward_is_the_chosen_one_and_all_are_told(reward):
    env = make(reward=reward)
    total, infos = rewards_and_infos(env, random_actions(env, 4, seed=0))
    assert set(infos[-1]["rewards"]) == {n for n in REWARDS if not REWARDS[n].oracle}
    assert total == pytest.approx(sum(info["rewards"][reward] for info in infos[1:]))


def test_the_oracle_warns_and_returns_the_gain_in_target_accuracy():
    with pytest.warns(UserWarning, match="oracle"):
        env = make(reward="target_accuracy_oracle")
    env.reset(seed=0)
    start = env.evaluate("test")["accuracy"]
    total = sum(env.step(constant(env, 1.0))[1] for _ in range(4))
    assert total == pytest.approx(env.evaluate("test")["accuracy"] - start)


def test_reward_guidance_weighs_the_reward_but_not_the_training():
    one, other = started(reward_guidance=0.0), started(reward_guidance=2.0)
    infos = [env.step(constant(env, 1.0))[-1]["losses"] for env in (one, other)]
    assert infos[0]["valid_kl"] == infos[1]["valid_kl"]
    assert infos[0]["phi"] == infos[0]["valid_ce"]
    assert infos[1]["phi"] == pytest.approx(infos[1]["valid_ce"] + 2 * infos[1]["valid_kl"])


@pytest.mark.parametrize(("limit", "decisions"), [(1, 1), (5, 1), (6, 2), (15, 3)])
def test_a_step_limit_truncates_and_pays_the_terminal_reward(limit, decisions):
    env = started(step_limit=limit, reward="proxy_valid_terminal")
    start, rewards = env._episode.ledger.phi_start, []
    for _ in range(decisions):
        _, reward, terminated, truncated, info = env.step(constant(env, 1.0))
        rewards.append(reward)
    assert (terminated, truncated) == (False, True)
    assert rewards == [0.0] * (decisions - 1) + [start - info["losses"]["phi"]]


def test_the_budget_terminates_even_where_a_limit_would_truncate():
    env = started(step_limit=20)
    ends = [env.step(constant(env, 1.0))[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(True, False)]


def test_the_first_paper_window_runs_inside_reset():
    env = make(window="paper", budget=75)
    observation, info = env.reset(seed=0)
    assert info["steps"] == 10
    steps, terminated = [10], False
    while not terminated:
        observation, _, terminated, _, info = env.step(constant(env, 1.0))
        steps.append(info["steps"])
    assert steps == [10, 20, 40, 50, 60, 72, 75]  # an epoch has 50 batches
    assert observation[env.observation_names.index("progress")] == 1.0


def test_evaluation_reports_shares_and_changes_nothing():
    env, untouched = started(), started()
    result = env.evaluate()
    assert set(result) == {"accuracy", "ce", "retention"}
    assert 0 <= result["accuracy"] <= 1
    assert result["retention"] > 0.98
    actions = random_actions(env, 4, seed=0)
    assert play(env, actions) == play(untouched, actions)


def test_fine_tuning_learns_the_task():
    env = started(budget=100, window=100, base_lr=0.02)
    assert env.evaluate("test")["accuracy"] < 0.3
    play(env, [constant(env, 1.0)])
    assert env.evaluate("test")["accuracy"] > 0.4


@pytest.mark.parametrize("optimizer", ["sgd", "official_sgd"])
def test_a_frozen_backbone_stays_frozen_under_paper_windows(optimizer):
    """The first window used to run at scale 1 for all, and official_sgd then coasted on."""
    policy = SchedulePolicy("frozen_backbone_warmup_poly")
    env = make(window="paper", budget=40, optimizer=optimizer, **policy.env_kwargs)
    observation, info = env.reset(seed=0)
    assert info["steps"] == 0
    policy.begin(env.group_names, env.observation_names, 0)
    before = {k: v.clone() for k, v in student(env).backbone.state_dict().items()}
    done = False
    while not done:
        observation, _, done, _, info = env.step(policy.act(observation))
    assert info["steps"] == 40
    after = student(env).backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_windows_differ_by_who_decides_the_first_only():
    first, second = (make(window="paper", budget=75, decide_first=d) for d in (True, False))
    first.reset(seed=0)
    second.reset(seed=0)
    first.step(constant(first, 1.0))
    assert first._episode.ledger.windows == [
        second._episode.ledger.steps,
        *second._episode.ledger.windows,
    ]
    one, other = (student(env).state_dict() for env in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_similarity_says_what_moved():
    env = make(budget=4, window=2, action="continuous")
    with pytest.raises(ResetNeeded, match="before similarity"):
        env.similarity()
    env.reset(seed=0)
    start = env.similarity()
    assert list(start["cka"]) == list(start["distance"]) == env.group_names
    assert set(start["distance"].values()) == {0}
    assert list(start["cka"].values()) == pytest.approx([1] * 6)
    env.step(np.array([0, 0, 0, 1, 1, 1], dtype=np.float32))
    now = env.similarity("inner_valid", images=64)
    assert [v > 0 for v in now["distance"].values()] == [False] * 3 + [True] * 3
    assert list(now["cka"].values())[:3] == pytest.approx([1] * 3)
    assert all(0 < v < 1 for v in list(now["cka"].values())[3:])
    with pytest.raises(ValueError, match="unknown split 'real'"):
        env.similarity("real")
    with pytest.raises(ValueError, match="images=1: expected >= 2"):
        env.similarity(images=1)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2.5, TypeError),
        (float("nan"), TypeError),
        (True, TypeError),
    ],
)
def test_a_number_of_images_is_whole_and_enough(images, error):
    env = started()
    for measure in (env.proxy_losses, env.similarity):
        with pytest.raises(error, match=f"images={images}: expected"):
            measure("outer_valid", images)
    assert env.proxy_losses("outer_valid", np.int64(8)) == env.proxy_losses("outer_valid", 8)
