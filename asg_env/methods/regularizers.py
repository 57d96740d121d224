"""What keeps a network near its pretrained self: one small class each, proxy guidance among them.

The training loss is CE + sum of strength * penalty over the regularisers in force: always proxy
guidance, whose strength is lambda (0 turns it off), and at most one more by name. A regulariser
gives the penalty, sees each optimizer step before (gradients are there, not clipped yet) and after
it, and names the tensors that its future depends on. All of them leave the new head free: it has no
pretrained self.

Nothing here sees an image of the pretraining task, as published weights come without them. Where a
method needs to know what mattered to the old task, it asks the old classifier about the *synthetic*
images; the classes say how.

Compared with Avalanche 0.6.0 on the digits: MAS's importance is the same to 2e-7. EWC's is, bit for
bit, where Avalanche is given one image at a time and the labels that are drawn here (it takes the
true ones, and weighs with 1 instead of 1/2). LwF's loss is T^2 times Avalanche's. Its SI is another
one: Omega is clipped at .001, the gradient includes the penalty's own, the anchor moves on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asg_env.methods.base import NONE
from asg_env.models.groups import channel_axis
from asg_env.models.student import Outputs, Student
from asg_env.registry import Registry
from asg_env.tasks.problem import Problem

SI_DAMPING = 1e-3  # xi (Zenke et al., 2017)
SI_STRETCHES = 4  # at least so many in a run; the first one is free
IMPORTANCE_IMAGES = 256  # of the train split, the first ones, for EWC and MAS


class Setting(NamedTuple):
    """What a regulariser is made for.

    ``epoch_length``, ``budget``: optimizer steps of an epoch and of the whole run (None: not
    known). ``strength``: its weight in the loss.
    """

    problem: Problem
    student: Student
    epoch_length: int
    budget: int | None
    strength: float
    temperature: float


class View(NamedTuple):
    """One batch: ``images`` (N, C, H, W), the student's ``outputs``, the ``teacher``'s logits
    (N, K_old), and ``kl``, KL(teacher || student) of the old classifier, a scalar in nats."""

    images: Tensor
    outputs: Outputs
    teacher: Tensor
    kl: Tensor


class Regularizer:
    """The interface; its methods do nothing.

    Args:
        setting: what it is made for; the student is still as pretrained.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def penalty(self, view: View) -> Tensor:
        """A differentiable scalar, without the strength."""
        raise NotImplementedError

    def before_step(self) -> None:
        """The gradients of the whole loss are there and not clipped yet."""

    def after_step(self) -> None:
        """The optimizer has moved the weights."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the regulariser's future depends on, by name."""
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""


class ProxyGuidance(Regularizer):
    """KL(teacher || student) of the old classifier (paper, section 3.1)."""

    def penalty(self, view: View) -> Tensor:
        """As measured."""
        return view.kl


# -- in the space of the weights -------------------------------------------------------------------


class WeightPenalty(Regularizer):
    """``factor * sum_i importance_i (w_i - start_i)^2`` over the backbone's trainable weights."""

    factor = 1.0

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.params = trainable(setting.student.backbone)
        self.start = [p.detach().clone() for p in self.params]
        self.importance: list[Tensor] | None = None  # None: all 1

    def penalty(self, view: View) -> Tensor:
        """Reads the weights only."""
        terms = [(p - s).square() for p, s in zip(self.params, self.start, strict=True)]
        if self.importance is not None:
            terms = [i * term for i, term in zip(self.importance, terms, strict=True)]
        return self.factor * torch.stack([term.sum() for term in terms]).sum()


class L2SP(WeightPenalty):
    """Half the squared distance from the pretrained weights (the paper's "vanilla L2 distance").

    It is L2-SP (Li et al., 2018) without that method's extra decay of the head, for which the
    optimizer's weight decay stands; that goes on pulling the backbone to zero, too.
    """

    factor = 0.5


class SynapticIntelligence(WeightPenalty):
    """SI (Zenke et al., 2017): ``sum_i Omega_i (w_i - start_i)^2``, Omega from the path of the run.

    Each step adds ``-g_i * (change of w_i)`` to omega_i, g the gradient of the loss without this
    penalty. At the end of each stretch ``Omega_i += relu(omega_i / ((change in it)^2 + xi))``, and
    omega starts again. A stretch is an epoch, or a quarter of the budget where that is shorter.
    Published weights carry no trajectory of their pretraining, so Omega is that of the synthetic
    stretches, online, and the first one is free. The anchor stays the pretrained weights.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.importance = [torch.zeros_like(p) for p in self.params]
        self.path = [torch.zeros_like(p) for p in self.params]
        self.begun = [p.detach().clone() for p in self.params]
        share = (setting.budget or SI_STRETCHES * setting.epoch_length) // SI_STRETCHES
        self.stretch = max(1, min(setting.epoch_length, share))
        self.steps = torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def before_step(self) -> None:
        """Remember the weights and the gradient of everything but the own penalty."""
        assert self.importance is not None
        self._before = [p.detach().clone() for p in self.params]
        self._gradients = []
        for p, start, importance in zip(self.params, self.start, self.importance, strict=True):
            own = 2 * self.setting.strength * importance * (p - start)
            self._gradients.append(-own if p.grad is None else p.grad - own)

    @torch.no_grad()
    def after_step(self) -> None:
        """Add to the path integral; at the end of a stretch turn it into importance."""
        for path, g, p, before in zip(
            self.path, self._gradients, self.params, self._before, strict=True
        ):
            path -= g * (p - before)
        self.steps += 1
        if self.steps % self.stretch == 0:
            self._consolidate()

    def _consolidate(self) -> None:
        assert self.importance is not None
        for importance, path, p, begun in zip(
            self.importance, self.path, self.params, self.begun, strict=True
        ):
            importance += F.relu(path / ((p - begun).square() + SI_DAMPING))
            path.zero_()
            begun.copy_(p)

    def tensors(self) -> dict[str, Tensor]:
        """Importance, path, the stretch's first weights and the steps done."""
        assert self.importance is not None
        lists = {"importance": self.importance, "path": self.path, "begun": self.begun}
        named = {f"{k}.{i}": t for k, ts in lists.items() for i, t in enumerate(ts)}
        return {**named, "steps": self.steps}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])


