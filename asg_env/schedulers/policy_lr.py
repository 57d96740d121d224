"""A policy sets the learning rates of a training loop of your own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from asg_env.control.actions import ACTIONS
from asg_env.control.meter import Meter, Probe, WindowStats
from asg_env.control.observations import OBSERVATIONS, Measurement, Observer
from asg_env.control.windows import fixed_windows
from asg_env.policies.base import Policy, check_policy
from asg_env.policies.loading import load
from asg_env.schedulers.groups import Layers, layers_of

DECISIONS = 20  # of a run, where no window is given
UNKNOWN = ("head_mean", "head_std", "feature_kl")  # signals that a plain loop does not have
KL_SIGNALS = ("kl", "kl_share")


class Rates(NamedTuple):
    """Learning rates from an optimizer step on: ``step``, and ``rates`` of each layer group."""

    step: int
    rates: dict[str, float]


class PolicyLR:
    """Sets the learning rate of each layer group at every window, as the environment does.

    Call :meth:`step` with the loss after each ``optimizer.step()``; a step that AMP's
    ``GradScaler`` skipped does not count. Learning rates are relative to those that the optimizer
    was given: the policy starts at a share of them (``start_scale``) and finds its way from there.

    Args:
        optimizer: any that steps without a closure, one param group for each layer group, or
            several (``asg_env.schedulers.param_groups(model)`` makes them); it must not get further
            param groups later.
        policy: a policy, or what :func:`asg_env.policies.load` takes; its observation must be one
            that a loop can measure (``"loop"``).
        total_steps: optimizer steps of the whole run.
        window: optimizer steps of one decision; None: a twentieth of the run.
        groups: a name for each param group, in forward order; param groups of one name are one
            layer group. None: the param groups' ``"name"`` where all have one, else each is one.
        start_scale: learning rate before the first decision, as a share of the optimizer's, > 0;
            None: the policy's, or its action kind's.
        seed: of what the policy draws, if it draws.

    ``history`` holds the learning rates of every decision so far, see :class:`Rates`; ``stepped``
    says whether the optimizer has stepped since the last call of :meth:`step`. Where several
    processes train one network, all take the mean of their losses, and so decide alike.

    Raises:
        TypeError, ValueError: what does not fit, and what to do.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy | str,
        total_steps: int,
        window: int | None = None,
        groups: Sequence[str] | None = None,
        start_scale: float | None = None,
        seed: int = 0,
    ) -> None:
        self.policy: Any = load(policy) if isinstance(policy, str) else policy
        check_policy(self.policy)
        self.optimizer, self.seed = optimizer, seed
        self.layers: Layers = layers_of(optimizer, groups)
        _check_count("total_steps", total_steps)
        if window is not None:
            _check_count("window", window)
        self.windows = fixed_windows(window or max(1, total_steps // DECISIONS), total_steps)
        self.total_steps = total_steps
        self._kind = ACTIONS.find(self.policy.env_kwargs.get("action", "discrete"))
        self.start_scale = float(
            start_scale or self.policy.env_kwargs.get("start_scale") or self._kind.start
        )
        signals = OBSERVATIONS.find(self.policy.env_kwargs.get("observation", "loop"))
        _check_signals(self.policy, [s.name for s in signals])
        self._observer = Observer(signals, self.layers.names)
        self._needs_kl = any(s.name in KL_SIGNALS for s in signals)
        self._meter = Meter(self.layers.params, self._observer.directions)
        self._handle = optimizer.register_step_pre_hook(self._before_step)
        self._observations: list[np.ndarray] = []
        self._kl: Tensor | float | None = None
        self._unclipped: list[Tensor] | None = None
        self.stepped = self._warned = False
        self.last_epoch = self.decision = 0
        self._losses = (np.nan, np.nan)  # CE of the first step, and of the last window
        self.history: list[Rates] = []
        self.scales = np.full(len(self.layers.names), self.start_scale)
        self.policy.begin(self.layers.names, self._observer.names, seed)
        self._decide(self._observer.observe(self._measured(self._at_start(), 0)))

    # -- the loop's calls -------------------------------------------------------------------------

    def gradients(self) -> None:
        """Call it before you clip gradients, so that they are measured as they are; else what the
        optimizer gets is measured."""
        self._unclipped = [gradient.clone() for gradient in self._meter.found()]

    def observe(self, kl: Tensor | float) -> None:
        """The KL to a frozen pretrained network in this step, nats, for a policy that sees it."""
        self._kl = kl

    def step(self, loss: Tensor | float) -> None:
        """One optimizer step is done.

        Args:
            loss: of the batch, before that step; the task's, without penalties.
        """
        if not self.stepped:
            self._not_stepped()
            return
        if self.last_epoch >= self.total_steps:
            return  # the run is over: the last learning rates stay
        self.stepped = False
        kl = torch.as_tensor(0.0 if self._kl is None else self._kl)
        if self._needs_kl and self._kl is None:
            raise ValueError(
                f"policy {self.policy.name!r} sees the KL to a frozen network: call "
                "observe(kl=...) in every step, or take a policy of observation='loop'"
            )
        device = self._meter.params[0].device
        parts = [torch.as_tensor(v, dtype=torch.float32, device=device) for v in (loss, kl)]
        values = _mean_over_processes(torch.stack([v.detach().reshape(()) for v in parts]))
        self._meter.losses(values)
        self._kl = None
        self.last_epoch += 1
        if np.isnan(self._losses[0]):
            first = float(values[0])
            self._losses = (first, first)
        if self.last_epoch == sum(self.windows[: self.decision]):
            self._end_window()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each param group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def rates(self) -> dict[str, float]:
        """The learning rate of each layer group; of several param groups, the first one's."""
        return self.layers.rates(self.optimizer)

    def close(self) -> None:
        """Let the optimizer go; the learning rates stay as they are."""
        self._handle.remove()

    def measure(self) -> None:
        """Measure the gradients of one optimizer step, which the optimizer calls by itself.

        A loop that steps through a closure calls :meth:`close` first, and then this in every step.

        Raises:
            ValueError: param groups were added.
        """
        self.layers.check_same(self.optimizer)
        self._meter.gradients(self._unclipped)
        self._unclipped, self.stepped = None, True

    # -- a window ---------------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if any(a is not None for a in args[1:]) or kwargs.get("closure") is not None:
            raise TypeError(
                "PolicyLR: optimizer.step() got a closure, which may train several times: call "
                "backward() yourself and step() without one"
            )
        self.measure()

    def _not_stepped(self) -> None:
        """No step since the last call: AMP skipped it, or gradients are being accumulated."""
        self._unclipped = None
        if not self._warned and not self.last_epoch:
            self._warned = True
            warnings.warn(
                "PolicyLR.step(): the optimizer has not stepped since the last call; such calls do "
                "not count (call it after optimizer.step())",
                stacklevel=3,
            )

    def _end_window(self) -> None:
        window = self._meter.end()
        observation = self._observer.observe(
            self._measured(window, self.windows[self.decision - 1])
        )
        self._losses = (self._losses[0], window.ce)
        if self.decision < len(self.windows):
            self._decide(observation)

    def _measured(self, window: WindowStats, steps: int) -> Measurement:
        nothing = np.zeros(len(self.layers.names))
        return Measurement(
            window=window,
            probe=Probe(0.0, 0.0, self._meter.drift(), nothing),
            progress=self.last_epoch / self.total_steps,
            lr_scale=self.scales,
            steps=steps,
            left=len(self.windows) - self.decision,
            ce_before=self._losses[1],
            ce_start=self._losses[0],
            start_scale=self.start_scale,
        )

    def _at_start(self) -> WindowStats:
        """What is known before the first step: nothing has moved."""
        zero = np.zeros(len(self.layers.names))
        return WindowStats(0.0, 0.0, zero, zero, True, alignment=zero, gradient_noise=zero)

    def _decide(self, observation: np.ndarray) -> None:
        self._observations.append(observation)
        action = self.policy.act(observation)
        self.scales = self._kind.scales(action, self.scales, self.layers.names)
        self.layers.set_lr(self.optimizer, self.scales)
        self.history.append(Rates(sum(self.windows[: self.decision]), self.rates()))
        self.decision += 1
        self._meter.begin()

    # -- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, tensors and plain values; the policy itself, its
        arguments and the optimizer's state are not in it."""
        return {
            "last_epoch": self.last_epoch,
            "decision": self.decision,
            "losses": list(self._losses),
            "base_lrs": list(self.layers.base_lrs),
            "observations": torch.from_numpy(np.stack(self._observations)),
            "policy": self.policy.digest,
            "total_steps": self.total_steps,
            "windows": list(self.windows),
            "meter": self._meter.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, with an equal policy and equal arguments.

        Raises:
            ValueError: the state is of another policy or another run.
        """
        for name, own in (
            ("policy", self.policy.digest),
            ("total_steps", self.total_steps),
            ("windows", list(self.windows)),
        ):
            if state[name] != own:
                raise ValueError(
                    f"PolicyLR.load_state_dict(): {name} was {state[name]!r}, is {own!r}: make the "
                    "scheduler with the same policy and arguments"
                )
        self.layers.base_lrs[:] = state["base_lrs"]
        self.policy.begin(self.layers.names, self._observer.names, self.seed)
        self.scales = np.full(len(self.layers.names), self.start_scale)
        self.decision, self._observations, self.history = 0, [], []
        for observation in state["observations"].numpy():
            self._decide(observation)  # a policy is a function of what it saw
        self.last_epoch, self._losses = state["last_epoch"], tuple(state["losses"])
        self._meter.load_state_dict(state["meter"])


def _mean_over_processes(values: Tensor) -> Tensor:
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    distributed.all_reduce(values)
    return values / distributed.get_world_size()


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}: expected an int >= 1")


def _check_signals(policy: Any, names: Sequence[str]) -> None:
    if missing := [name for name in names if name in UNKNOWN]:
        raise ValueError(
            f"policy {policy.name!r} sees {', '.join(missing)}, which a plain training loop does "
            "not have: take a policy that was trained with observation='loop'"
        )
