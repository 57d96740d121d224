"""A ray caster for small scenes of quadrics, boxes and rings: vectorised, CPU, float32.

Every solid is a unit shape under an affine map. The camera is orthographic: the ray of the image
point (u, v), both from -1 to 1, is (u, v, t) with t growing away from the viewer. In a solid's unit
space that ray is affine in (u, v), so each quantity that an intersection needs is a polynomial of
degree 2 in (u, v) at most; all pixels of all solids are then one matrix product.

Unit shapes:

- ``ROUND``: x^2 + y^2 <= g0 + g1 z + g2 z^2 with low <= z <= 1 (balls, domes, cylinders, cones);
- ``BOX``: the cube [-1, 1]^3;
- ``RING``: the flat ring inner^2 <= x^2 + y^2 <= 1 in the plane z = 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from asg_env.isolation import isolated

ROUND, BOX, RING = range(3)
MISS = float("inf")
FAR = 1e4  # stands for an infinite ray parameter in sums
TINY = 1e-9  # keeps divisors away from zero
EDGE = 1e-3  # how near to z = 1 or z = low a point counts as one of the flat cap


class Solids(NamedTuple):
    """K solids in each of N scenes.

    Attributes:
        kinds: (K,) ROUND, BOX or RING; the same in every scene.
        inverse: (N, K, 3, 4) float64, from camera space (u, v, t, 1) to the unit space.
        profile: (N, K, 4) float64: g0, g1, g2 and low of a ROUND; inner^2 first of a RING.
    """

    kinds: tuple[int, ...]
    inverse: Tensor
    profile: Tensor

    def of_kind(self, *kinds: int) -> list[int]:
        """Positions of the solids of some kinds."""
        return [k for k, kind in enumerate(self.kinds) if kind in kinds]


class Hits(NamedTuple):
    """What each ray meets first; ``depth`` inf and an arbitrary ``part`` where that is nothing.

    ``depth`` (N, P) float32, ``part`` (N, P) int64 in [0, K).
    """

    depth: Tensor
    part: Tensor


class Surface(NamedTuple):
    """The M points that were hit.

    ``ray`` (M,) int64: index into the flattened (N P) rays; ``row`` (M,) int64: into the flattened
    (N K) solids; ``point`` (M, 3) in camera space; ``unit`` (M, 3) in the solid's unit space;
    ``normal`` (M, 3), length 1, turned to the viewer.
    """

    ray: Tensor
    row: Tensor
    point: Tensor
    unit: Tensor
    normal: Tensor


@lru_cache(maxsize=4)
@isolated
def pixel_grid(side: int) -> Tensor:
    """(side^2, 2) float32: (u, v) of the pixels' centres, u to the right and v up, row by row."""
    axis = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    v, u = torch.meshgrid(-axis, axis, indexing="ij")
    return torch.stack([u.flatten(), v.flatten()], 1)


@lru_cache(maxsize=4)
@isolated
def _monomials(side: int) -> Tensor:
    """(6, side^2): 1, u, v, u^2, u v, v^2."""
    u, v = pixel_grid(side).unbind(1)
    return torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v])


def cast(solids: Solids, side: int) -> Hits:
    """Send side x side rays into each scene."""
    depths = torch.full((len(solids.inverse), len(solids.kinds), side * side), MISS)
    for kind, intersect in ((ROUND, _round), (BOX, _box), (RING, _ring)):
        if chosen := solids.of_kind(kind):
            near, hit = intersect(solids.inverse[:, chosen], solids.profile[:, chosen], side)
            depths[:, chosen] = near.masked_fill_(~hit, MISS)
    return Hits(*depths.min(1))


def _evaluate(coefficients: Tensor, side: int) -> Tensor:
    """Polynomials (N, K, 3 or 6) float64 at every pixel, (N, K, P) float32."""
    return coefficients.float() @ _monomials(side)[: coefficients.shape[-1]]


