"""Images of parametric objects: clean CAD-like renders, and photo-like ones.

Clean: a plain pale background, uniform colours, one fixed light. Photo-like: textures, clutter
behind and an occluder now and then in front, a light of any direction and colour, cast shadows,
defocus, sensor noise, colour casts and contrast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import hsv_to_rgb
from torch import Tensor

from asg_env.tasks.render.parts import COLOURS, Design, Paint, Part, Ranges, Sculpture
from asg_env.tasks.render.solids import BOX, ROUND, Solids, Surface, cast, surface

SIDE = 32  # of an image, pixels
OVERSAMPLE = 2  # rays per pixel along each axis
CHUNK = 2  # scenes that are cast at once: small enough for the cache
CLUTTER = (BOX, ROUND, ROUND, BOX)  # solids behind the object
OCCLUDER = (ROUND, BOX)  # solids in front of it
DEPTH = 6.0  # of clutter behind the object, and of the occluder before it
AWAY = 50.0  # where a solid stands that is not in the image
OCTAVES = (2, 4, 8, 16)  # cells along a side of the noise that makes backgrounds
COLOURED_NOISE = 0.25  # of that noise's channels, each for itself
SKY: Ranges = ((0.0, 1.0), (0.0, 0.4), (0.35, 1.0))  # hue, saturation, value; walls as well
GROUND: Ranges = ((0.0, 0.4), (0.05, 0.55), (0.15, 0.75))
CLUTTER_COLOUR: Ranges = ((0.0, 1.0), (0.0, 0.7), (0.15, 0.9))


@dataclass(frozen=True)
class View:
    """Ranges of the camera. Angles in degrees; lengths as shares of half an image.

    ``spread``: azimuth, at most, to both sides of a side view. ``fill``: the object's longer half
    extent. ``shift``: of its centre, at most.
    """

    spread: float
    elevation: tuple[float, float]
    roll: float
    fill: tuple[float, float]
    shift: float


@dataclass(frozen=True)
class Photo:
    """How strong each photo-like condition is.

    ``texture``: contrast of surface textures. ``clutter``, ``occlusion``: probability of each
    solid behind and of one before the object. ``background``: contrast of the background's noise.
    ``ambient``: range of the light from everywhere. ``shadow``: darkening, at most. ``tint``: log
    of the colour cast, standard deviation. ``blur``: standard deviation of the defocus, pixels, at
    most. ``noise``: of the sensor, at most. ``contrast``: its range.
    """

    texture: float = 0.4
    clutter: float = 0.25
    occlusion: float = 0.25
    background: float = 0.2
    ambient: tuple[float, float] = (0.25, 0.6)
    shadow: float = 0.5
    tint: float = 0.1
    blur: float = 0.7
    noise: float = 0.045
    contrast: tuple[float, float] = (0.6, 1.2)


CLEAN_VIEW = View(spread=90, elevation=(-10, 45), roll=0, fill=(0.85, 0.9), shift=0.0)
PHOTO_VIEW = View(spread=60, elevation=(0, 30), roll=10, fill=(0.65, 0.95), shift=0.1)
CLEAN_LIGHT = (-0.5, 0.7, -0.6)  # towards the light: left, up, on the viewer's side
PHOTO_LIGHT = (0.0, 0.8, -0.8)  # the same, on average, in photo-like images
CLEAN_AMBIENT, CLEAN_DIRECT = 0.45, 0.6
CLEAN_BACKGROUND = (0.86, 0.98)  # its grey


class Look(NamedTuple):
    """How N scenes of K solids are lit and coloured; every field's first axis is the scene.

    ``colour`` (N, K, 3) in [0, 1]; ``wave`` (N, K, 2, 4): two wave vectors and phases of the
    texture; ``texture`` (N, K): its contrast; ``light`` (N, 3) towards the light, length 1;
    ``direct``, ``ambient`` (N, 3): their colours; ``gloss`` (N, 1); ``shadow`` (N, 5): wave vector,
    phase and darkness of a cast shadow.
    """

    colour: Tensor
    wave: Tensor
    texture: Tensor
    light: Tensor
    direct: Tensor
    ambient: Tensor
    gloss: Tensor
    shadow: Tensor


def clean_images(
    design: Design, count: int, models: int, span: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """CAD-like renders (count, 3, SIDE, SIDE) float32 in [0, 1] of ``models`` shapes."""
    sculpture = _sculpt(design, Sculpture(rng, count, models, span))
    solids = _solids(sculpture.parts, _view_parts(sculpture, CLEAN_VIEW, rng))
    colour = _colours(sculpture.parts, rng, models)[np.arange(count) % models]
    rgb, alpha = _draw(solids, _clean_look(colour))
    grey = _tensor(rng.uniform(*CLEAN_BACKGROUND, (count, 1, 1, 1)))
    return (rgb + (1 - alpha) * grey).clamp_(0, 1)


def photo_images(
    design: Design,
    count: int,
    span: tuple[float, float],
    rng: np.random.Generator,
    photo: Photo,
) -> Tensor:
    """Photo-like images (count, 3, SIDE, SIDE) float32 in [0, 1], each of another shape."""
    sculpture = _sculpt(design, Sculpture(rng, count, span=span))
    placed = _view_parts(sculpture, PHOTO_VIEW, rng)
    extra = _surroundings(count, photo, rng)
    solids = _solids([*sculpture.parts, *extra], [*placed, *((p.linear, p.centre) for p in extra)])
    rgb, alpha = _draw(solids, _photo_look([*sculpture.parts, *extra], photo, count, rng))
    background = _background(count, photo, rng) * (1 - _contact(placed, photo, rng))
    return _develop(rgb + (1 - alpha) * background, photo, rng)


# -- shapes and cameras ---------------------------------------------------------------------------


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _sculpt(design: Design, sculpture: Sculpture) -> Sculpture:
    design(sculpture)
    return sculpture


def _camera(count: int, view: View, rng: np.random.Generator) -> np.ndarray:
    """Rows right, up and away (N, 3, 3) of random cameras."""
    side = rng.choice([-90.0, 90.0], count)
    azimuth = np.radians(side + rng.uniform(-view.spread, view.spread, count))
    elevation = np.radians(rng.uniform(*view.elevation, count))
    roll = np.radians(rng.uniform(-view.roll, view.roll, count))
    cos, sin = np.cos(elevation), np.sin(elevation)
    away = -np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), sin], 1)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), 0 * azimuth], 1)
    up = np.cross(right, away)
    turn, lift = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([turn * right + lift * up, turn * up - lift * right, away], 1)


def _view_parts(
    sculpture: Sculpture, view: View, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each part's (linear, centre) in camera space, with the object fitted into the image."""
    camera = _camera(sculpture.count, view, rng)
    centres = [np.einsum("nij,nj->ni", camera, part.centre) for part in sculpture.parts]
    reach = [
        np.stack([part.reach(camera[:, axis]) for axis in range(3)], 1) for part in sculpture.parts
    ]
    low = np.min([c - r for c, r in zip(centres, reach, strict=True)], 0)
    high = np.max([c + r for c, r in zip(centres, reach, strict=True)], 0)
    half = ((high - low) / 2)[:, :2].max(1)
    scale = (rng.uniform(*view.fill, sculpture.count) / half)[:, None]
    shift = rng.uniform(-view.shift, view.shift, (sculpture.count, 3))
    return [
        (scale[:, :, None] * (camera @ part.linear), scale * (centre - (high + low) / 2) + shift)
        for part, centre in zip(sculpture.parts, centres, strict=True)
    ]


