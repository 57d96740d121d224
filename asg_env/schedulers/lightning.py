"""PolicyLR in PyTorch Lightning's Trainer.

Works with ``lightning`` and with ``pytorch_lightning``::

    trainer = Trainer(max_epochs=10, callbacks=[PolicyLRCallback("asg-lr-1")])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from asg_env.policies.base import Policy
from asg_env.schedulers.policy_lr import PolicyLR

try:
    from lightning.pytorch import Callback
except ImportError:  # the other name of the same package
    from pytorch_lightning import Callback  # type: ignore[assignment]

SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class PolicyLRCallback(Callback):
    """Sets the learning rates of the module's optimizer, see :class:`PolicyLR`.

    The module optimizes automatically, with one optimizer and without a scheduler of its own; its
    ``configure_optimizers`` gives the optimizer param groups, as ``param_groups(self.network)``
    makes them. Of accumulated batches the policy sees the mean loss. Gradients are measured before
    they are clipped. A batch for which ``training_step`` returned None does not count, nor does one
    whose step AMP skipped. Its state is in the trainer's checkpoints, of which a run goes on
    exactly.

    Learning rates are logged, as ``lr/GROUP``, to the trainer's loggers at every decision.
    ``scheduler`` is the :class:`PolicyLR`, from the training's start on.

    Args:
        policy: a policy, or what :func:`asg_env.policies.load` takes.
        groups: a name for each param group; None: their ``"name"``.
        total_steps: optimizer steps of the whole run; None: the trainer's
            ``estimated_stepping_batches``.
        window: optimizer steps of one decision; None: a twentieth of the run.
        start_scale: learning rate before the first decision, as a share of the optimizer's.
        seed: of what the policy draws, if it draws.

    Raises:
        ValueError, TypeError: when training starts: what does not fit, and what to do.
    """

    scheduler: PolicyLR | None = None

    def __init__(
        self,
        policy: Policy | str,
        groups: Sequence[str] | None = None,
        total_steps: int | None = None,
        window: int | None = None,
        start_scale: float | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.total_steps = policy, total_steps
        self._options: dict[str, Any] = {
            "groups": groups,
            "window": window,
            "start_scale": start_scale,
            "seed": seed,
        }
        self._saved: Mapping[str, Any] = {}
        self._losses: list[Tensor] = []
        self._tried = self._stepped = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The optimizer is there, and restored if the run goes on."""
        optimizer, saved = _optimizer(trainer, pl_module), self._saved
        for group, base in zip(optimizer.param_groups, saved.get("base_lrs", ()), strict=False):
            _set_lr(group, base)  # a restored optimizer has those of its last step
        total = self.total_steps or _total_steps(trainer)
        self.scheduler = PolicyLR(optimizer, self.policy, total, **self._options)
        self.scheduler.close()  # Lightning steps through a closure: this callback measures
        self._handle = optimizer.register_step_post_hook(self._after_step)
        self._losses, self._tried, self._stepped, self._saved = [], False, False, {}
        if saved:
            self.scheduler.load_state_dict(saved)
        else:
            self._log(trainer)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Gradients are there, and not clipped yet."""
        assert self.scheduler is not None
        self.scheduler.gradients()
        self._tried = True

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Of a step's last batch, the step is done."""
        assert self.scheduler is not None
        if isinstance(outputs, Mapping) and outputs.get("loss") is not None:
            self._losses.append(outputs["loss"] * trainer.accumulate_grad_batches)
        if not self._tried:
            return  # gradients are being accumulated
        if self._stepped and self._losses:
            decision = self.scheduler.decision
            self.scheduler.measure()
            self.scheduler.step(torch.stack(self._losses).mean())
            if self.scheduler.decision > decision:
                self._log(trainer)
        self._losses, self._tried, self._stepped = [], False, False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let the optimizer go."""
        self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's, for the trainer's checkpoints."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until the optimizer is there."""
        self._saved = state_dict

    def _after_step(self, *_: Any) -> None:
        self._stepped = True

    def _log(self, trainer: Any) -> None:
        assert self.scheduler is not None
        rates = {f"lr/{name}": rate for name, rate in self.scheduler.rates().items()}
        for logger in trainer.loggers:
            logger.log_metrics(rates, step=trainer.global_step)


def _optimizer(trainer: Any, module: Any) -> Optimizer:
    """The one optimizer of a training that a policy can steer; ValueError for any other."""
    if not module.automatic_optimization:
        raise ValueError(
            "PolicyLRCallback works with automatic optimization only: in a manual one, make a "
            "PolicyLR yourself and call its step(loss) after optimizer.step()"
        )
    if len(trainer.optimizers) != 1:
        raise ValueError(
            f"configure_optimizers() gives {len(trainer.optimizers)} optimizers: PolicyLRCallback "
            "steers one; put all weights into its param groups"
        )
    if trainer.lr_scheduler_configs:
        own = type(trainer.lr_scheduler_configs[0].scheduler).__name__
        raise ValueError(
            f"configure_optimizers() gives a scheduler ({own}), which would overwrite the policy's "
            "learning rates: return the optimizer alone"
        )
    if type(trainer.strategy).__name__ in SHARDED:
        raise ValueError(
            f"strategy {type(trainer.strategy).__name__} shards the weights, of which the policy "
            "must see whole layer groups: take strategy='ddp' or one device"
        )
    return trainer.optimizers[0]


def _total_steps(trainer: Any) -> int:
    total = trainer.estimated_stepping_batches
    if total == float("inf"):
        raise ValueError(
            "the trainer's run has no end (max_epochs=-1, or a loader without a length): pass "
            "total_steps to PolicyLRCallback, or max_steps to the trainer"
        )
    return int(total)


def _set_lr(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr
