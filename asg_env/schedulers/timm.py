"""PolicyLR as a scheduler of timm's training loops::

optimizer = create_optimizer_v2(param_groups(model), opt="sgd", lr=0.1)
scheduler = PolicyScheduler(optimizer, "asg-lr-1", total_steps=epochs * updates_per_epoch)
...
scheduler.step_update(num_updates, metric=loss)  # after each optimizer update
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.scheduler.scheduler import Scheduler
from torch import Tensor
from torch.optim import Optimizer

from asg_env.policies.base import Policy
from asg_env.schedulers.policy_lr import PolicyLR


class PolicyScheduler(Scheduler):
    """Sets an optimizer's learning rates at every window of updates, see :class:`PolicyLR`.

    A param group's ``lr_scale`` (timm's layer decay) is taken into its base learning rate. The
    scheduler's state is not in the checkpoints of timm's ``train.py``: keep ``state_dict()``.
    ``policy_lr`` is the :class:`PolicyLR`.

    Args:
        optimizer: with one param group for each layer group, or several of one name.
        policy: a policy, or what :func:`asg_env.policies.load` takes.
        total_steps: updates of the whole run.
        groups: a name for each param group; None: their ``"name"``, or those with one ``lr_scale``
            are one layer group.
        options: further arguments of :class:`PolicyLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy | str,
        total_steps: int,
        groups: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self.optimizer, self.metric, self.num_updates = optimizer, None, 0
        self.t_in_epochs, self.param_group_field = False, "lr"
        table = optimizer.param_groups
        scaled = all("lr_scale" in group and "name" not in group for group in table)
        if groups is None and scaled:
            groups = [f"scale{group['lr_scale']:.4g}" for group in table]
        for group in table:
            initial = group.setdefault("initial_lr", float(group["lr"]))  # as timm keeps it
            group["lr"] = initial * group.get("lr_scale", 1.0)
        self.base_values = [float(group["lr"]) for group in table]
        self.policy_lr = PolicyLR(optimizer, policy, total_steps, groups=groups, **options)

    def step_update(self, num_updates: int, metric: float | Tensor | None = None) -> None:
        """An optimizer update is done.

        A call before any update, as ``train.py`` makes one when it goes on, changes nothing.

        Args:
            num_updates: so far, this one included.
            metric: the update's mean loss.

        Raises:
            ValueError: no loss, or updates were left out.
        """
        self.metric = metric  # type: ignore[assignment]
        if not self.policy_lr.stepped:
            if num_updates == self.num_updates + 1:
                self.num_updates = num_updates  # AMP skipped it
            return
        if num_updates != self.num_updates + 1:
            raise ValueError(
                f"num_updates={num_updates} follows {self.num_updates}: call step_update() after "
                "every optimizer update; where a run goes on, load_state_dict() first"
            )
        if metric is None:
            raise ValueError("step_update(): the policy sees the loss: pass metric=loss")
        self.num_updates = num_updates
        self.policy_lr.step(metric)

    def step(self, epoch: int, metric: float | None = None) -> None:
        """An epoch is over: learning rates change with updates only."""

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, see :meth:`PolicyLR.state_dict`."""
        return {"num_updates": self.num_updates, "policy_lr": self.policy_lr.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; see :meth:`PolicyLR.load_state_dict`."""
        self.policy_lr.load_state_dict(state_dict["policy_lr"])
        self.num_updates = state_dict["num_updates"]

    def _get_lr(self, t: int) -> list[float]:
        return self.policy_lr.get_last_lr()