def _solids(parts: list[Part], placed: list[tuple[np.ndarray, np.ndarray]]) -> Solids:
    linear = np.stack([one for one, _ in placed], 1)
    centre = np.stack([one for _, one in placed], 1)
    inverse = np.linalg.inv(linear)
    offset = -np.einsum("nkij,nkj->nki", inverse, centre)
    matrix = torch.from_numpy(np.concatenate([inverse, offset[..., None]], 3))
    profile = torch.from_numpy(np.stack([part.profile for part in parts], 1))
    return Solids(tuple(part.kind for part in parts), matrix, profile)


def _surroundings(count: int, photo: Photo, rng: np.random.Generator) -> list[Part]:
    """Solids behind the object and before it, in camera space."""
    extra = Sculpture(rng, count)
    for kinds, depth, chance in (
        (CLUTTER, DEPTH, photo.clutter),
        (OCCLUDER, -DEPTH, photo.occlusion / len(OCCLUDER)),
    ):
        for kind in kinds:
            _stray(extra, kind, depth, rng.random(count) < chance, rng)
    return extra.parts


def _stray(
    extra: Sculpture, kind: int, depth: float, there: np.ndarray, rng: np.random.Generator
) -> None:
    """A box or a rod anywhere near the image's rim, or away where it is not ``there``."""
    count = extra.count
    angle, far = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.6, 1.1, count)
    x, y = far * np.cos(angle), far * np.sin(angle)
    x = np.where(there, x, AWAY)
    size = rng.uniform(0.12, 0.45, (3, count))
    if kind == BOX:
        extra.box((x, y, depth), tuple(size), Paint.BODY, rng.uniform(-1, 1, count))
        return
    lean = rng.normal(size=(3, count)) * size[0]
    start, end = (x - lean[0], y - lean[1], depth - lean[2]), (x + lean[0], y + lean[1], depth)
    extra.rod(start, end, size[1], Paint.BODY, rng.uniform(0.2, 1, count))


