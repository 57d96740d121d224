"""Each regulariser against a case computed by hand, and all of them inside the environment."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import make
from torch import nn

from asg_env.data.splits import TensorSplit
from asg_env.methods.regularizers import REGULARIZERS, SI_DAMPING, ProxyGuidance, Setting, View
from asg_env.models.groups import LayerGroup
from asg_env.models.student import Outputs, Student
from asg_env.tasks.base import Problem
from asg_env.tasks.guidance import proxy_kl

WEIGHT, OLD, BIAS = 0.5, (3.0, -3.0), 0.0  # of the network w x -> (3 w x, -3 w x)


IMAGES = torch.tensor([1.0, 2.0, -3.0])


SHORT = {"budget": 12, "window": 3, "batch_size": 400}  # epochs of four steps


def problem(weight=WEIGHT):
    """One weight, one input, two old classes: everything can be written down."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.fill_(weight)
        network[1].weight.copy_(torch.tensor(OLD)[:, None])
        network[1].bias.fill_(BIAS)
    train = TensorSplit(IMAGES[:, None], torch.zeros(3, dtype=torch.int64))
    groups = (LayerGroup("body", ("backbone.0",)), LayerGroup("fc_new", ("fc_new",)))
    return Problem(
        *("hand-made", None, {"train": train}, None, ("a", "b"), network, "hand-made", "1", 4),
        groups=groups,
    )


def regularizer(name, strength=1.0, temperature=2.0, epoch_length=3, weight=WEIGHT, budget=None):
    made = problem(weight)
    student = made.student(0)
    setting = Setting(made, student, epoch_length, budget, strength, temperature)
    return REGULARIZERS[name](setting), student


def view(student, images=IMAGES):
    outputs = student(images[:, None])
    return View(images[:, None], outputs, torch.zeros(len(images), 2), torch.tensor(0.0))


def weight_of(student: Student):
    return student.backbone[0].weight


def move(student, value):
    with torch.no_grad():
        weight_of(student).fill_(value)


def value_and_gradient(own, student):
    penalty = own.penalty(view(student))
    (gradient,) = torch.autograd.grad(penalty, weight_of(student))
    return penalty.item(), gradient.item()


def test_proxy_guidance_is_the_measured_kl():
    setting = Setting(problem(), problem().student(0), 1, None, 0.3, 1.0)
    outputs = Outputs(torch.zeros(1, 2), torch.zeros(1, 2))
    seen = View(torch.zeros(1, 1), outputs, torch.zeros(1, 2), torch.tensor(0.7))
    assert float(ProxyGuidance(setting).penalty(seen)) == pytest.approx(0.7)


def test_l2_sp_is_half_the_squared_distance_of_the_backbone():
    own, student = regularizer("l2_sp")
    assert value_and_gradient(own, student) == (0, 0)
    move(student, WEIGHT + 0.2)
    assert value_and_gradient(own, student) == pytest.approx((0.02, 0.2))
    with torch.no_grad():
        student.fc_new[0].weight.add_(5.0)  # the head is free
    assert value_and_gradient(own, student) == pytest.approx((0.02, 0.2))


def test_ewc_weighs_with_the_fisher_information():
    # d log p(y|x) / dw = (v_y - sum_k p_k v_k) x; at w = 0 both classes have p = 1/2, so that it is
    # +-3 x whatever label is drawn, and F = 9 * mean(x^2) = 9 * (1 + 4 + 9) / 3 = 42.
    own, student = regularizer("ewc", weight=0.0)
    assert float(own.importance[0]) == pytest.approx(42)
    move(student, 0.1)
    assert value_and_gradient(own, student) == pytest.approx((0.5 * 42 * 0.01, 42 * 0.1))


def test_the_fisher_information_of_drawn_labels_is_near_its_expectation(monkeypatch):
    from asg_env.methods import regularizers

    monkeypatch.setattr(regularizers, "IMPORTANCE_IMAGES", 2000)
    made = problem(0.2)
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 1, 2000)).float()
    made.splits["train"] = TensorSplit(images[:, None], torch.zeros(2000, dtype=torch.int64))
    own = REGULARIZERS["ewc"](Setting(made, made.student(0), 1, None, 1.0, 1.0))
    p = torch.sigmoid(2 * 3 * 0.2 * images)
    expected = (p * (3 - 3 * (2 * p - 1)) ** 2 + (1 - p) * (-3 - 3 * (2 * p - 1)) ** 2) * images**2
    assert float(own.importance[0]) == pytest.approx(float(expected.mean()), rel=0.1)


