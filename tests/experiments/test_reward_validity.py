"""The reward's validity: probes, odd policies, correlations."""

import dataclasses
import json

import numpy as np
import pytest
from benchmark_support import trial
from scipy.stats import spearmanr
from support import DIGITS_ID, make

from asg_env.envs.setup import EnvSetup
from experiments import headroom, reward_validity


def test_returns_are_recomputed_from_the_recorded_losses(record):
    env = make(**record.kwargs)
    env.reset(seed=record.reset_seed)
    sums = dict.fromkeys(reward_validity.returns(record, 0.3), 0.0)
    for action in record.actions:
        *_, info = env.step(np.asarray(action, dtype=np.float32))
        sums = {name: total + info["rewards"][name] for name, total in sums.items()}
    assert reward_validity.returns(record, env.config.guidance) == pytest.approx(sums)
    assert reward_validity.returns(record, 3.0) != pytest.approx(sums)


def test_probes_are_the_losses_on_the_first_images_of_outer_valid(record):
    whole = len(make(**record.kwargs).problem.splits["outer_valid"])
    policy = reward_validity.RandomPath(3)
    again = reward_validity.play_probed(policy, EnvSetup(DIGITS_ID, record.kwargs), 5, (8, whole))
    assert again.rewards == record.rewards
    same, few = (reward_validity.returns(again, 0.3, images) for images in (whole, 8))
    assert same == pytest.approx(reward_validity.returns(record, 0.3))
    assert few["proxy_valid"] != pytest.approx(same["proxy_valid"])
    _, info = make(**record.kwargs, reward_images=8).reset(seed=5)
    assert again.losses[0]["valid_ce_8"] == info["losses"]["valid_ce"]


def test_even_policies_are_constant_and_odd_ones_move():
    for number, moves in ((0, False), (1, True), (2, False), (3, True)):
        policy = reward_validity.RandomPath(number)
        policy.begin([*"abc"], ["progress"], 0)
        first, last = (policy.act(np.array([t])) for t in (0.0, 1.0))
        assert (first != last).any() == moves
        assert ((first >= 0) & (first <= 1) & (last >= 0) & (last <= 1)).all()


def test_random_policies_never_freeze_the_head_but_other_groups():
    vectors = []
    for number in range(60):
        policy = reward_validity.RandomPath(number)
        policy.begin([*"abcd"], ["progress"], 0)
        vectors.append(policy.act(np.array([0.0])))
    table = np.array(vectors)
    assert (table[:, -1] > 0).all()
    assert (table[:, :-1] == 0).any(0).all()


def test_correlations_are_scipys_and_differences_from_the_default_are_paired(record):
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (2, 60))
    accuracy = values + rng.normal(0, 0.3, (2, 60))
    trials = [trial(v, a, record) for v, a in zip(values, accuracy, strict=True)]
    rows = reward_validity.table_rows(trials, ("proxy_valid", 0.3, None))
    cells = {(r["name"], r["guidance"], r["metric"]): r for r in rows}
    expected = np.mean([spearmanr(a, b).statistic for a, b in zip(values, accuracy, strict=True)])
    default = cells["proxy_valid", 0.3, "accuracy"]
    assert default["mean"] == pytest.approx(expected)
    assert 0 < default["ci95"][0] < expected < default["ci95"][1] < 1
    assert default["difference"] == 0
    assert default["default"]
    same = cells["proxy_valid", 3.0, "accuracy"]  # here lambda changes nothing
    assert same["difference_ci95"] == [0, 0]
    reverse = cells["train_loss", 0.3, "accuracy"]
    assert reverse["mean"] == pytest.approx(-expected)
    assert reverse["difference_ci95"][1] < -0.5
    assert np.isnan(cells["proxy_valid", 0.3, "retention"]["mean"])  # it never differs
    text = reward_validity.validity_table(rows, "title").markdown()
    assert f"**{expected:.2f} [" in text
    assert "] -" in text


def test_the_reward_experiment_runs_and_resumes(tmp_path, folders):
    args = reward_validity.Args(quick=True, out=tmp_path, processes=1)
    text = reward_validity.main(args)
    assert "over 6 random policies, mean of 2 variants" in text
    assert reward_validity.main(args) == text
    assert "A tenth of 6 random policies, chosen on the others of 2" in headroom.main(
        headroom.Args(tmp_path)
    )
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {row["guidance"] for row in rows} == set(reward_validity.LAMBDAS)
    assert {row["images"] for row in rows} == {None, 8, 32}
    with pytest.raises(SystemExit, match="pass --variants own"):
        reward_validity.variant_names(
            dataclasses.replace(args, task="image_folder", variants="test"),
            make("ASG-ImageFolder-v0", **folders),
        )
