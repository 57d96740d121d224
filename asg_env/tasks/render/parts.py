"""Parametric objects as parts: balls, boxes, rods and rings, for many instances at once.

An object's own space: x ahead (its long axis), y to its left, z up; units are arbitrary, because
the camera fits the object into the image. Every coordinate is a number or an (N,) array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from asg_env.tasks.render.solids import BOX, RING, ROUND

Scalar = float | np.ndarray
Point = tuple[Scalar, Scalar, Scalar]

BALL_PROFILE = (1.0, 0.0, -1.0)  # x^2 + y^2 <= 1 - z^2
NO_PROFILE = (0.0, 0.0, 0.0)


class Paint(IntEnum):
    """What a part is made of; :data:`COLOURS` says what that looks like."""

    BODY = 0
    TRIM = 1
    DARK = 2
    GLASS = 3
    METAL = 4
    WOOD = 5
    LEAF = 6
    COAT = 7
    SKIN = 8
    PALE = 9


Ranges = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

COLOURS: dict[Paint, Ranges] = {
    Paint.BODY: ((0.0, 1.0), (0.3, 0.9), (0.4, 0.95)),
    Paint.TRIM: ((0.0, 1.0), (0.2, 0.9), (0.3, 0.95)),
    Paint.DARK: ((0.0, 1.0), (0.0, 0.2), (0.05, 0.22)),
    Paint.GLASS: ((0.5, 0.65), (0.1, 0.4), (0.15, 0.4)),
    Paint.METAL: ((0.5, 0.7), (0.0, 0.1), (0.45, 0.85)),
    Paint.WOOD: ((0.05, 0.1), (0.4, 0.8), (0.3, 0.7)),
    Paint.LEAF: ((0.22, 0.4), (0.4, 0.9), (0.25, 0.7)),
    Paint.COAT: ((0.03, 0.1), (0.1, 0.7), (0.15, 0.85)),
    Paint.SKIN: ((0.03, 0.09), (0.25, 0.6), (0.4, 0.95)),
    Paint.PALE: ((0.0, 1.0), (0.0, 0.15), (0.75, 1.0)),
}
"""Ranges of hue, saturation and value, each in [0, 1]."""


class Part(NamedTuple):
    """One solid of N instances: ``linear`` (N, 3, 3) and ``centre`` (N, 3) map it from unit space.

    ``profile`` (N, 4) as in :class:`asg_env.tasks.render.solids.Solids`.
    """

    kind: int
    linear: np.ndarray
    centre: np.ndarray
    profile: np.ndarray
    paint: Paint

    def reach(self, direction: np.ndarray) -> np.ndarray:
        """Half the part's extent (N,) along unit vectors ``direction`` (N, 3)."""
        along = np.abs(np.einsum("ni,nij->nj", direction, self.linear))
        if self.kind == BOX:
            return along.sum(1)
        flat = np.hypot(along[:, 0], along[:, 1])
        if self.kind == RING:
            return flat
        ball = self.profile[:, 2] == BALL_PROFILE[2]
        wider = np.maximum(1.0, self.profile[:, :3].sum(1)) ** 0.5  # a cone's end may be its base
        return np.where(ball, np.hypot(flat, along[:, 2]), flat * wider + along[:, 2])