@pytest.mark.parametrize(
    ("epoch_length", "budget", "free"), [(3, None, 3), (3, 100, 3), (50, 12, 3), (50, 2, 1)]
)
def test_si_acts_in_a_run_shorter_than_an_epoch(epoch_length, budget, free):
    own, student = regularizer("si", epoch_length=epoch_length, budget=budget)
    descend(own, student, 2.0, 1.5, 0.1, free - 1)
    assert value_and_gradient(own, student) == (0, 0)
    descend(own, student, 2.0, 1.5, 0.1, 1)
    assert value_and_gradient(own, student)[0] > 0


def test_mas_weighs_with_the_sensitivity_of_the_old_logits():
    # |d (2 * 9 w^2 x^2) / dw| = 36 w x^2, mean 36 * .5 * 14 / 3 = 84
    own, student = regularizer("mas")
    assert float(own.importance[0]) == pytest.approx(84)
    move(student, WEIGHT + 0.1)
    assert value_and_gradient(own, student) == pytest.approx((84 * 0.01, 2 * 84 * 0.1), rel=1e-4)


def descend(own, student, curvature, optimum, lr, steps):
    """Gradient descent on a/2 (w - b)^2, plus the regulariser's own penalty."""
    weight = weight_of(student)
    for _ in range(steps):
        penalty = own.setting.strength * own.penalty(view(student))
        loss = curvature / 2 * (weight.sum() - optimum) ** 2 + penalty
        (weight.grad,) = torch.autograd.grad(loss, weight)
        own.before_step()
        with torch.no_grad():
            weight -= lr * weight.grad
        own.after_step()


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_si_is_the_path_integral_of_a_quadratic(strength):
    # With r = 1 - lr a, step t's gradient is a e_0 r^t, so omega = sum lr g^2
    # = lr a^2 e_0^2 (1 - r^2n) / (1 - r^2), and the change of w is e_0 (r^n - 1). In the first
    # epoch Omega is 0, so the penalty does nothing, whatever its strength.
    a, b, lr, n = 2.0, 1.5, 0.1, 7
    own, student = regularizer("si", strength, epoch_length=n)
    error, r = WEIGHT - b, 1 - lr * a
    descend(own, student, a, b, lr, n - 1)
    assert value_and_gradient(own, student) == (0, 0)
    descend(own, student, a, b, lr, 1)
    omega = lr * a**2 * error**2 * (1 - r ** (2 * n)) / (1 - r**2)
    change = error * (r**n - 1)
    expected = omega / (change**2 + SI_DAMPING)
    assert float(own.importance[0]) == pytest.approx(expected, rel=1e-4)
    assert float(own.path[0]) == 0
    assert value_and_gradient(own, student) == pytest.approx(
        (expected * change**2, 2 * expected * change), rel=1e-4
    )


def test_sis_path_integral_tends_to_the_decrease_of_the_loss():
    a, b, lr, n = 2.0, 1.5, 1e-4, 2000
    own, student = regularizer("si", 0.0, epoch_length=n + 1)
    descend(own, student, a, b, lr, n)
    decrease = a / 2 * ((WEIGHT - b) ** 2 - (weight_of(student).item() - b) ** 2)
    assert float(own.path[0]) == pytest.approx(decrease, rel=1e-3)


def test_si_leaves_its_own_penalty_out_of_the_path():
    own, student = regularizer("si", strength=3.0, epoch_length=2)
    descend(own, student, 2.0, 1.5, 0.1, 2)  # now it has an importance
    before = weight_of(student).item()
    descend(own, student, 2.0, 1.5, 0.1, 1)
    change = weight_of(student).item() - before
    assert float(own.path[0]) == pytest.approx(-2.0 * (before - 1.5) * change, rel=1e-4)


def test_si_never_has_negative_importance():
    own, student = regularizer("si", epoch_length=1)
    weight_of(student).grad = torch.full((1, 1), 2.0)
    own.before_step()
    move(student, WEIGHT + 1)  # up the slope
    own.after_step()
    assert float(own.importance[0]) == 0


