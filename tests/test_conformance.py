"""Our code against the official implementation's figures, and the script that compares them."""

import dataclasses
import io
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from agents.reinforce import PRESETS
from asg_env.learning.reinforce import (
    Learner,
    Rollout,
    discounted,
    evaluate_actions,
    reinforce_loss,
)
from asg_env.policies.recurrent import (
    LearnedPolicy,
    PolicyArgs,
    RecurrentPolicy,
    load_official_policy,
    load_policy,
    save_policy,
)
from asg_env.seeding import cpu_threads
from experiments import conformance
from experiments.conformance import CHECKS, INPUTS

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data"
POLICY = DATA / "official_policy.pth"
VECTORS = json.loads((DATA / "official_vectors.json").read_text())
NAMES = [f"g{i}" for i in range(7)]


@pytest.fixture(autouse=True)
def one_thread():
    with cpu_threads(1):
        yield


def close(computed, key):
    np.testing.assert_allclose(computed, VECTORS[key], rtol=0, atol=1e-5)


@pytest.fixture
def policy():
    return load_official_policy(POLICY)


@pytest.fixture
def rollout():
    return rollout_of(VECTORS)


def rollout_of(vectors):
    actions = torch.tensor(vectors["actions"])[:, None]
    seen = torch.tensor(vectors["obs"])[: len(actions), None]
    rewards = torch.tensor(vectors["rewards"])[:, None]
    return Rollout(seen, actions, rewards, torch.ones_like(rewards))


# -- each key, by the functions that the agents use ------------------------------------------------


def test_acting_starts_from_a_zero_state_each_time(policy):
    deployed = LearnedPolicy(policy)
    deployed.begin(NAMES, [], 0)
    seen = np.array(VECTORS["obs"], dtype=np.float32)[:6]
    logits = [deployed.logits(observation).log_softmax(-1).numpy() for observation in seen]
    close(logits, "act_logits")
    carried = np.array(VECTORS["unrolled_logits"])
    assert np.abs(logits[0] - carried[0]).max() < 1e-5  # the first decision knows no past
    assert np.abs(np.array(logits) - carried)[1:].max() > 0.01


def test_a_loaded_policy_samples_from_these_logits(policy):
    deployed = LearnedPolicy(policy)
    assert not deployed.greedy
    assert deployed.env_kwargs == {"observation": "paper", "action": "discrete"}
    deployed.begin(NAMES, [], 0)
    observation = np.array(VECTORS["obs"], dtype=np.float32)[0]
    drawn = np.stack([deployed.act(observation) for _ in range(1000)])
    expected = np.exp(VECTORS["act_logits"][0])
    for g in range(7):
        frequency = np.bincount(drawn[:, g], minlength=11) / len(drawn)
        assert np.abs(frequency - expected[g]).max() < 0.08  # five standard deviations


@pytest.mark.parametrize("key", ["act_values", "unrolled_values"])
def test_the_critic_reads_each_groups_inputs_one_after_the_other(policy, rollout, key):
    seen = rollout.observations
    seen = seen.transpose(0, 1) if key == "act_values" else seen
    values = policy.values(seen, policy.initial_state(seen.shape[1])).detach().flatten()
    close(values, key)
    assert policy.critic.weight.shape == (1, 707)
    by_number = policy.critic.weight.data.view(7, 101).T.flatten()  # the other order
    policy.critic.weight.data.copy_(by_number[None])
    others = policy.values(seen, policy.initial_state(seen.shape[1])).detach().flatten()
    assert np.abs(others.numpy() - VECTORS[key]).max() > 0.01


def test_evaluating_actions_unrolls_the_lstm(policy, rollout):
    evaluation = evaluate_actions(policy, rollout, policy.initial_state(1))
    close(evaluation.log_probs.detach()[:, 0], "unrolled_logits")
    close(evaluation.chosen.detach()[:, 0], "unrolled_log_prob")
    close(float(evaluation.entropy.detach().mean()), "unrolled_entropy_mean")


def test_returns(rollout):
    gamma = PRESETS["paper"].gamma
    close([*discounted(rollout.rewards, gamma)[:, 0], 0.0], "returns_gamma0")


