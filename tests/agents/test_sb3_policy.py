"""SB3's policies as policies: deployed as trained, in files without pickles."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sb3_support import SHORT, TINY
from support import make, random_actions

from agents import reinforce, sb3
from agents.sb3 import make_envs, make_model, make_plan, policy_of
from asg_env.policies import load
from asg_env.policies.recurrent import LearnedPolicy
from asg_env.policies.sb3 import SB3Policy, load_sb3_policy, save_sb3_policy
from asg_env.policies.sb3_algorithms import ALGORITHMS
from experiments import finetune


def seen_of(env, count=3):
    """Observations of an episode."""
    observation, _ = env.reset(seed=5)
    rows = [observation, *(env.step(a)[0] for a in random_actions(env, count - 1, 0))]
    return np.stack(rows)


def actions_of(policy, env, observations, seed=7):
    policy.begin(env.group_names, env.observation_names, seed)
    return [policy.act(observation) for observation in observations]


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "sampled"])
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_policy_is_deployed_as_it_was_trained(algo, greedy, trained):
    """Its files say all: what load reads acts as the trained object, and is an action."""
    args, policy = trained(algo)
    loaded = load(str(args.out), greedy)
    assert isinstance(loaded, SB3Policy)
    assert loaded.name == f"my_{algo}" + ("" if greedy else "_sampled")
    env = make(**{**SHORT, "budget": 40}, **loaded.env_kwargs)
    policy.greedy, seen = greedy, seen_of(env)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (actions_of(p, env, seen) for p in (policy, loaded))
    assert np.array_equal(first, second)
    assert all(action in env.action_space for action in second)
    other = actions_of(loaded, env, seen, seed=8)
    assert np.array_equal(second, other) == greedy  # sampled by begin's seed
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_nothing_that_is_written_is_a_pickle(algo, trained):
    args, _ = trained(algo)
    for path in (p for p in args.out.rglob("*") if p.is_file()):
        assert path.suffix in (".safetensors", ".json", ".jsonl") or "tfevents" in path.name
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x04", b"\x80\x05")


def test_the_statistics_are_the_trainings_and_stay_frozen(tmp_path):
    args = dataclasses.replace(TINY, out=tmp_path)
    algorithm, values = sb3.check(args)
    envs = make_envs(args, algorithm, values)
    model = make_model(args, algorithm, values, envs, make_plan(args, values, envs))
    model.learn(8)
    policy = policy_of(model, args, values)
    save_sb3_policy(policy, tmp_path)
    loaded = load_sb3_policy(tmp_path / "policy.safetensors")
    original = envs.get_original_obs()[0]
    expected = envs.normalize_obs(original)
    assert np.array_equal(loaded.normalise(original), expected)
    assert np.abs(expected - original).max() > 0.1
    mean = loaded.mean.copy()
    env = make(**SHORT)
    actions_of(loaded, env, seen_of(env, 2))
    assert np.array_equal(loaded.mean, mean)
    envs.close()


def test_the_memory_starts_afresh_with_each_episode(trained):
    args, _ = trained("recurrent_ppo")
    policy = load_sb3_policy(args.out / "policy.safetensors")
    env = make(**{**SHORT, "budget": 40})
    seen = seen_of(env)
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.mul_(5)
    policy.begin(env.group_names, env.observation_names, 0)
    states = []
    for observation in (*seen, None, seen[0]):
        if observation is None:
            policy.begin(env.group_names, env.observation_names, 0)
            continue
        policy.act(observation)
        states.append(policy._state[0].copy())
    assert np.array_equal(states[0], states[-1])
    assert not np.allclose(states[0], states[1])


def test_another_environment_is_refused(trained):
    _, policy = trained("ppo")
    names = list(policy.description.group_names), list(policy.description.observation_names)
    with pytest.raises(ValueError, match=r"trained on 6 layer groups .* the environment has 5"):
        policy.begin(names[0][:5], names[1], 0)
    with pytest.raises(ValueError, match=r"reads 35 numbers \(layerwise\), .* 11 observations"):
        policy.begin(names[0], make(observation="paper").observation_names, 0)


def test_finetune_takes_it(trained, tmp_path):
    args, _ = trained("sac")
    run = finetune.Args(policy=str(args.out), quick=True, out=tmp_path / "run")
    finetune.main(run)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["policy"], record["kwargs"]["action"]) == ("my_sac", "continuous")
    other = dataclasses.replace(run, out=tmp_path / "other", env_kwargs={"observation": "paper"})
    with pytest.raises(SystemExit, match="policy 'my_sac' needs 'layerwise'"):
        finetune.main(other)


def _rewrite(path, **change):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "policy.safetensors").write_bytes(b"\x80\x04 no tensors"),
        lambda f: _rewrite(f / "policy.json", algorithm="os:system"),
        lambda f: _rewrite(f / "policy.json", algorithm="a2c", network={"net_arch": [3]}),
        lambda f: _rewrite(f / "policy.json", colour="red"),
        lambda f: _rewrite(f / "policy.json", group_names=["a"]),
    ],
    ids=["pickle", "algorithm", "network", "unknown", "groups"],
)
def test_a_damaged_policy_is_a_clear_error(damage, trained, tmp_path):
    save_sb3_policy(trained("ppo")[1], tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match="is no policy of this version") as error:
        load(str(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_the_two_kinds_of_policies_are_told_apart(trained, tmp_path):
    args = dataclasses.replace(
        reinforce.Args(), env_kwargs=SHORT, workers="none", num_envs=2, updates=1, out=tmp_path
    )
    reinforce.train(args)
    assert isinstance(load(str(tmp_path)), LearnedPolicy)
    assert isinstance(load(str(trained("ppo")[0].out / "policy.json")), SB3Policy)
