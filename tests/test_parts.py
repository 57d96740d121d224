import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from asg_env.control.observations import OBSERVATIONS, Measurement, Observer, log_unit
from asg_env.control.windows import fixed_windows, paper_windows
from asg_env.data.order import BatchOrder
from asg_env.envs.rewards import LOSS_CAP, REWARDS, Transition, capped, crash_reward, rewards_of
from asg_env.methods.guidance import guided_loss, proxy_kl
from asg_env.reports.statistics import mean_ci95
from asg_env.tasks.metrics import class_accuracy
from asg_env.training.optim import OfficialSGD, make_optimizer
from asg_env.training.optimizee import Probe, WindowStats

DATA = Path(__file__).resolve().parent / "data"
NAN, INF = float("nan"), float("inf")
GROUPS = ["conv", "head"]


def vectors(key):
    return json.loads((DATA / "official_vectors.json").read_text())[key]


# -- windows and batches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "epoch_length", "epochs", "shortest"),
    [
        ("visda_4763x30_min10", 4763, 30, 10),
        ("gta5_2000x50_min20", 2000, 50, 20),
        ("small_37x4_min3", 37, 4, 3),
    ],
)
def test_paper_windows_are_the_official_ones(key, epoch_length, epochs, shortest):
    official = [length for _, length in vectors("windows")[key]]
    assert paper_windows(epoch_length, epoch_length * epochs, shortest) == official


def test_windows_fill_the_budget_exactly():
    for budget in (1, 9, 10, 11, 119, 120):
        assert sum(paper_windows(50, budget, 10)) == budget
        assert sum(fixed_windows(10, budget)) == budget
    assert fixed_windows(7, 20) == [7, 7, 6]


def test_an_epoch_sees_every_image_once_and_a_position_is_all_there_is_to_know():
    order = BatchOrder(count=10, batch_size=4, seed=3)
    batches = list(itertools.islice(order.upcoming(), 6))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    epochs = [torch.cat(batches[:3]).tolist(), torch.cat(batches[3:]).tolist()]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    for position, batch in enumerate(batches):
        assert torch.equal(next(BatchOrder(10, 4, 3, position).upcoming()), batch)


# -- guidance --------------------------------------------------------------------------------------


def test_guidance_matches_the_official_losses():
    official = vectors("guidance")
    teacher, old, new = (
        torch.tensor(official[k]) for k in ("teacher_logits", "student_old_logits", "new_logits")
    )
    loss = guided_loss(new, torch.tensor(official["labels"]), teacher, old)
    assert float(loss.ce) == pytest.approx(official["ce"], abs=1e-6)
    assert float(loss.kl) == pytest.approx(official["kl"], abs=1e-6)


def test_guidance_by_hand():
    quarter = torch.tensor([[0.0, math.log(3.0)]] * 2)  # probabilities 1/4, 3/4
    half = torch.zeros(2, 2, requires_grad=True)
    loss = guided_loss(quarter, torch.tensor([1, 0]), quarter, half)
    assert float(loss.ce) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-6)
    assert loss.kl.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)
    assert loss.total(0.5).item() == pytest.approx(loss.ce.item() + 0.5 * loss.kl.item())
    assert float(proxy_kl(quarter, quarter)) == pytest.approx(0.0, abs=1e-7)


def test_no_gradient_flows_to_the_teacher():
    teacher, old = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    proxy_kl(teacher, old).backward()
    assert teacher.grad is None
    assert old.grad is not None


# -- optimizers ------------------------------------------------------------------------------------


def descend(name, lrs, gradients, start, momentum=0.9, weight_decay=5e-4):
    weight = nn.Parameter(torch.tensor(start))
    optimizer = make_optimizer(name, [[weight]], lrs[0], momentum, weight_decay)
    path = []
    for lr, gradient in zip(lrs, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path)


def test_official_sgd_follows_the_official_weights():
    v = vectors("sgd")
    path = descend(
        "official_sgd", v["lrs"], v["grads"], v["start"], v["momentum"], v["weight_decay"]
    )
    torch.testing.assert_close(path, torch.tensor(v["weights"]), rtol=1e-6, atol=1e-6)