class Sculpture:
    """Collects the parts of N instances of one class.

    Args:
        rng: shapes.
        count: N.
        models: how many different shapes there are; instance i shows shape ``i % models``.
        span: the share of every parameter's range that is used, within (0, 1).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        count: int,
        models: int | None = None,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.parts: list[Part] = []
        self.count, self._span, self._rng = count, span, rng
        self._models = models or count
        self._which = np.arange(count) % self._models

    def draw(self, low: float, high: float) -> np.ndarray:
        """A shape parameter (N,) between ``low`` and ``high``."""
        share = self._rng.uniform(*self._span, self._models)
        return (low + (high - low) * share)[self._which]

    def toss(self, low: float, high: float) -> np.ndarray:
        """A pose parameter (N,), uniform, one for each shape, whatever the span."""
        return self._rng.uniform(low, high, self._models)[self._which]

    def ball(
        self, centre: Point, radii: Point, paint: Paint, up: Point = (0, 0, 1), cut: Scalar = -1.0
    ) -> None:
        """An ellipsoid, its third radius along ``up``; only its part above ``cut`` in (-1, 1)."""
        linear = self._frame(self._stack(up)) * self._stack(radii)[:, None, :]
        self._add(ROUND, linear, self._stack(centre), paint, BALL_PROFILE, cut)

    def box(self, centre: Point, half: Point, paint: Paint, pitch: Scalar = 0.0) -> None:
        """A box of half sizes ``half``, its nose raised by ``pitch`` radians (about y)."""
        angle = self._full(pitch)
        cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(self.count)
        rows = ((cos, zero, -sin), (zero, zero + 1, zero), (sin, zero, cos))
        turn = np.stack([np.stack(row, 1) for row in rows], 1)
        self._add(BOX, turn * self._stack(half)[:, None, :], self._stack(centre), paint)

    def rod(
        self,
        start: Point,
        end: Point,
        radius: Scalar | tuple[Scalar, Scalar],
        paint: Paint,
        taper: Scalar = 1.0,
        across: Point = (0.31, 0.95, 0.11),
    ) -> None:
        """A cylinder or a cone from ``start`` to ``end``.

        Args:
            start, end: centres of its two ends.
            radius: at the start; a pair is (along ``across``, along the third axis).
            paint: its material.
            taper: radius at the end over radius at the start, in [0, 1].
            across: any direction that is not the rod's own.
        """
        first, last = self._stack(start), self._stack(end)
        axis = (last - first) / 2
        length = np.linalg.norm(axis, axis=1)
        one, two = radius if isinstance(radius, tuple) else (radius, radius)
        scale = np.stack([self._full(one), self._full(two), length], 1)
        linear = self._frame(axis, self._stack(across)) * scale[:, None, :]
        middle, slope = (1 + self._full(taper)) / 2, (self._full(taper) - 1) / 2
        profile = (middle**2, 2 * middle * slope, slope**2)
        self._add(ROUND, linear, (first + last) / 2, paint, profile)

    def ring(
        self, centre: Point, radius: Scalar, inner: float, paint: Paint, axis: Point = (0, 1, 0)
    ) -> None:
        """A flat ring; ``inner``: its hole's radius over its own."""
        linear = self._frame(self._stack(axis)) * self._full(radius)[:, None, None]
        self._add(RING, linear, self._stack(centre), paint, (inner**2, 0.0, 0.0))

    def wheel(self, centre: Point, radius: Scalar, width: Scalar, paint: Paint) -> None:
        """A disc about the y axis; ``width`` is its half thickness."""
        x, y, z = centre
        self.rod((x, y - width, z), (x, y + width, z), radius, paint, across=(1, 0, 0))

    def _add(
        self,
        kind: int,
        linear: np.ndarray,
        centre: np.ndarray,
        paint: Paint,
        profile: tuple[Scalar, Scalar, Scalar] = NO_PROFILE,
        low: Scalar = -1.0,
    ) -> None:
        rows = np.stack([self._full(value) for value in (*profile, low)], 1)
        self.parts.append(Part(kind, linear, centre, rows, paint))

    def _full(self, value: Scalar) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (self.count,))

    def _stack(self, point: Sequence[Scalar]) -> np.ndarray:
        return np.stack([self._full(value) for value in point], 1)

    def _frame(self, axis: np.ndarray, across: np.ndarray | None = None) -> np.ndarray:
        """Orthonormal columns (N, 3, 3): ``across`` made orthogonal, the third axis, ``axis``."""
        if across is None:
            vertical = np.abs(axis[:, 2:]) > 0.9 * np.linalg.norm(axis, axis=1, keepdims=True)
            across = np.where(vertical, [[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]])
        third = axis / np.linalg.norm(axis, axis=1, keepdims=True)
        second = np.cross(third, across)
        second /= np.linalg.norm(second, axis=1, keepdims=True)
        return np.stack([np.cross(second, third), second, third], 2)


Design = Callable[[Sculpture], None]