def test_the_paper_presets_update_is_the_official_one(policy, rollout):
    before = policy.heads[0][0].bias.detach().clone()
    learner = Learner(policy, dataclasses.replace(PRESETS["paper"], lr=VECTORS["lr_meta"]))
    result = learner.learn(rollout, policy.initial_state(1))
    close(float(result.loss), "reinforce_loss")
    close(float(result.entropy), "unrolled_entropy_mean")
    after = policy.heads[0][0].bias.detach()
    close(after, "after_update_head0_bias")
    assert (after - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change", [{"per_step_credit": True}, {"gamma": 1.0}, {"entropy": 0.1}, {"normalise": True}]
)
def test_each_switch_of_the_paper_presets_loss_counts(policy, rollout, change):
    args = dataclasses.replace(PRESETS["paper"], **change)
    loss, _ = reinforce_loss(policy, rollout, policy.initial_state(1), args, args.entropy)
    assert abs(float(loss.detach()) - VECTORS["reinforce_loss"]) > 1e-3


@pytest.mark.parametrize("change", [{"optimizer": "adam"}, {"clip": 0.01}])
def test_each_switch_of_the_paper_presets_step_counts(policy, rollout, change):
    args = dataclasses.replace(PRESETS["paper"], lr=VECTORS["lr_meta"], **change)
    Learner(policy, args).learn(rollout, policy.initial_state(1))
    after = policy.heads[0][0].bias.detach().numpy()
    assert np.abs(after - VECTORS["after_update_head0_bias"]).max() > 3e-5


@pytest.mark.parametrize("key", CHECKS)
def test_every_key_conforms(policy, key):
    row = conformance.check(key, conformance.Case(VECTORS, policy))
    assert row.error <= 1e-5, row
    assert (row.passed, row.note) == (True, "")


def test_every_key_of_the_file_is_an_input_or_compared():
    assert set(VECTORS) == {*CHECKS, *INPUTS}
    assert conformance.TOLERANCE == 1e-5


# -- a second set, by hand in float64 --------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, i, inputs):
    """Outputs (T, hidden) of the published LSTM i from a zero state; gates are i, f, g, o."""
    w = {k: weights[f"net.state_encoder.{i}.rnn.{k}_l0"] for k in ("weight_ih", "weight_hh")}
    bias = sum(weights[f"net.state_encoder.{i}.rnn.bias_{k}_l0"] for k in ("ih", "hh"))
    h = c = np.zeros(w["weight_hh"].shape[1])
    out = []
    for x in inputs:
        gates = np.split(w["weight_ih"][:, 0] * x + w["weight_hh"] @ h + bias, 4)
        c = sigmoid(gates[1]) * c + sigmoid(gates[0]) * np.tanh(gates[2])
        h = sigmoid(gates[3]) * np.tanh(c)
        out.append(h)
    return np.array(out)


def by_hand(weights, seen, groups):
    """Log-probabilities (T, G, levels) and values (T,) of an unrolled sequence."""
    memory = np.concatenate([lstm(weights, i, seen[:, i]) for i in range(5)], 1)
    inputs = [np.concatenate([memory, seen[:, 5 + g : 6 + g]], 1) for g in range(groups)]
    heads = "action_distribution.linear"
    logits = np.stack(
        [
            x @ weights[f"{heads}.{g}.weight"].T + weights[f"{heads}.{g}.bias"]
            for g, x in enumerate(inputs)
        ],
        1,
    )
    values = np.concatenate(inputs, 1) @ weights["critic.fc.weight"][0] + weights["critic.fc.bias"]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), values


def published(rng, groups, levels, hidden):
    """Random weights (float32 values) in the published layout."""
    shapes = {
        f"net.state_encoder.{i}.rnn.{kind}": (4 * hidden, *rest)
        for i in range(5)
        for kind, rest in (
            *(("weight_ih_l0", (1,)), ("weight_hh_l0", (hidden,))),
            *(("bias_ih_l0", ()), ("bias_hh_l0", ())),
        )
    }
    width = 5 * hidden + 1
    for g in range(groups):
        shapes[f"action_distribution.linear.{g}.weight"] = (levels, width)
        shapes[f"action_distribution.linear.{g}.bias"] = (levels,)
    shapes |= {"critic.fc.weight": (1, groups * width), "critic.fc.bias": (1,)}
    return {k: rng.normal(0, 0.3, s).astype(np.float32).astype(float) for k, s in shapes.items()}


