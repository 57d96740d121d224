"""A learned policy's rivals: their rules by hand, against their packages, and their files."""

import json

import numpy as np
import pytest
import torch
from support import make

from asg_env.control.actions import LogContinuous
from asg_env.control.observations import OBSERVATIONS, Observer
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.policies import load
from asg_env.policies.families import FAMILIES
from asg_env.policies.rivals import RIVALS, SEARCHED, AutoRGN, Greedy, RivalPolicy, candidate
from asg_env.policies.shuffled import ShuffledPolicy

GROUPS = ["conv", "layer", "head"]
LOOP = Observer(OBSERVATIONS["loop"], GROUPS).names
RGN = Observer(OBSERVATIONS["rgn"], GROUPS).names


def seen(names, **values):
    """An observation with these numbers, by signal, and zeros."""
    rows = {n: np.broadcast_to(v, 3 if f"{n}/conv" in names else 1) for n, v in values.items()}
    counts = dict.fromkeys(rows, 0)
    found = np.zeros(len(names), np.float32)
    for k, name in enumerate(names):
        signal = name.partition("/")[0]
        if signal in rows:
            found[k] = rows[signal][counts[signal]]
            counts[signal] += 1
    return found


def begun(name, names, **parameters):
    policy = load(name)
    policy.parameters |= parameters
    policy.begin(GROUPS, names, 0)
    return policy


def test_step_ratio_asks_for_what_the_last_step_lacked():
    policy = begun("step_ratio", LOOP, target=-2.0, fall=1.0, first=-0.7)
    assert policy.act(seen(LOOP, step_ratio=1.0)) == pytest.approx([-0.7] * 3)
    ratios = np.array([1e-3, 1e-2, 10**-1.5])
    logs = (np.log10(ratios) + 7) / 7
    quarter = seen(LOOP, progress=0.5, step_ratio=logs)  # half a cosine is at a half there
    assert policy.act(quarter) == pytest.approx(-2 + np.log10(0.5) - np.log10(ratios), abs=1e-5)
    late = seen(LOOP, progress=1.0, step_ratio=(-3 + 7) / 7)  # fallen by no more than `fall`
    assert policy.act(late) == pytest.approx([0.0] * 3, abs=1e-5)
    far = seen(LOOP, progress=0.5, step_ratio=(np.array([-6.0, -2.3, 0.0]) + 7) / 7)
    assert policy.act(far)[[0, 2]].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("factor", "patience"), [(0.5, 0), (0.8, 2)])
def test_greedy_is_the_greedylr_of_transformers(seed, factor, patience):
    optimization = pytest.importorskip("transformers.optimization")
    if not hasattr(optimization, "GreedyLR"):
        pytest.skip("this transformers has no GreedyLR")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LogContinuous.start)
    theirs = optimization.GreedyLR(
        optimizer, factor=factor, patience=patience, min_lr=1e-4, max_lr=100.0
    )
    rule = Greedy({"factor": factor, "patience": patience, "first": 0.0}, 3, LOOP)
    losses = np.exp(np.cumsum(np.random.default_rng(seed).normal(size=60)))
    rates = []
    for loss in losses:
        theirs.step(loss)
        rule.factor_after(loss)
        rates.append((optimizer.param_groups[0]["lr"], rule.scale))
    expected, found = np.array(rates).T
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert len(set(expected)) > 3


def test_greedy_follows_the_losses_that_it_observes():
    policy = begun("greedy_lr", LOOP, factor=0.5, patience=0, first=-0.5)
    assert policy.act(seen(LOOP)) == pytest.approx([-0.5] * 3)
    changes = (-0.2, -0.1, 0.25, -0.1, -0.3)  # below all before: the first two and the last
    found = [policy.act(seen(LOOP, progress=0.1, loss_change=c))[0] for c in changes]
    step = np.log10(2)
    assert found == pytest.approx([step, step, -step, -step, step], abs=1e-6)


def test_auto_rgn_is_relative_to_the_largest_gradient():
    norms = np.array([0.02, 0.2, 2.0])
    logs = (np.log10(norms) + 5) / 8
    rule = AutoRGN({"peak": 0.5, "fall": 0}, 3, RGN)
    assert rule.act(seen(RGN, progress=0.5, relative_gradient=logs)) == pytest.approx(
        0.5 * norms / 2.0, rel=1e-5
    )
    rule = AutoRGN({"peak": 0.5, "fall": 1}, 3, RGN)
    assert rule.act(seen(RGN, progress=0.5, relative_gradient=logs))[2] == pytest.approx(0.25)