def test_lwf_is_distillation_at_a_temperature():
    teacher, logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [4.0, 1.0]])
    for temperature in (1.0, 2.0):
        own, _ = regularizer("lwf", temperature=temperature)
        seen = View(IMAGES[:2, None], Outputs(logits, logits), teacher, torch.tensor(0.0))
        p, q = (np.exp(x.numpy() / temperature) for x in (teacher, logits))
        p, q = (x / x.sum(1, keepdims=True) for x in (p, q))
        expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
        assert float(own.penalty(seen)) == pytest.approx(expected, rel=1e-5)
    own, _ = regularizer("lwf", temperature=1.0)
    assert float(own.penalty(seen)) == pytest.approx(float(proxy_kl(teacher, logits)))


@pytest.mark.parametrize(("name", "expected"), [("mas", 24197.709), ("ewc", 1344.6082)])
def test_importance_is_avalanches(name, expected):
    """The sum over the backbone's weights that Avalanche 0.6.0's plugins compute, one image at a
    time, on the digits' own problem (EWC: with the labels that were drawn here)."""
    env = make(**SHORT)
    own = REGULARIZERS[name](Setting(env.problem, env.problem.student(0), 10, None, 1.0, 2.0))
    assert sum(float(i.sum()) for i in own.importance) == pytest.approx(expected, rel=1e-3)


def test_lwf_is_avalanches_times_the_temperature_squared():
    """The loss of Avalanche 0.6.0's LearningWithoutForgetting at T = 2 is 0.530868."""
    teacher = torch.tensor([[0.2, 0.1, -1.0], [2.0, -1.0, 0.3]])
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    own, _ = regularizer("lwf", temperature=2.0)
    seen = View(IMAGES[:2, None], Outputs(logits, logits), teacher, torch.tensor(0.0))
    assert float(own.penalty(seen)) == pytest.approx(4 * 0.530868, rel=1e-5)


def test_feature_l2_is_the_distance_of_the_last_features():
    own, student = regularizer("feature_l2")
    assert value_and_gradient(own, student) == (0, 0)
    move(student, WEIGHT + 0.2)  # the features are w x
    assert value_and_gradient(own, student) == pytest.approx((0.04 * 14 / 3, 0.4 * 14 / 3))


def test_feature_l2_takes_the_mean_over_images_and_positions():
    env = make(regularizer="feature_l2", **SHORT)
    env.reset(seed=0)
    env.step(np.full(6, 5))
    optimizee = env._episode.optimizee
    batch = optimizee.problem.splits["train"].batch(torch.arange(7))
    found = {}
    for name, network in (("student", optimizee.student), ("start", optimizee.problem.student(0))):
        keep = network.backbone.layer3.register_forward_hook(
            lambda _m, _i, output, name=name: found.__setitem__(name, output.detach())
        )
        network(batch.images)
        keep.remove()
    distance = (found["student"] - found["start"]).square()  # (N, C, H, W)
    outputs = optimizee.forward(batch.images)
    own = optimizee.method.regularizers[1]
    penalty = own.penalty(View(batch.images, outputs, outputs.old, outputs.old.sum()))
    assert float(penalty) == pytest.approx(float(distance.sum(1).mean()), rel=1e-5)
    assert float(penalty) > 0


def play(env, actions):
    return [env.step(action)[:2] for action in actions]


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b) and r == s for (a, r), (b, s) in pairs)


ACTIONS = [np.full(6, k) for k in (5, 2, 8, 3)]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_fork_save_and_load_keep_the_regularisers_state(name, tmp_path):
    kwargs = {"regularizer": name, "guidance": 0.0, **SHORT}
    env = make(**kwargs)
    env.reset(seed=3)
    play(env, ACTIONS[:2])  # six steps: in the second epoch
    fork = env.fork()
    env.save(tmp_path / "here")
    loaded = make(**kwargs)
    loaded.load(tmp_path / "here")
    expected = play(env, ACTIONS[2:])
    assert same(expected, play(fork, ACTIONS[2:]))
    assert same(expected, play(loaded, ACTIONS[2:]))
    assert env.unwrapped._episode.info["losses"]["train_penalty"] > 0
    other = make(**{**kwargs, "regularizer": "none"})
    with pytest.raises(ValueError, match="regularizer"):
        other.load(tmp_path / "here")