def windows_by_hand(epoch, epochs, shortest):
    rows, cur, at = [], 0, 0
    while at < epochs:
        length = min(max(shortest, cur + at * epoch // 20), epoch - cur)
        rows.append([at, length])
        at, cur = (at + 1, 0) if cur + length == epoch else (at, cur + length)
    return rows


def sgd_by_hand(rng, steps, size):
    given = {
        "start": rng.normal(size=size).tolist(),
        "lrs": [*rng.uniform(0, 0.5, steps - 1).tolist(), 0.0],
        "grads": rng.normal(size=(steps, size)).tolist(),
        "momentum": 0.8,
        "weight_decay": 0.01,
    }
    w, v, path = np.array(given["start"]), np.zeros(size), []
    for lr, gradient in zip(given["lrs"], given["grads"], strict=True):
        v = 0.8 * v + lr * (np.array(gradient) + 0.01 * w)
        w = w - v
        path.append(w.tolist())
    return given | {"weights": path}


def guidance_by_hand(rng, batch, old, new):
    teacher, student = rng.normal(size=(2, batch, old))
    logits, labels = rng.normal(size=(batch, new)), rng.integers(0, new, batch)
    log_t, log_s, log_n = (
        x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (teacher, student, logits)
    )
    return {
        "teacher_logits": teacher.tolist(),
        "student_old_logits": student.tolist(),
        "new_logits": logits.tolist(),
        "labels": labels.tolist(),
        "ce": -log_n[np.arange(batch), labels].mean(),
        "kl": (np.exp(log_t) * (log_t - log_s)).sum() / batch,
    }


def second_set(seed, steps, groups, levels, hidden):
    """Weights and figures of the official layout, from the formulas, in float64."""
    rng = np.random.default_rng(seed)
    weights = published(rng, groups, levels, hidden)
    seen = rng.normal(size=(steps + 1, 5 + groups)).astype(np.float32).astype(float)
    actions, rewards = rng.integers(0, levels, (steps, groups)), rng.normal(size=steps)
    unrolled, values = by_hand(weights, seen[:-1], groups)
    alone = [by_hand(weights, row[None], groups) for row in seen[:-1]]
    log_prob = np.take_along_axis(unrolled, actions[..., None], -1)[..., 0].sum(1)
    lr, bias = 0.05, weights["action_distribution.linear.0.bias"]
    one_hot = np.eye(levels)[actions[:, 0]]
    gradient = -rewards.mean() * (one_hot - np.exp(unrolled[:, 0])).mean(0)
    at = (0, 3, 60, 100, 450, 860)
    figures = {
        "obs": seen,
        "act_logits": np.stack([logits[0] for logits, _ in alone]),
        "act_values": np.array([value[0] for _, value in alone]),
        "actions": actions,
        "unrolled_log_prob": log_prob,
        "unrolled_values": values,
        "unrolled_entropy_mean": -(np.exp(unrolled) * unrolled).sum(-1).mean(),
        "unrolled_logits": unrolled,
        "returns_gamma0": np.array([*rewards, 0.0]),
        "rewards": rewards,
        "reinforce_loss": -rewards.mean() * log_prob.mean(),
        "after_update_head0_bias": bias - lr * gradient,
    }
    return weights, {k: np.asarray(v).tolist() for k, v in figures.items()} | {
        "lr_meta": lr,
        "sgd": sgd_by_hand(rng, 9, 4),
        "lr_warm_poly": {
            str(i): min(0.01 + 0.99 * (i / 100) ** 2, 1) * (1 - min(i / 1000, 0.8)) ** 0.9
            for i in at
        },
        "windows": {
            f"any_{e}x{n}_min{m}": windows_by_hand(e, n, m) for e, n, m in ((83, 6, 5), (12, 2, 7))
        },
        "guidance": guidance_by_hand(rng, 5, 6, 3),
    }


def write_set(folder, weights, vectors):
    torch.save({k: torch.tensor(v).float() for k, v in weights.items()}, folder / "p.pth")
    (folder / "v.json").write_text(json.dumps(vectors))
    return conformance.Args(folder / "p.pth", folder / "v.json", folder / "out")


SETS = [(1, 9, 5, 7, 6), (2, 1, 1, 11, 20), (3, 14, 9, 4, 3)]


@pytest.mark.parametrize("numbers", SETS)
def test_a_second_set_conforms(numbers, tmp_path, capsys):
    """Other seeds, decisions, groups, levels and hidden sizes."""
    assert conformance.main(write_set(tmp_path, *second_set(*numbers))) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "out/conformance.json").read_text())["rows"]
    assert [row["key"] for row in rows] == list(CHECKS)
    for row in rows:
        assert row["passed"]
        assert 0 <= row["error"] <= 1e-5
        assert f"| {row['key']} | {row['error']:.1e} | ok |" in printed
    assert (tmp_path / "out/conformance.md").read_text() in printed


