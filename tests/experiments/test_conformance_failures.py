"""What does not conform is named; the script and its exit codes."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
import torch
from conformance_support import SETS, second_set, write_set
from support import REPO

from asg_env.policies.recurrent import (
    RecurrentPolicy,
    load_official_policy,
    save_policy,
)
from experiments import conformance
from experiments.conformance import CHECKS, INPUTS

DATA = REPO / "tests/data"


POLICY = DATA / "official_policy.pth"


VECTORS = json.loads((DATA / "official_vectors.json").read_text())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def policy():
    return load_official_policy(POLICY)


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
        command, cwd=REPO, capture_output=True, text=True, check=False, timeout=300
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