# -- light and colour -----------------------------------------------------------------------------


def _colours(parts: list[Part], rng: np.random.Generator, count: int) -> np.ndarray:
    """A colour for each part, (count, K, 3); parts of one paint are alike."""
    rgb = {paint: _draw_hsv(COLOURS[paint], count, rng) for paint in Paint}
    return np.stack([rgb[part.paint] for part in parts], 1)


def _draw_hsv(ranges: Ranges, count: int, rng: np.random.Generator) -> np.ndarray:
    """RGB (count, 3) of random hue, saturation and value."""
    hsv = np.stack([rng.uniform(*limits, count) for limits in ranges], 1)
    return hsv_to_rgb(hsv)


def _clean_look(colour: np.ndarray) -> Look:
    """One fixed light, no texture, no shadow."""
    count, parts = colour.shape[:2]
    light = F.normalize(torch.tensor(CLEAN_LIGHT), dim=0).expand(count, 3)
    return Look(
        colour=_tensor(colour),
        wave=torch.zeros(count, parts, 2, 4),
        texture=torch.zeros(count, parts),
        light=light,
        direct=torch.full((count, 3), CLEAN_DIRECT),
        ambient=torch.full((count, 3), CLEAN_AMBIENT),
        gloss=torch.zeros(count, 1),
        shadow=torch.zeros(count, 5),
    )


def _photo_look(parts: list[Part], photo: Photo, count: int, rng: np.random.Generator) -> Look:
    """Everything about the light and the surfaces is random."""
    wave = rng.normal(size=(count, len(parts), 2, 4)) * rng.uniform(
        2, 14, (count, len(parts), 2, 1)
    )
    wave[:, :, 1] *= rng.random((count, len(parts), 1)) < 0.5  # half are stripes, half patches
    wave[:, :, 1, 3] += np.pi / 2
    light = rng.normal(PHOTO_LIGHT, 1, (count, 3))
    warmth = np.exp(rng.normal(0, photo.tint, (count, 3)))
    ambient = rng.uniform(*photo.ambient, (count, 1))
    shadow = np.concatenate([rng.normal(0, 2, (count, 3)), rng.uniform(0, 6, (count, 1))], 1)
    return Look(
        colour=_tensor(_photo_colours(parts, count, rng)),
        wave=_tensor(wave),
        texture=_tensor(rng.uniform(0, photo.texture, (count, len(parts)))),
        light=F.normalize(_tensor(light), dim=1),
        direct=_tensor((1.15 - ambient) * warmth),
        ambient=_tensor(ambient / warmth),
        gloss=_tensor(rng.uniform(0, 0.4, (count, 1)) * (rng.random((count, 1)) < 0.5)),
        shadow=_tensor(np.concatenate([shadow, rng.uniform(0, photo.shadow, (count, 1))], 1)),
    )


def _photo_colours(parts: list[Part], count: int, rng: np.random.Generator) -> np.ndarray:
    """As :func:`_colours`, with a small difference between any two parts."""
    colour = _colours(parts, rng, count)
    for k, part in enumerate(parts):
        if (np.abs(part.centre[:, 2]) == DEPTH).all():
            colour[:, k] = _draw_hsv(CLUTTER_COLOUR, count, rng)
    return np.clip(colour + rng.normal(0, 0.05, colour.shape), 0, 1)


def _draw(solids: Solids, look: Look) -> tuple[Tensor, Tensor]:
    """Antialiased colour times coverage (N, 3, SIDE, SIDE), and coverage (N, 1, SIDE, SIDE)."""
    starts = range(0, len(solids.inverse), CHUNK)
    parts = [
        _draw_chunk(
            Solids(solids.kinds, solids.inverse[i : i + CHUNK], solids.profile[i : i + CHUNK]),
            Look(*(field[i : i + CHUNK] for field in look)),
        )
        for i in starts
    ]
    image = torch.cat(parts)
    return image[:, :3], image[:, 3:]


def _draw_chunk(solids: Solids, look: Look) -> Tensor:
    side = SIDE * OVERSAMPLE
    found = surface(solids, cast(solids, side), side)
    canvas = torch.zeros(len(solids.inverse) * side * side, 4)
    canvas[found.ray] = F.pad(_shade(found, look, side), (0, 1), value=1.0)
    return F.avg_pool2d(canvas.view(-1, side, side, 4).permute(0, 3, 1, 2), OVERSAMPLE)


def _shade(found: Surface, look: Look, side: int) -> Tensor:
    """Colours (M, 3) in [0, 1]: texture, Lambert, Phong and a cast shadow."""
    scene = found.ray // (side * side)
    light = look.light[scene]
    lambert = (found.normal * light).sum(1, keepdim=True)
    lit = lambert.clamp_min(0) * (1 - _shadow(found, look.shadow[scene]))
    colour = look.colour.flatten(0, 1)[found.row] * _texture(found, look)
    mirrored = (2 * lambert * found.normal - light)[:, 2:].neg().clamp_min(0)
    shine = look.gloss[scene] * mirrored**16 * (lambert > 0)
    return (colour * (look.ambient[scene] + lit * look.direct[scene]) + shine).clamp_(0, 1)


