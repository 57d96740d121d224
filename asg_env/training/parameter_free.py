"""Optimizers that find their learning rates themselves: what a policy of learning rates must beat.

LDoG and Prodigy look at distances and gradients alone: what the environment writes into
``group["lr"]`` does not matter to them. Hypergradient descent starts from it. LDoG's and Prodigy's
packages are imported when one is made: ``pip install "asg_env[rivals]"``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

AVERAGE = 8.0  # gamma of LDoG's average (its authors')
DISTANCE = 1e-2  # LDoG's first, over 1 + |weights|: its authors' 1e-6 or 1e-4 wants longer runs
ESTIMATE = 1e-4  # Prodigy's first: 1e-6, the package's, is still growing after 60 steps
RATE = 0.3  # of hypergradient descent: how much a learning rate may change in a step


def package(name: str, of: str) -> Any:
    """An optional package; ImportError, saying how to get it, if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"optimizer={of!r} needs a package that is not installed ({error}): pip install "
            '"asg_env[rivals]"'
        ) from error


def _closure_refused(closure: Any) -> None:
    if closure is not None:
        raise ValueError("step() takes no closure here: compute the gradients before it")


class Wrapped(torch.optim.Optimizer):
    """An optimizer of another package whose whole state lies in ``state``, by weight.

    So snapshots keep it as they keep any other's. ``train()`` and ``eval()``, as schedule-free
    optimizers have them: the weights to train with, and those to measure and to use.
    """

    inner: torch.optim.Optimizer

    def __init__(self, params: Any, inner: Callable[[Any], torch.optim.Optimizer]) -> None:
        super().__init__(params, {"lr": 1.0})
        groups = [{"params": group["params"]} for group in self.param_groups]
        with contextlib.redirect_stdout(io.StringIO()):  # they greet
            self.inner = inner(groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update; weights without a gradient get one of zeros. ``closure`` is refused."""
        _closure_refused(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        self.give()
        self.inner.step()
        self.take()

    def own(self) -> Iterable[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Each group's weights and, of the package's optimizer, the group itself."""
        return zip(self.param_groups, self.inner.param_groups, strict=True)

    @abstractmethod
    def give(self) -> None:
        """Put ``state`` into the package's optimizer."""

    @abstractmethod
    def take(self) -> None:
        """Take it back."""

    def train(self) -> None:
        """The weights to train with."""

    def eval(self) -> None:
        """The weights to measure and to use."""


class LDoG(Wrapped):
    """Layer-wise Distance over Gradients (Ivgi et al., 2023), ``dog-optimizer``'s.

    Each tensor's step is its largest distance from the start over the root of its summed squared
    gradients. Between :meth:`eval` and :meth:`train` the weights are their polynomial average with
    gamma 8, without which its authors do not recommend it.

    Args:
        params: as of any optimizer.
        lr: is not looked at; theirs is 1.
        weight_decay: added to the gradient, x weights.
        averaged: whether it averages.
    """

    def __init__(
        self, params: Any, lr: float = 1.0, weight_decay: float = 0.0, averaged: bool = True
    ) -> None:
        kind = package("dog", "ldog").LDoG
        super().__init__(
            params, lambda groups: kind(groups, reps_rel=DISTANCE, weight_decay=weight_decay)
        )
        self.averaged = averaged

    def give(self) -> None:
        """A group's distances and sums are one tensor each there, and a number of each tensor."""
        self.inner._first_step = not self.state  # type: ignore[attr-defined]
        if not self.state:
            return
        for group, inner in self.own():
            states = [(p, self.state[p]) for p in group["params"]]
            inner["init_buffer"] = [s["start"].to(p.device) for p, s in states]
            for theirs, ours in (("rbar", "distance"), ("G", "squares")):
                inner[theirs] = torch.stack([s[ours].to(p.device) for p, s in states])

    def take(self) -> None:
        """And the average, of the weights after the step."""
        for group, inner in self.own():
            for k, p in enumerate(group["params"]):
                state = self.state[p]
                state["start"] = inner["init_buffer"][k]
                state["distance"], state["squares"] = (
                    inner["rbar"][k].clone(),
                    inner["G"][k].clone(),
                )
                if self.averaged:
                    _average(state, p)

    def eval(self) -> None:
        """The averages take the place of the weights."""
        self._swap(False)

    def train(self) -> None:
        """The weights come back."""
        self._swap(True)

    @torch.no_grad()
    def _swap(self, training: bool) -> None:
        for p, state in self.state.items():
            if "average" in state and bool(state.get("away", False)) == training:
                here = p.clone()
                p.copy_(state["average"])
                state["average"] = here
                state["away"] = torch.tensor(not training)


def _average(state: dict[str, Any], weights: Tensor) -> None:
    """Shamir and Zhang's average, as in dog-optimizer's ``PolynomialDecayAverager``."""
    steps = int(state.get("steps", 0)) + 1
    state["steps"] = torch.tensor(steps)
    share = (AVERAGE + 1) / (AVERAGE + steps)
    before = state.get("average", weights)
    state["average"] = before * (1 - share) + weights * share


class Prodigy(Wrapped):
    """Prodigy (Mishchenko and Defazio, 2024) with one estimate for each layer group,
    ``prodigy-plus-schedule-free``'s with ``split_groups=True``.

    It is schedule-free: without that Prodigy wants a schedule beside it, and schedules are the
    policies' here. Second moments are not factored, which is only to save memory.

    Args:
        params: as of any optimizer.
        lr: is not looked at; theirs is 1.
        weight_decay: decoupled.
        schedule_free: False: plain Prodigy at its constant factor.
    """

    NUMBERS = (
        *("d", "d_prev", "d_numerator", "d_denom", "prev_d_numerator", "max_d_numerator"),
        *("k", "weight_sum", "running_weight_sum", "train_mode"),
    )
    """What a group remembers; kept with its first weight."""

    def __init__(
        self, params: Any, lr: float = 1.0, weight_decay: float = 0.0, schedule_free: bool = True
    ) -> None:
        kind = package("prodigyplus", "prodigy").ProdigyPlusScheduleFree
        super().__init__(
            params,
            lambda groups: kind(
                groups,
                weight_decay=weight_decay,
                d0=ESTIMATE,
                split_groups=True,
                factored=False,
                use_schedulefree=schedule_free,
            ),
        )

    def give(self) -> None:
        """Numbers there, tensors here."""
        for group, inner in self.own():
            for k, p in enumerate(group["params"]):
                state = {n: v for n, v in self.state.get(p, {}).items()}
                numbers = {n: state.pop(f"group_{n}", None) for n in self.NUMBERS}
                if k == 0:
                    inner |= {n: v.item() for n, v in numbers.items() if v is not None}
                self.inner.state[p] = {n: v.to(p.device) for n, v in state.items()}

    def take(self) -> None:
        """The other way."""
        for group, inner in self.own():
            for k, p in enumerate(group["params"]):
                self.state[p] = {n: _dense(v) for n, v in self.inner.state[p].items()}
                if k == 0:
                    self.state[p] |= {
                        f"group_{n}": torch.tensor(inner[n], dtype=_kind(inner[n]))
                        for n in self.NUMBERS
                        if n in inner
                    }

    def train(self) -> None:
        """The weights at which gradients are taken."""
        self._mode("train")

    def eval(self) -> None:
        """The averages."""
        self._mode("eval")

    def _mode(self, name: str) -> None:
        if self.state:
            self.give()
            getattr(self.inner, name)()
            self.take()


def _dense(values: Tensor) -> Tensor:
    """The same; a list of numbers without gaps between them, as files hold it."""
    return values if values.dim() != 1 or values.stride(0) == 1 else torch.stack([*values])


def _kind(number: float | bool) -> torch.dtype:
    if isinstance(number, bool):
        return torch.bool
    return torch.int64 if isinstance(number, int) else torch.float64


class Hypergradient(torch.optim.Optimizer):
    """SGD with momentum whose learning rates follow their own gradients (Baydin et al., 2018).

    The multiplicative rule, one learning rate for each group: before a step it is multiplied by
    1 + rate x the cosine of the gradient and the last step's direction. It starts at what
    ``group["lr"]`` says, and is multiplied by what changes there later.

    Args:
        params: as of any optimizer.
        lr: learning rate that it starts with.
        momentum: in [0, 1).
        weight_decay: added to the gradient, x weights; not part of the hypergradient.
        rate: in [0, 1).
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        rate: float = RATE,
    ) -> None:
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "rate": rate}
        super().__init__(params, own)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update. ``closure`` is refused."""
        _closure_refused(closure)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients = [p.grad for p in params]
            for p in params:
                self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                self.state[p].setdefault("factor", torch.tensor(1.0, dtype=torch.float64))
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            factor = float(self.state[params[0]]["factor"])
            factor *= 1 + group["rate"] * _cosine(gradients, buffers)
            for p in params:
                self.state[p]["factor"] = torch.tensor(factor, dtype=torch.float64)
            torch._foreach_mul_(buffers, group["momentum"])
            decayed = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
            torch._foreach_add_(buffers, decayed)
            torch._foreach_add_(params, buffers, alpha=-group["lr"] * factor)


def _cosine(one: list[Any], other: list[Tensor]) -> float:
    """Of two lists of tensors as two vectors; 0 if one of them is 0 or is not finite."""
    products = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    sizes = torch.stack([torch.stack(torch._foreach_norm(x)).norm() for x in (one, other)]).prod()
    value = float(products / sizes)
    return value if -1.5 < value < 1.5 else 0.0
