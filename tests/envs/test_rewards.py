"""Rewards by hand; a crash never pays."""

import math

import pytest
from official_support import INF, NAN

from asg_env.envs.rewards import LOSS_CAP, REWARDS, Transition, capped, crash_reward, rewards_of


def test_every_reward_by_hand():
    transition = Transition(3.0, 2.0, 1.5, 0.9, 1.1, False, 0.4, 0.55)
    assert rewards_of(transition) == pytest.approx(
        {
            "proxy_valid": 0.5,
            "proxy_valid_level": -1.5,
            "proxy_valid_exp": math.exp(-1.5),
            "proxy_valid_terminal": 0.0,
            "train_loss": -0.2,
            "target_accuracy_oracle": 0.15,
        }
    )
    last = rewards_of(transition._replace(last=True, accuracy=None))
    assert last["proxy_valid_terminal"] == 1.5
    assert "target_accuracy_oracle" not in last


def test_only_the_oracle_reads_target_labels():
    assert [name for name, term in REWARDS.items() if term.oracle] == ["target_accuracy_oracle"]


@pytest.mark.parametrize("name", REWARDS)
def test_a_crash_makes_the_return_one_less_than_the_lowest(name):
    for so_far in (-7.0, 0.0, 3.5):
        total = so_far + crash_reward(name, 12, so_far)
        assert total == pytest.approx(REWARDS[name].lowest(12) - 1)


def test_losses_are_capped():
    values = [capped(loss) for loss in (NAN, INF, -INF, -1.0, 0.5, 1e9)]
    assert values == [LOSS_CAP, LOSS_CAP, 0.0, 0.0, 0.5, LOSS_CAP]