@pytest.mark.parametrize("name", REGULARIZERS)
def test_without_strength_nothing_changes(name):
    plain, own = make(**SHORT), make(regularizer=name, regularizer_strength=0.0, **SHORT)
    for env in (plain, own):
        env.reset(seed=1)
    assert same(play(plain, ACTIONS), play(own, ACTIONS))


@pytest.mark.parametrize(
    ("name", "strength", "what"),
    [
        *(("l2_sp", 1.0, "drift"), ("si", 10.0, "drift"), ("ewc", 10.0, "drift")),
        *(("mas", 0.1, "drift"), ("feature_l2", 1.0, "feature_kl"), ("lwf", 1.0, "train_kl")),
    ],
)
def test_each_holds_on_to_what_it_is_about(name, strength, what):
    def measured(**more):
        env = make(guidance=0.0, **SHORT, **more)
        env.reset(seed=0)
        play(env, [np.full(6, 5)] * 4)
        if what == "train_kl":
            return env._episode.info["losses"][what]
        return getattr(env._episode.optimizee.probe(), what)[:-1].sum()

    assert measured(regularizer=name, regularizer_strength=strength) < 0.9 * measured()


def test_proxy_guidance_is_lwf_at_temperature_one():
    one = make(guidance=0.3, **SHORT)
    more = {"regularizer": "lwf", "regularizer_strength": 0.3, "temperature": 1.0}
    other = make(guidance=0.0, reward_guidance=0.3, **more, **SHORT)
    for env in (one, other):
        env.reset(seed=2)
    for (a, r), (b, s) in zip(play(one, ACTIONS), play(other, ACTIONS), strict=True):
        assert np.allclose(a, b, atol=1e-4)
        assert r == pytest.approx(s, abs=1e-4)


def test_bad_regularisers_are_named():
    for change, reason in (
        ({"regularizer": "l2"}, "expected one of none, l2_sp, feature_l2, si, ewc, mas, lwf"),
        ({"regularizer_strength": -1.0}, "regularizer_strength=-1.0: expected a number in"),
        ({"temperature": 0.0}, "temperature=0.0: expected a number in"),
    ):
        with pytest.raises(ValueError, match=reason):
            make(**change)
    with pytest.raises(TypeError, match="did you mean 'regularizer'"):
        make(regulariser="si")


def test_the_penalty_is_in_the_losses_and_only_where_there_is_one():
    env = make(regularizer="l2_sp", **SHORT)
    _, info = env.reset(seed=0)
    assert info["losses"]["train_penalty"] == 0
    *_, info = env.step(np.full(6, 5))
    moved = [(p - s).square().sum() for p, s in zip(*_weights(env), strict=True)]
    assert 0 < info["losses"]["train_penalty"] < float(sum(moved)) / 2
    assert "train_penalty" not in make(**SHORT).reset(seed=0)[1]["losses"]


def _weights(env):
    own = env._episode.optimizee.method.regularizers[1]
    return [p.detach() for p in own.params], own.start


def test_the_loss_is_the_sum_with_the_strengths():
    env = make(regularizer="lwf", regularizer_strength=0.7, guidance=0.2, **SHORT)
    env.reset(seed=0)
    env.step(np.full(6, 5))
    optimizee = env._episode.optimizee
    batch = optimizee.problem.splits["train"].batch(torch.arange(16))
    losses = optimizee.method.losses(optimizee, batch, None)
    optimizee.backward(losses.total)
    ce, kl, penalty = losses.parts
    outputs = optimizee.forward(batch.images)
    teacher = optimizee.problem.teacher_logits("train")[batch.indices]
    expected = F.cross_entropy(outputs.new, batch.labels)
    assert float(ce) == pytest.approx(float(expected), rel=1e-5)
    total = expected + 0.2 * proxy_kl(teacher, outputs.old)
    soft = [(x / 2).log_softmax(1) for x in (outputs.old, teacher)]
    distilled = 4 * F.kl_div(*soft, reduction="batchmean", log_target=True)
    (gradient,) = torch.autograd.grad(
        total + 0.7 * distilled, optimizee.student.backbone.conv1.weight
    )
    assert torch.allclose(optimizee.student.backbone.conv1.weight.grad, gradient, atol=1e-6)
    assert float(penalty) == pytest.approx(float(distilled), rel=1e-5)
    assert float(kl) > 0
