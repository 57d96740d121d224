"""Supervised fine-tuning with proxy guidance and at most one more penalty: the paper's method."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from asg_env.data.splits import Batch
from asg_env.methods.base import NONE, Loop, Losses, Method, Purpose
from asg_env.methods.regularizers import REGULARIZERS, ProxyGuidance, Regularizer, Setting, View
from asg_env.registry import Registry


class Guided(Method):
    """Loss + lambda * guidance + strength * penalty on labelled source images."""

    def __init__(self, purpose: Purpose) -> None:
        super().__init__(purpose)
        settings = purpose.settings
        self.objective = purpose.problem.objective
        self.regularizers: list[Regularizer] = [self._made(ProxyGuidance, settings.guidance)]
        if settings.regularizer != NONE:
            added = REGULARIZERS.find(settings.regularizer)
            self.regularizers.append(self._made(added, settings.regularizer_strength))

    def _made(self, kind: type[Regularizer], strength: float) -> Regularizer:
        problem, student, epoch_length, settings = self.purpose
        setting = Setting(
            problem, student, epoch_length, settings.budget, strength, settings.temperature
        )
        return kind(setting)

    def losses(self, loop: Loop, source: Batch, target: Tensor | None) -> Losses:
        """CE, KL and, if there is one, the added penalty."""
        teacher = loop.teach(source)
        outputs = loop.forward(source.images)
        ce = self.objective.loss(outputs.new, source.labels)
        kl = self.objective.guidance(teacher, outputs.old)
        view = View(source.images, outputs, teacher, kl)
        penalties = [regularizer.penalty(view) for regularizer in self.regularizers]
        total = ce
        for regularizer, penalty in zip(self.regularizers, penalties, strict=True):
            total = total + regularizer.setting.strength * penalty
        return Losses(total, torch.stack([ce, *penalties]).detach())

    def update(self, loop: Loop, source: Batch, target: Tensor | None = None) -> Tensor:
        """One optimizer step, which the regularisers see before and after."""
        losses = self.losses(loop, source, target)
        loop.backward(losses.total)
        for regularizer in self.regularizers:
            regularizer.before_step()
        loop.step()
        for regularizer in self.regularizers:
            regularizer.after_step()
        return losses.parts

    def tensors(self) -> dict[str, Tensor]:
        """Those of the regularisers."""
        return {k: v for regularizer in self.regularizers for k, v in regularizer.tensors().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """To the regularisers."""
        for regularizer in self.regularizers:
            regularizer.load_tensors(tensors)


METHODS: Registry[type[Method]] = Registry(
    "method", ("wants_target", "losses", "update", "tensors", "load_tensors"), instances=False
)
"""What an optimizer step may do, by name."""
METHODS.register("guided", Guided)