def test_the_relative_gradient_is_gradient_norm_over_weight_norm():
    env = make(observation="rgn", action="continuous", variant="train:0")
    observation, _ = env.reset(seed=3)
    student, train = env.student, env.problem.splits["train"]
    optimizee = env._episode.optimizee
    window = optimizee.measure_window()
    groups = [group.parameters(student) for group in env.problem.groups]
    sizes = [float(torch.cat([p.detach().flatten() for p in g]).norm()) for g in groups]
    expected = (np.log10(window.grad_norm / np.array(sizes)) + 5) / 8
    assert env.observation_names[1:] == [f"relative_gradient/{g}" for g in env.group_names]
    assert observation[1:] == pytest.approx(expected, rel=1e-4)
    assert len(train) > 0


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_plays_an_episode_inside_the_action_space(name):
    policy = load(name)
    if name in ("ldog", "prodigy"):
        pytest.importorskip({"ldog": "dog", "prodigy": "prodigyplus"}[name])
    kwargs = {"budget": 6, "window": 2, **policy.env_kwargs}
    record = run_episode(make("ASG-DigitsContext-v0", **kwargs), policy, EnvSetup("x", kwargs), 3)
    assert len(record.actions) == 3
    assert record.error_type is None


@pytest.mark.parametrize("name", RIVALS)
def test_draws_stay_in_range_and_files_come_back(name, tmp_path):
    for seed in range(10):
        first, again = (
            SEARCHED.get(name, RIVALS[name]).draw(np.random.default_rng(seed), 3) for _ in "ab"
        )
        assert first == again == json.loads(json.dumps(first))
        for key, value in first.items():
            low, high, *_ = RIVALS[name].parameters[key]
            assert low <= value <= high
    policy = candidate(name, first, 3)
    policy.save(tmp_path / "policy.json")
    assert load(tmp_path) == policy
    assert load(tmp_path).digest == policy.digest
    assert load(tmp_path).env_kwargs == dict(RIVALS[name].env_kwargs)


def test_names_do_not_clash_and_all_that_has_parameters_is_searched():
    assert not set(RIVALS) & set(FAMILIES)
    assert set(SEARCHED) == set(FAMILIES) | {n for n, r in RIVALS.items() if r.parameters}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rival": "x"}, "rival='x': expected one of step_ratio"),
        ({"parameters": {"peak": 0.1}}, "auto_rgn has peak, fall"),
        ({"parameters": {"peak": 2.0, "fall": 1}}, r"peak is 2.0, expected a number in \[0.01, 1"),
        ({"zzz": 1}, "zzz"),
    ],
)
def test_a_damaged_rival_is_named(tmp_path, change, reason):
    content = {"kind": "rival", "rival": "auto_rgn", "parameters": {"peak": 0.1, "fall": 1}}
    (tmp_path / "policy.json").write_text(json.dumps({**content, "name": "mine", **change}))
    with pytest.raises(ValueError, match=reason):
        load(tmp_path)


def test_a_shuffled_policy_plays_what_its_inner_one_would_elsewhere():
    rng = np.random.default_rng(0)
    bank = [rng.random((4, len(LOOP))).astype(np.float32) for _ in range(3)]
    inner = RivalPolicy("step_ratio", RIVALS["step_ratio"].defaults(), "inner")
    policy = ShuffledPolicy(inner, bank, "shuffled")
    drawn = set()
    for seed in range(12):
        policy.begin(GROUPS, LOOP, seed)
        found = [policy.act(np.zeros(len(LOOP), np.float32)).tolist() for _ in range(5)]
        elsewhere = []
        for episode in bank:
            inner.begin(GROUPS, LOOP, seed)
            elsewhere.append([inner.act(row).tolist() for row in [*episode, episode[-1]]])
        assert found in elsewhere
        drawn.add(elsewhere.index(found))
    assert drawn == {0, 1, 2}
    assert policy.digest != ShuffledPolicy(inner, bank[:2], "shuffled").digest
    with pytest.raises(ValueError, match="at least one episode"):
        ShuffledPolicy(inner, [], "shuffled")
    with pytest.raises(ValueError, match=r"hold \d+ numbers, those of this environment 1"):
        policy.begin(GROUPS, ["progress"], 0)