def places(entry):
    """A way to each number of an entry, outermost first."""
    if isinstance(entry, (dict, list)):
        items = entry.items() if isinstance(entry, dict) else enumerate(entry)
        return [[key, *rest] for key, value in items for rest in places(value)]
    return [[]]


def perturbed(vectors, key, amount, where):
    """The same figures, one number of them changed."""
    changed = json.loads(json.dumps(vectors))
    *way, last = [key, *where]
    entry = changed
    for step in way:
        entry = entry[step]
    entry[last] += amount
    return changed


RESULTS = {"sgd": [["weights"]], "guidance": [["ce"], ["kl"]]}
"""Where an entry holds inputs too: the results."""


@pytest.mark.parametrize("key", CHECKS)
def test_a_wrong_figure_is_named(key, tmp_path, capsys):
    """First, last, whichever: by twice the tolerance it fails, by a tenth it does not."""
    weights, vectors = second_set(*SETS[0])
    ways = places(vectors[key])
    ways = [w for w in ways if any(w[: len(r)] == r for r in RESULTS.get(key, [[]]))]
    for way in (ways[0], ways[len(ways) // 2], ways[-1]):
        args = write_set(tmp_path, weights, perturbed(vectors, key, 2e-5, way))
        assert conformance.main(args) == 1
        assert f"12 of 13 keys conform; FAILED: {key}\n" in capsys.readouterr().out
    args = write_set(tmp_path, weights, perturbed(vectors, key, 1e-6, ways[0]))
    assert conformance.main(args) == 0


@pytest.mark.parametrize("tampered", [{"obs": 0}, {"rewards": 0}, {"lr_meta": 0}])
def test_a_wrong_input_is_noticed(tampered, tmp_path):
    (key,) = tampered
    weights, vectors = second_set(*SETS[0])
    args = write_set(tmp_path, weights, perturbed(vectors, key, 0.1, places(vectors[key])[0]))
    assert conformance.main(args) >= 1


@pytest.mark.parametrize("key", [*CHECKS, *INPUTS])
def test_a_missing_key_fails(key, tmp_path, capsys):
    weights, vectors = second_set(*SETS[0])
    del vectors[key]
    assert conformance.main(write_set(tmp_path, weights, vectors)) >= 1
    assert f"| {key} | inf | FAILED missing from the file |" in capsys.readouterr().out


def test_an_unknown_key_fails(tmp_path, capsys):
    weights, vectors = second_set(*SETS[0])
    assert conformance.main(write_set(tmp_path, weights, vectors | {"act_logit": [1.0]})) == 1
    assert "| act_logit | inf | FAILED unknown key; known: obs, " in capsys.readouterr().out


@pytest.mark.parametrize("key", [*CHECKS, *INPUTS])
@pytest.mark.parametrize("entry", [None, [], "x", {}, math.nan, [[1.0], [2.0, 3.0]]], ids=repr)
def test_an_entry_of_another_kind_fails(key, entry, tmp_path, capsys):
    weights, vectors = second_set(*SETS[0])
    assert conformance.main(write_set(tmp_path, weights, vectors | {key: entry})) >= 1
    assert "FAILED" in capsys.readouterr().out
    json.loads((tmp_path / "out/conformance.json").read_text(), parse_constant=pytest.fail)


def test_a_policy_that_carries_its_state_does_not_conform(policy, tmp_path, capsys):
    """Our own files work too, and the quirk is what the figures are about."""
    vectors = DATA / "official_vectors.json"
    save_policy(policy, tmp_path)
    assert conformance.main(conformance.Args(tmp_path, vectors)) == 0
    carrying = RecurrentPolicy(dataclasses.replace(policy.args, carry_state=True))
    carrying.load_state_dict(policy.state_dict())
    save_policy(carrying, tmp_path)
    assert conformance.main(conformance.Args(tmp_path, vectors)) == 1
    assert "FAILED: act_logits\n" in capsys.readouterr().out


def test_a_policy_without_a_critic_fails_only_there(policy, tmp_path, capsys):
    blind = RecurrentPolicy(dataclasses.replace(policy.args, critic=False))
    blind.load_state_dict(policy.state_dict(), strict=False)
    save_policy(blind, tmp_path)
    args = conformance.Args(tmp_path, DATA / "official_vectors.json")
    assert conformance.main(args) == 2
    printed = capsys.readouterr().out
    assert "FAILED: act_values, unrolled_values\n" in printed
    assert "has no critic" in printed


def test_comparing_leaves_the_policy_alone(policy):
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    conformance.check_all(conformance.Case(VECTORS, policy))
    for name, value in policy.state_dict().items():
        assert torch.equal(value, before[name])


def script(*arguments):
    command = [sys.executable, "experiments/conformance.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_script_and_its_exit_codes(tmp_path):
    done = script()
    assert done.returncode == 0, done.stderr
    assert "13 of 13 keys conform" in done.stdout
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(perturbed(VECTORS, "act_values", 1e-3, [2])))
    done = script("--policy", POLICY, "--vectors", wrong)
    assert done.returncode == 1
    assert "FAILED: act_values" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("{", "no JSON file"), ("[1]", "expected a JSON object")],
)
def test_vectors_that_are_none(content, message, tmp_path):
    path = tmp_path / "v.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message) as error:
        conformance.main(conformance.Args(POLICY, path))
    assert str(path) in str(error.value)