class ElasticWeightConsolidation(WeightPenalty):
    """EWC (Kirkpatrick et al., 2017): ``1/2 sum_i F_i (w_i - start_i)^2``.

    F is the diagonal of the old classifier's Fisher information at the pretrained weights: the mean
    over synthetic images of the squared gradient of log p(y | x), y drawn from the classifier.
    """

    factor = 0.5

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.importance = importance(setting, "ewc", _log_likelihood, torch.square)


class MemoryAwareSynapses(WeightPenalty):
    """MAS (Aljundi et al., 2018): ``sum_i Omega_i (w_i - start_i)^2``.

    Omega is the mean over synthetic images of the absolute gradient of the squared norm of the old
    classifier's logits, at the pretrained weights.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.importance = importance(setting, "mas", _squared_norm, torch.abs)


def _log_likelihood(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Of a label drawn from the classifier itself, for one image's logits (1, K)."""
    log_p = logits.log_softmax(1)
    drawn = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=generator)
    return log_p[0, drawn.item()]  # type: ignore[index]


def _squared_norm(logits: Tensor, _: torch.Generator) -> Tensor:
    return logits.square().sum()


def trainable(module: nn.Module) -> list[Tensor]:
    """A module's trainable weights."""
    return [p for p in module.parameters() if p.requires_grad]


def importance(
    setting: Setting,
    name: str,
    function: Callable[[Tensor, torch.Generator], Tensor],
    measure: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Mean over train images of ``measure``(gradient of ``function``(old logits)), per weight.

    At the pretrained weights; computed once for each problem.
    """
    return setting.problem.kept(
        f"importance of {name}", lambda: _importance(setting, function, measure)
    )


def _importance(
    setting: Setting,
    function: Callable[[Tensor, torch.Generator], Tensor],
    measure: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    student = setting.problem.student(0)  # its backbone is as pretrained
    setting.problem.compute.place(student)
    params = trainable(student.backbone)
    sums = [torch.zeros_like(p) for p in params]
    images = setting.problem.splits["train"].first(IMPORTANCE_IMAGES).images
    generator = torch.Generator().manual_seed(0)
    for image in images.split(1):
        logits = student(setting.problem.compute.images(image)).old.float()
        found = torch.autograd.grad(function(logits, generator), params, allow_unused=True)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += measure(gradient)
    return [total / len(images) for total in sums]


# -- in the space of the outputs -------------------------------------------------------------------


class FeatureL2(Regularizer):
    """The distillation term of ROAD (Chen et al., 2018), "feature L2 distance".

    The mean over synthetic images and positions of the squared distance between the student's and
    the teacher's last feature vectors: at the output of the last layer group before the head.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._features: dict[str, Tensor] = {}
        group = setting.problem.groups[-2]
        group.output(setting.student).register_forward_hook(self._keep("student"))
        self._teacher = setting.problem.student(0).requires_grad_(False)
        setting.problem.compute.place(self._teacher)
        group.output(self._teacher).register_forward_hook(self._keep("teacher"))

    def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if not torch.is_inference_mode_enabled():  # where the student is only evaluated
                self._features[name] = output

        return hook

    def penalty(self, view: View) -> Tensor:
        """Runs the teacher on the batch."""
        compute = self.setting.problem.compute
        with torch.no_grad(), compute.autocast():
            self._teacher(compute.images(view.images))
        student, teacher = self._features.pop("student"), self._features.pop("teacher")
        axis = channel_axis(student) if student.dim() == 4 else -1
        return (student.float() - teacher.float()).square().sum(axis).mean()


class LearningWithoutForgetting(Regularizer):
    """LwF (Li and Hoiem, 2016): distillation of the old classifier at a temperature.

    ``T^2 KL(teacher / T || student / T)``, mean over images (the factor as Hinton et al., 2015, so
    that the gradient's size hardly depends on T). Unlike in the original the old classifier stays
    frozen; at T = 1 it is proxy guidance.
    """

    def penalty(self, view: View) -> Tensor:
        """Reads the logits."""
        t = self.setting.temperature
        teacher = F.log_softmax(view.teacher.detach() / t, dim=1)
        student = F.log_softmax(view.outputs.old / t, dim=1)
        return t**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


REGULARIZERS: Registry[type[Regularizer]] = Registry(
    "regularizer",
    ("penalty", "before_step", "after_step", "tensors", "load_tensors"),
    instances=False,
    none=NONE,
)
"""Those that can be added to proxy guidance, by name."""
REGULARIZERS.register("l2_sp", L2SP)
REGULARIZERS.register("feature_l2", FeatureL2)
REGULARIZERS.register("si", SynapticIntelligence)
REGULARIZERS.register("ewc", ElasticWeightConsolidation)
REGULARIZERS.register("mas", MemoryAwareSynapses)
REGULARIZERS.register("lwf", LearningWithoutForgetting)