def test_the_two_sgds_agree_while_the_learning_rate_is_constant():
    v = vectors("sgd")
    lrs = [0.05] * len(v["grads"])
    paths = [descend(name, lrs, v["grads"], v["start"]) for name in ("sgd", "official_sgd")]
    torch.testing.assert_close(*paths, rtol=1e-6, atol=1e-6)


def test_at_learning_rate_zero_sgd_stands_still_and_official_sgd_coasts():
    lrs, gradients = [0.1, 0.0, 0.0], [[1.0], [1.0], [1.0]]
    still = descend("sgd", lrs, gradients, [1.0], weight_decay=0.0)
    coasting = descend("official_sgd", lrs, gradients, [1.0], weight_decay=0.0)
    assert still.flatten().tolist() == pytest.approx([0.9, 0.9, 0.9])
    assert coasting.flatten().tolist() == pytest.approx([0.9, 0.81, 0.729])


def test_official_sgd_refuses_a_closure():
    with pytest.raises(ValueError, match="closure"):
        OfficialSGD([nn.Parameter(torch.ones(1))], 0.1, 0.9, 0.0).step(lambda: 1.0)


# -- observations ----------------------------------------------------------------------------------


def measured(value=0.5, progress=0.5):
    pair = np.array([value, 2 * value])
    window = WindowStats(value, value, pair, pair, True)
    return Measurement(window, Probe(value, value, pair, pair), progress, np.array([0.3, 0.7]))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_names_space_and_vector_come_from_the_same_rows(name):
    observer, measurement = Observer(name, GROUPS), measured()
    vector = observer.observe(measurement)
    assert observer.space.shape == vector.shape == (len(observer.names),)
    assert len(set(observer.names)) == len(observer.names)
    place = iter(range(len(vector)))
    for signal in OBSERVATIONS[name]:
        values = np.broadcast_to(signal.value(measurement), (2 if signal.per_group else 1,))
        labels = [f"{signal.name}/{g}" for g in GROUPS] if signal.per_group else [signal.name]
        for label, value, i in zip(labels, values, place, strict=False):
            assert observer.names[i] == label
            assert vector[i] == pytest.approx(np.clip(value, signal.low, signal.high))
            assert (observer.space.low[i], observer.space.high[i]) == (signal.low, signal.high)
        assert signal.formula
        assert signal.source


def test_the_paper_observes_five_numbers_and_one_for_each_group():
    names = Observer("paper", GROUPS).names
    assert names[:5] == ["ce", "kl", "progress", "head_mean", "head_std"]
    assert names[5:] == ["lr_scale/conv", "lr_scale/head"]


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300, -1e300, 0.0, 1e-300])
def test_whatever_is_measured_the_observation_is_in_bounds(name, value):
    observer = Observer(name, GROUPS)
    vector = observer.observe(measured(value))
    assert observer.space.contains(vector)
    assert np.isfinite(vector).all()


def test_log_unit_maps_its_range_to_zero_one_and_clips():
    values = np.array([1e-4, 1e-1, 1e2, 0.0, 1e-9, 1e9, INF, NAN])
    assert log_unit(values, -4, 2) == pytest.approx([0, 0.5, 1, 0, 0, 1, 1, 1])


# -- rewards ---------------------------------------------------------------------------------------


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


# -- statistics ------------------------------------------------------------------------------------


def test_mean_and_interval_by_hand():
    half = 3.182446305 * math.sqrt(5 / 3) / 2  # t(.975, 3) times the standard error of 1, 2, 3, 4
    assert mean_ci95([1, 2, 3, 4]) == pytest.approx((2.5, 2.5 - half, 2.5 + half))
    assert mean_ci95([3.0]) == (3.0, -INF, INF)
    assert mean_ci95([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_macro_accuracy_is_the_mean_recall_of_the_classes_that_are_there():
    """A class that is only predicted used to count as a recall of 0."""
    labels, predictions = torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 2, 2])
    assert class_accuracy(predictions, labels, 4, "macro") == pytest.approx((0.5 + 1) / 2)
    assert class_accuracy(predictions, labels, 4, "micro") == pytest.approx(0.75)