def test_a_policy_that_is_none(tmp_path):
    with pytest.raises(SystemExit, match=r"--policy.*nowhere\.pth"):
        conformance.main(conformance.Args(tmp_path / "nowhere.pth"))


# -- published checkpoints -------------------------------------------------------------------------


def test_a_published_policy_acts_as_published(policy):
    args = PolicyArgs(
        *("paper", 1, 7, 11, 20),
        heads="separate",
        scale="categorical",
        carry_state=False,
        greedy=False,
        critic=True,
    )
    assert policy.args == args
    assert sum(p.numel() for p in policy.parameters()) == 17_762  # paper


@pytest.mark.parametrize(("levels", "kind"), [(11, "discrete"), (5, "continuous")])
def test_other_numbers_of_levels_are_scales(levels, kind, tmp_path):
    """An environment would read level 4 of 5 as .4; it is 1."""
    weights, vectors = second_set(1, 3, 6, levels, 4)
    deployed = LearnedPolicy(load_policy(write_set(tmp_path, weights, vectors).policy))
    assert deployed.env_kwargs["action"] == kind
    env = gym.make("asg_env:ASG-Digits-v0", **deployed.env_kwargs)
    deployed.begin(env.unwrapped.group_names, [], 0)
    observation = np.array(vectors["obs"][0], dtype=np.float32)
    actions = [deployed.act(observation) for _ in range(50)]
    assert all(env.action_space.contains(action) for action in actions)
    top = 10 if kind == "discrete" else 1
    assert len(np.unique(actions)) == levels
    assert np.max(actions) == top


def test_one_entry_reads_both_formats(policy, tmp_path):
    save_policy(policy, tmp_path)
    for path in (POLICY, str(POLICY), tmp_path, tmp_path / "policy.json"):
        loaded = load_policy(path)
        assert loaded.args == policy.args
        for name, value in policy.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])


