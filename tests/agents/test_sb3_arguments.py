"""The table of hyperparameters, and arguments that are refused."""

import dataclasses
import inspect

import pytest
from sb3_support import TINY

from agents import sb3
from asg_env.learning.sb3_updates import Linear
from asg_env.policies.sb3_algorithms import ALGORITHMS, RANGES


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_each_hyperparameter_exists_and_is_explained(algo):
    row = ALGORITHMS[algo]
    known = set(inspect.signature(row.load()).parameters)
    assert set(row.model) <= known
    network = {n for c in row.policy_class().__mro__[:3] for n in inspect.signature(c).parameters}
    assert set(row.network) <= network
    for part in (row.run, row.model, row.network):
        assert all(len(setting.why) > 3 for setting in part.values())
        numbers = {n for n, s in part.items() if type(s.value) in (int, float)}
        assert numbers <= set(RANGES)
    assert row.model["gamma"].value == 1


def test_hyperparameters_are_replaced_by_name():
    values = ALGORITHMS["ppo"].values({"n_epochs": 3, "linear": "False", "learning_rate": 1})
    assert (values.model["n_epochs"], values.run["linear"]) == (3, False)
    assert values.model["learning_rate"] == 1.0
    assert values.run["episodes"] == ALGORITHMS["ppo"].run["episodes"].value


def test_the_learning_rate_falls_from_the_first_update_to_the_last():
    rate = Linear(0.5, 4)
    left = [0.75, 0.5, 0.25, 0.0]  # SB3's share, after each rollout
    assert [rate(x) for x in left] == [0.5, 0.375, 0.25, 0.125]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"algo": "dqn"},
            f"--algo='dqn': expected one of {', '.join(ALGORITHMS)}",
        ),
        (
            {"hyperparameters": {"n_step": 3}},
            "--hyperparameters='n_step': expected one of episodes",
        ),
        ({"hyperparameters": {"n_epochs": 2.5}}, "n_epochs 2.5: expected a whole number"),
        ({"hyperparameters": {"gamma": "high"}}, "gamma 'high': expected a number"),
        ({"hyperparameters": {"linear": 3}}, "linear='3': expected one of True, False"),
        *(
            ({"hyperparameters": {name: value}}, f"{name} .*: expected >")
            for name, value in (
                *(("learning_rate", float("nan")), ("learning_rate", -1), ("clip_range", 0)),
                *(("n_epochs", 0), ("n_epochs", 10**12), ("episodes", 10**9), ("hidden", 0)),
                *(("gamma", 2), ("ent_coef", float("inf"))),
            )
        ),
        ({"algo": "sac", "hyperparameters": {"ent_coef": "soft"}}, "ent_coef 'soft': expected"),
        ({"algo": "sac", "hyperparameters": {"ent_coef": "auto_0"}}, "ent_coef 'auto_0': expected"),
        ({"episodes": 0}, "--episodes 0: expected >= 1"),
        ({"num_envs": 0}, "--num-envs 0: expected >= 1"),
        ({"seed": -1}, "--seed -1: expected >= 0"),
        ({"select": "best"}, "--select best needs evaluations"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(change, message, tmp_path):
    args = dataclasses.replace(TINY, out=tmp_path / "run", **change)
    with pytest.raises(SystemExit, match=message):
        sb3.main(args)
    assert not args.out.exists()
