"""Digits rendered from the fonts that matplotlib carries, preprocessed like the UCI set.

The UCI "optical recognition of handwritten digits" images are size-normalised 32x32 bitmaps whose
4x4 blocks were counted, which gives 8x8 numbers of 0..16 (Alpaydin & Kaynak, 1998). The rendered
digits go through the same steps.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from asg_env.isolation import isolated

TRAIN_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSansMono-BoldOblique", "cmr10", "cmb10", "cmmi10"),
)
"""Font families that the train variants draw from."""
TEST_FONTS = (
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmss10", "cmtt10"),
)
"""Font families that the test variants draw from; none is a train font."""

CANVAS = 64  # side of the high-resolution glyph bitmap, pixels
BITMAP = 32  # side of the UCI bitmap, pixels
BLOCK = 4  # side of a counted block, pixels
SLANT = 0.6  # horizontal shear, at most, both ways
TURN = 0.4  # rotation, radians, at most, both ways
STRETCH = 0.45  # log of the width factor, at most, both ways
STROKES = (0, 5)  # pixels of the canvas by which strokes are thickened, end excluded
SIZE = (0.65, 1.0)  # height of the digit in the bitmap


class RenderedDigits(NamedTuple):
    """``images`` (N, 1, 8, 8) float32 in [0, 1], ``labels`` (N,) int64: the digit."""

    images: Tensor
    labels: Tensor


@cache
@isolated
def glyph(font: str, digit: int, thicker: int = 0) -> Tensor:
    """The digit drawn with one font, (CANVAS, CANVAS) float32 in [0, 1], centred, margin 1/8.

    ``thicker``: pixels by which the strokes are thickened.
    """
    if thicker:
        thin = F.pad(glyph(font, digit)[None], (thicker, 0, thicker, 0))
        return F.max_pool2d(thin, thicker + 1, 1)[0]
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    if not path.is_file():
        raise FileNotFoundError(f"matplotlib {matplotlib.__version__} carries no font {path}")
    face = ImageFont.truetype(str(path), 2 * CANVAS)
    left, top, right, bottom = face.getbbox(str(digit))
    page = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(page).text((-left, -top), str(digit), font=face, fill=255)
    inner = CANVAS * 3 // 4
    scale = inner / max(page.size)
    small = page.resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))
    canvas = Image.new("L", (CANVAS, CANVAS), 0)
    canvas.paste(small, ((CANVAS - small.width) // 2, (CANVAS - small.height) // 2))
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255)


def render_digits(
    fonts: tuple[str, ...], digits: tuple[int, ...], count: int, seed: int
) -> RenderedDigits:
    """Render ``count`` digits, classes as equal as can be; the same arguments, the same images."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(np.asarray(digits), count))
    faces = rng.choice(np.asarray(fonts), count)
    strokes = rng.integers(*STROKES, count)
    drawn = zip(faces.tolist(), labels.tolist(), strokes.tolist(), strict=True)
    masks = torch.stack([glyph(*arguments) for arguments in drawn])[:, None]
    bitmap = _normalise_size(_warp(masks, rng), rng.uniform(*SIZE, count))
    images = F.avg_pool2d(bitmap, BLOCK)
    return RenderedDigits(images, torch.from_numpy(labels.astype(np.int64)))


def _warp(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Slant, turn and stretch each mask (N, 1, CANVAS, CANVAS)."""
    count = len(masks)
    turn = rng.uniform(-TURN, TURN, count)
    slant = rng.uniform(-SLANT, SLANT, count)
    stretch = np.exp(rng.uniform(-STRETCH, STRETCH, count))
    cos, sin = np.cos(turn), np.sin(turn)
    rows = np.stack([cos / stretch, sin / stretch + slant, 0 * cos, -sin, cos, 0 * cos], 1)
    return _resample(masks, torch.from_numpy(rows.astype(np.float32)), CANVAS)


def _normalise_size(masks: Tensor, heights: np.ndarray) -> Tensor:
    """Crop each mask to its ink, scale it to ``heights`` of the bitmap's, and threshold."""
    ink = masks[:, 0] > 0.5
    top, bottom = _extent(ink.any(dim=2))
    left, right = _extent(ink.any(dim=1))
    span = torch.maximum(bottom - top, right - left) / torch.from_numpy(heights).float() / CANVAS
    x, y = (left + right) / CANVAS - 1, (top + bottom) / CANVAS - 1
    zero = torch.zeros_like(span)
    rows = torch.stack([span, zero, x, zero, span, y], 1)
    return (_resample(masks, rows, BITMAP) > 0.5).float()


def _resample(masks: Tensor, rows: Tensor, side: int) -> Tensor:
    """Bilinear affine resampling to (N, 1, side, side).

    ``rows`` (N, 6): x = a u + b v + c, y = d u + e v + f, where u, v and x, y run from -1 to 1 over
    the new and the old image. (torch's affine_grid does the same some ten times slower.)
    """
    axis = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    a, b, c, d, e, f = (column.view(-1, 1, 1) for column in rows.unbind(1))
    u, v = axis.view(1, 1, -1), axis.view(1, -1, 1)
    grid = torch.stack([a * u + b * v + c, d * u + e * v + f], -1)
    return F.grid_sample(masks, grid, align_corners=False)


def _extent(any_ink: Tensor) -> tuple[Tensor, Tensor]:
    """First and one-past-last index of the ink along each row of (N, CANVAS) bool."""
    position = torch.arange(CANVAS, dtype=torch.float32)
    first = torch.where(any_ink, position, float(CANVAS)).amin(1)
    last = torch.where(any_ink, position, -1.0).amax(1)
    return first, last + 1