def _ray(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Rays in unit space: origins, affine in (u, v): (..., 3, [1, u, v]); directions (..., 3)."""
    origin = inverse[..., [3, 0, 1]]
    direction = inverse[..., 2]
    return origin, torch.where(direction.abs() < TINY, TINY, direction)


def _product(p: Tensor, q: Tensor) -> Tensor:
    """The product of two affine polynomials (..., 3), as (..., 6) monomials."""
    p0, p1, p2 = p.unbind(-1)
    q0, q1, q2 = q.unbind(-1)
    mixed = p0 * q0, p0 * q1 + p1 * q0, p0 * q2 + p2 * q0, p1 * q1, p1 * q2 + p2 * q1, p2 * q2
    return torch.stack(mixed, -1)


def _widen(p: Tensor) -> Tensor:
    """An affine polynomial as a quadratic one."""
    return torch.nn.functional.pad(p, (0, 3))


def _quadratic(inverse: Tensor, profile: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a t^2 + 2 b t + c, negative inside: a (N, K), b (N, K, 3), c (N, K, 6)."""
    o, d = _ray(inverse)
    g0, g1, g2, _ = profile.unbind(-1)
    (x, y, z), (dx, dy, dz) = o.unbind(-2), d.unbind(-1)
    one = torch.tensor([1.0, 0.0, 0.0], dtype=o.dtype)
    a = dx * dx + dy * dy - g2 * dz * dz
    b = dx[..., None] * x + dy[..., None] * y - (g2 * dz)[..., None] * z
    b = b - (g1 * dz / 2)[..., None] * one
    c = _product(x, x) + _product(y, y) - g2[..., None] * _product(z, z)
    c = c - _widen(g1[..., None] * z + g0[..., None] * one)
    return torch.where(a.abs() < TINY, TINY, a), b, c


def _round(inverse: Tensor, profile: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(depth, hit) of ROUND solids: the quadric's interval cut with the slab's.

    Where a < 0 (a cone that is flatter than the ray) the inside is two half-lines, and the one in
    the nappe with a positive radius counts.
    """
    a, b, c = _quadratic(inverse, profile)
    middle = _evaluate(-b / a[..., None], side)
    square = _evaluate(_product(b, b) / (a * a)[..., None] - c / a[..., None], side)
    root = square.clamp_min(0).sqrt_()
    widening = (profile[..., 1] * _ray(inverse)[1][..., 2] > 0)[..., None]
    open_end, open_start = (a < 0)[..., None] & widening, (a < 0)[..., None] & ~widening
    near = middle + root * (1.0 - 2.0 * ~open_end) - FAR * open_start
    far = middle + root * (1.0 - 2.0 * open_start) + FAR * open_end
    start, end = _slab(inverse, profile[..., 3], side)
    near = torch.maximum(near, start)
    return near, (near < torch.minimum(far, end)) & (square > 0)


def _slab(inverse: Tensor, low: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where the rays enter and leave low <= z <= 1."""
    o, d = _ray(inverse)
    z, dz = o[..., 2, :], d[..., 2, None]
    one = torch.tensor([1.0, 0.0, 0.0], dtype=o.dtype)
    bottom, top = (low[..., None] * one - z) / dz, (one - z) / dz
    forward = dz > 0
    start, end = torch.where(forward, bottom, top), torch.where(forward, top, bottom)
    return _evaluate(start, side), _evaluate(end, side)


def _box(inverse: Tensor, profile: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(depth, hit) of BOX solids: three slabs."""
    o, d = _ray(inverse)
    middle = -o / d[..., None]
    half = torch.tensor([1.0, 0.0, 0.0], dtype=o.dtype) / d.abs()[..., None]
    near, far = None, None
    for axis in range(3):
        start = _evaluate((middle - half)[..., axis, :], side)
        end = _evaluate((middle + half)[..., axis, :], side)
        near = start if near is None else torch.maximum(near, start, out=near)
        far = end if far is None else torch.minimum(far, end, out=far)
    assert near is not None and far is not None
    return near, near < far


def _ring(inverse: Tensor, profile: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(depth, hit) of RING solids: where the plane is met, and how far from the axis."""
    o, d = _ray(inverse)
    depth = -o[..., 2, :] / d[..., 2, None]
    x = o[..., 0, :] + d[..., 0, None] * depth
    y = o[..., 1, :] + d[..., 1, None] * depth
    square = _evaluate(_product(x, x) + _product(y, y), side)
    inner = profile[..., 0, None].float()
    return _evaluate(depth, side), (square <= 1) & (square >= inner)


def surface(solids: Solids, hits: Hits, side: int) -> Surface:
    """Points and normals of everything that was hit, scene by scene and row by row."""
    count = len(solids.kinds)
    scene, pixel = torch.isfinite(hits.depth).nonzero(as_tuple=True)
    row = scene * count + hits.part[scene, pixel]
    point = torch.cat([pixel_grid(side)[pixel], hits.depth[scene, pixel, None]], 1)
    inverse = solids.inverse.reshape(-1, 12).float()[row].view(-1, 3, 4)
    unit = (inverse[:, :, :3] * point[:, None]).sum(2) + inverse[:, :, 3]
    outward = _unit_normal(solids, row, unit)
    normal = (inverse[:, :, :3] * outward[:, :, None]).sum(1)
    normal = torch.nn.functional.normalize(normal, dim=1)
    ray = scene * side * side + pixel
    return Surface(ray, row, point, unit, torch.where(normal[:, 2:] > 0, -normal, normal))


def _unit_normal(solids: Solids, row: Tensor, unit: Tensor) -> Tensor:
    """Outward normals (M, 3), of any length, in unit space."""
    kind = torch.tensor(solids.kinds).repeat(len(solids.inverse))[row]
    g0, g1, g2, low = solids.profile.reshape(-1, 4).float()[row].unbind(1)
    x, y, z = unit.unbind(1)
    top = (z > 1 - EDGE) & (g0 + g1 + g2 > EDGE)  # no cap where the radius is 0
    bottom = (z < low + EDGE) & (g0 + g1 * low + g2 * low * low > EDGE)
    cap = top | bottom | (kind == RING)
    side_wall = torch.stack([x, y, -g1 / 2 - g2 * z], 1)
    flat = torch.zeros_like(unit)
    flat[:, 2] = torch.where(kind == RING, 1.0, z.sign())
    face = (unit.abs() == unit.abs().amax(1, keepdim=True)) * unit.sign()
    curved = torch.where(cap[:, None], flat, side_wall)
    return torch.where((kind == BOX)[:, None], face, curved)
