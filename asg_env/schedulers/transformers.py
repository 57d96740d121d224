"""PolicyLR in transformers' Trainer::

trainer = Trainer(model=model, args=args, train_dataset=images)
PolicyLRCallback("asg-lr-1").attach(trainer)
trainer.train()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback

from asg_env.models.groups import GroupsLike
from asg_env.policies.base import Policy
from asg_env.schedulers.groups import param_groups
from asg_env.schedulers.policy_lr import PolicyLR


class PolicyLRCallback(TrainerCallback):
    """Sets the learning rates of a Trainer's optimizer, see :class:`PolicyLR`.

    :meth:`attach` does the rest: an optimizer with a param group for each layer group, and a
    scheduler in place of the Trainer's own. The policy sees the loss that the Trainer computes,
    whatever computes it; of accumulated batches their mean. Gradients are measured before they are
    clipped, except with fp16's loss scaling. Its state is in the Trainer's checkpoints
    (``scheduler.pt``), of which ``train(resume_from_checkpoint=...)`` goes on exactly.

    The Trainer's logs get ``lr/GROUP``. ``scheduler`` is the :class:`PolicyLR`, from the training's
    start on.

    Args:
        policy: a policy, or what :func:`asg_env.policies.load` takes.
        groups: layer groups of the model, see :func:`asg_env.schedulers.param_groups`; None: its
            defaults. Of an optimizer that the Trainer was given, the param groups' ``"name"``
            count.
        total_steps: optimizer steps of the whole run; None: the Trainer's.
        window: optimizer steps of one decision; None: a twentieth of the run.
        start_scale: learning rate before the first decision, as a share of the Trainer's.
        seed: of what the policy draws, if it draws.
    """

    scheduler: PolicyLR | None = None

    def __init__(
        self,
        policy: Policy | str,
        groups: GroupsLike | None = None,
        total_steps: int | None = None,
        window: int | None = None,
        start_scale: float | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.groups, self.total_steps = policy, groups, total_steps
        self._options = {"window": window, "start_scale": start_scale, "seed": seed}
        self._proxy: TrainerScheduler | None = None

    def attach(self, trainer: Trainer) -> PolicyLRCallback:
        """Make a Trainer train with the policy's learning rates; before ``trainer.train()``.

        Returns:
            The callback itself.

        Raises:
            ValueError: what does not fit, and what to do.
        """
        _check(trainer)
        if trainer.optimizer is None:
            trainer.optimizer = layered_optimizer(trainer, self.groups)
        self._proxy = TrainerScheduler(trainer.optimizer)
        trainer.lr_scheduler = self._proxy  # type: ignore[assignment]
        trainer.add_callback(self)
        self._listen(trainer, self._proxy)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The length of the run is known."""
        if self._proxy is None:
            raise ValueError("PolicyLRCallback: call attach(trainer) instead of passing callbacks=")
        total = self.total_steps or state.max_steps
        self.scheduler = self._proxy.start(self.policy, total, self._options)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A new optimizer step: what a skipped one left is dropped."""
        assert self._proxy is not None
        self._proxy.losses.clear()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the optimizer go."""
        if self.scheduler is not None:
            self.scheduler.close()

    def _listen(self, trainer: Trainer, proxy: TrainerScheduler) -> None:
        """Hear of losses, and add the learning rates to what is logged."""
        training_step, log = trainer.training_step, trainer.log

        def heard_step(*args: Any, **kwargs: Any) -> Tensor:
            loss = training_step(*args, **kwargs)
            proxy.losses.append(loss.detach())
            accelerator = trainer.accelerator
            if accelerator.sync_gradients and accelerator.scaler is None and self.scheduler:
                self.scheduler.gradients()
            return loss

        def fuller_log(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            rates = proxy.used if "learning_rate" in logs else {}
            log({**logs, **{f"lr/{name}": rate for name, rate in rates.items()}}, *args, **kwargs)

        trainer.training_step, trainer.log = heard_step, fuller_log  # type: ignore[method-assign]


class TrainerScheduler:
    """What the Trainer takes for its scheduler: a PolicyLR that hears of the loss elsewhere.

    ``losses``: of the micro-batches of this optimizer step, which add up to the batch's mean.
    ``used``: learning rates of the last step.

    Args:
        optimizer: the Trainer's.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.losses: list[Tensor] = []
        self.used: dict[str, float] = {}
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._scheduler: PolicyLR | None = None
        self._saved: Mapping[str, Any] = {}

    def start(self, policy: Policy | str, total: int, options: Mapping[str, Any]) -> PolicyLR:
        """A run begins, or goes on where the state that was loaded was taken."""
        for group, base in zip(self.optimizer.param_groups, self._base, strict=True):
            group["lr"] = base  # whatever an earlier run, or a restored optimizer, left
        self._scheduler = PolicyLR(self.optimizer, policy, total, **options)
        if self._saved:
            self._scheduler.load_state_dict(self._saved)
        self._saved = {}
        return self._scheduler

    def step(self) -> None:
        """The optimizer has stepped."""
        assert self._scheduler is not None
        self.used = self._scheduler.rates()
        if self.losses:
            self._scheduler.step(torch.stack(self.losses).sum())
            self.losses.clear()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each param group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The PolicyLR's."""
        return {} if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep a state until the run begins."""
        self._saved = state


def layered_optimizer(trainer: Trainer, groups: GroupsLike | None = None) -> Optimizer:
    """The optimizer that a Trainer's arguments ask for, its weights in layer groups.

    Each layer group is two param groups of one name, with and without weight decay.

    Args:
        trainer: whose model and arguments.
        groups: see :func:`asg_env.schedulers.param_groups`.

    Raises:
        ValueError: an optimizer that makes its own param groups, as GaLore.
    """
    model = trainer.model
    assert isinstance(model, nn.Module)
    kind, options = trainer.optimizer_cls_and_kwargs or trainer.get_optimizer_cls_and_kwargs(
        trainer.args,
        model,  # type: ignore[arg-type]
    )
    if own := {"params", "model", "optimizer_dict"} & set(options) or not isinstance(kind, type):
        raise ValueError(
            f"optim={trainer.args.optim!r} makes its own param groups ({own}): pass "
            "optimizers=(optimizer, None) to the Trainer, with param groups that have a 'name'"
        )
    side = getattr(model.config, "image_size", 224)
    decayed = set(trainer.get_decay_parameter_names(model))
    names = {id(p): name for name, p in model.named_parameters()}
    table = []
    for group in param_groups(model, groups, side if isinstance(side, int) else 224):
        parts: dict[bool, list[Tensor]] = {True: [], False: []}
        for p in group["params"]:
            parts[names[id(p)] in decayed].append(p)
        decay = {True: trainer.args.weight_decay, False: 0.0}
        table += [
            {"params": part, "name": group["name"], "weight_decay": decay[kept]}
            for kept, part in parts.items()
            if part
        ]
    return kind(table, **options)


def _check(trainer: Trainer) -> None:
    if trainer.model_init is not None:
        raise ValueError("the Trainer has a model_init, which makes its optimizer anew: pass model")
    if trainer.lr_scheduler is not None:
        raise ValueError(
            f"the Trainer has a scheduler ({type(trainer.lr_scheduler).__name__}), which would "
            "overwrite the policy's learning rates: pass optimizers=(optimizer, None), or none"
        )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ValueError(
            "FSDP and DeepSpeed shard the weights, of which the policy must see whole layer "
            "groups: train on one device, or data-parallel without them"
        )