def _texture(found: Surface, look: Look) -> Tensor:
    """Factors (M, 1) of stripes or patches, 1 on average."""
    if not look.texture.any():
        return torch.ones(1, 1)
    wave = look.wave.flatten(0, 1)[found.row]
    phase = (wave[:, :, :3] * found.point[:, None]).sum(2) + wave[:, :, 3]
    strength = look.texture.flatten()[found.row]
    return (1 + strength * phase.sin().prod(1))[:, None]


def _shadow(found: Surface, shadow: Tensor) -> Tensor:
    """Darkness (M, 1) of a shadow with a soft edge."""
    phase = (shadow[:, :3] * found.point).sum(1) + shadow[:, 3]
    return (shadow[:, 4] * torch.sigmoid(6 * phase.sin()))[:, None]


# -- backgrounds and the camera's faults ----------------------------------------------------------


def _background(count: int, photo: Photo, rng: np.random.Generator) -> Tensor:
    """A sky and a ground of two colours, with noise of several scales, (N, 3, SIDE, SIDE)."""
    horizon = _tensor(rng.uniform(-0.6, 0.6, (count, 1, 1, 1)))
    slope = _tensor(rng.normal(0, 0.1, (count, 1, 1, 1)))
    softness = _tensor(rng.uniform(2, 30, (count, 1, 1, 1)))
    axis = (2 * torch.arange(SIDE) + 1) / SIDE - 1
    below = torch.sigmoid(softness * (axis.view(-1, 1) + slope * axis + horizon))
    sky, ground = (_tensor(_draw_hsv(r, count, rng))[:, :, None, None] for r in (SKY, GROUND))
    image = sky + below * (ground - sky)
    for cells in OCTAVES:
        coarse = _tensor(rng.normal(0, 1, (count, 3, cells, cells)))
        coarse = coarse.mean(1, keepdim=True) + COLOURED_NOISE * coarse
        fine = F.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False)
        strength = rng.uniform(0, photo.background, (count, 1, 1, 1)) / len(OCTAVES) ** 0.5
        image = image + _tensor(strength) * fine
    return image.clamp_(0, 1)


def _contact(
    placed: list[tuple[np.ndarray, np.ndarray]], photo: Photo, rng: np.random.Generator
) -> Tensor:
    """Darkness (N, 1, SIDE, SIDE) of the ground under the object: a flat soft ellipse."""
    centre = np.stack([c for _, c in placed], 1)
    low, middle = centre[:, :, 1].min(1) - 0.1, centre[:, :, 0].mean(1)
    wide = np.abs(centre[:, :, 0] - middle[:, None]).max(1) + 0.2
    x, y, w = (_tensor(v).view(-1, 1, 1, 1) for v in (middle, low, wide))
    axis = (2 * torch.arange(SIDE) + 1) / SIDE - 1
    distance = ((axis - x) / w).square() + ((-axis.view(-1, 1) - y) / 0.15).square()
    strength = _tensor(rng.uniform(0, photo.shadow, (len(centre), 1, 1, 1)))
    return strength * torch.exp(-distance)


def _develop(image: Tensor, photo: Photo, rng: np.random.Generator) -> Tensor:
    """Defocus, colour cast, contrast and noise."""
    count = len(image)
    image = _defocus(image, _tensor(rng.uniform(0.2, photo.blur, (count, 1))))
    image = image * _tensor(np.exp(rng.normal(0, photo.tint, (count, 3, 1, 1))))
    middle = image.mean((1, 2, 3), keepdim=True)
    image = middle + (image - middle) * _tensor(rng.uniform(*photo.contrast, (count, 1, 1, 1)))
    strength = rng.uniform(0, photo.noise, (count, 1, 1, 1)).astype(np.float32)
    noise = torch.from_numpy(strength * rng.standard_normal(image.shape, dtype=np.float32))
    return (image + noise).clamp_(0, 1)


def _defocus(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of five taps, sigma (N, 1) pixels."""
    taps = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum(1, keepdim=True)).view(-1, 5, 1, 1, 1)
    image = F.pad(image, (2, 2, 0, 0), mode="replicate")
    image = sum(taps[:, i] * image[..., i : i + SIDE] for i in range(5))  # type: ignore[assignment]
    image = F.pad(image, (0, 0, 2, 2), mode="replicate")
    return sum(taps[:, i] * image[..., i : i + SIDE, :] for i in range(5))  # type: ignore[return-value]