@pytest.mark.parametrize("numbers", SETS)
def test_sizes_are_inferred(numbers, tmp_path):
    weights, vectors = second_set(*numbers)
    args = load_policy(write_set(tmp_path, weights, vectors).policy).args
    assert (args.groups, args.levels, args.hidden) == numbers[2:]


class _Explosive:
    """Pickled, it breaks the test of whoever unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def saved(loaded):
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    return buffer.getvalue()


def official(**change):
    """The published dict, some entries changed (None: left out)."""
    loaded = torch.load(POLICY, weights_only=True)
    loaded |= {k.replace("__", "."): v for k, v in change.items()}
    return saved({k: v for k, v in loaded.items() if v is not None})


HEAD = "action_distribution__linear__"
WRONG_FILES = {
    "empty": (b"", "truncated"),
    "text": (b"not a checkpoint", "truncated"),
    "json": (b'{"a": 1}', "truncated"),
    "cut": (POLICY.read_bytes()[:40000], "truncated"),
    "cut at the end": (POLICY.read_bytes()[:-1], "truncated"),
    "pickle": (pickle.dumps(_Explosive(), 2), "never loaded"),
    "pickle in torch's format": (saved({"a": _Explosive()}), "never loaded"),
    "list": (saved([torch.ones(2)]), "flat dict of tensors, found a list"),
    "tensor": (saved(torch.ones(2)), "found a Tensor"),
    "nested": (saved({"state_dict": {"a": torch.ones(2)}}), "a dict with 'state_dict': dict"),
    "numbered": (saved({1: torch.ones(2)}), "keys that are no strings"),
    "no keys": (saved({}), r"missing keys: .* and 21 more; unknown keys: none"),
    "another network": (
        saved(nn.Linear(2, 2).state_dict()),
        "missing keys: net.state_encoder.*; unknown keys: weight, bias$",
    ),
    "no critic": (
        official(critic__fc__weight=None, critic__fc__bias=None),
        r"missing keys: critic\.fc\.weight, critic\.fc\.bias; unknown keys: none",
    ),
    "no head 3": (
        official(**{f"{HEAD}3__weight": None, f"{HEAD}3__bias": None}),
        r"missing keys: action_distribution\.linear\.3\..*; unknown keys: action_distribution.*6",
    ),
    "one head less": (
        official(**{f"{HEAD}6__weight": None, f"{HEAD}6__bias": None}),
        r"critic\.fc\.weight has shape \(1, 707\), expected \(1, 606\)",
    ),
    "a sixth encoder": (
        official(net__state_encoder__5__rnn__bias_ih_l0=torch.ones(80)),
        r"unknown keys: net\.state_encoder\.5",
    ),
    "another hidden size": (
        official(net__state_encoder__2__rnn__weight_hh_l0=torch.ones(40, 10)),
        r"encoder\.2\.rnn\.weight_hh_l0 has shape \(40, 10\), expected \(80, 20\)",
    ),
    "other levels": (
        official(**{f"{HEAD}4__bias": torch.ones(5)}),
        r"linear\.4\.bias has shape \(5,\), expected \(11,\)",
    ),
    "a scalar": (
        official(net__state_encoder__0__rnn__weight_ih_l0=torch.tensor(1.0)),
        r"has shape \(\), expected",
    ),
    "NaN": (official(critic__fc__bias=torch.tensor([math.nan])), "critic.*no finite number"),
    "integers": (official(critic__fc__bias=torch.tensor([1])), "critic.*no finite number"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_checkpoint_is_a_clear_error(kind, tmp_path):
    content, message = WRONG_FILES[kind]
    path = tmp_path / "wrong.pth"
    path.write_bytes(content)
    for load in (load_policy, load_official_policy):
        with pytest.raises(
            ValueError, match=f"is no published policy checkpoint: .*{message}"
        ) as e:
            load(path)
        assert str(path) in str(e.value)


def test_cut_anywhere_it_is_refused(tmp_path):
    whole, path = POLICY.read_bytes(), tmp_path / "cut.pth"
    for share in np.linspace(0, 0.999, 40):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match="truncated"):
            load_policy(path)


@pytest.mark.parametrize("name", ["nowhere.pth", "nowhere.pt"])
def test_a_missing_checkpoint_is_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=name):
        load_policy(tmp_path / name)
