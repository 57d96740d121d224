"""From an image file to (3, S, S) uint8."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, UnidentifiedImageError

from asg_env.data.names import shown

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 100_000_000  # of a decoded or enlarged image; Pillow takes four bytes for each
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
}
"""What is read, by its content, and the suffixes of such files. Other formats of Pillow's are not:
EPS, for one, starts Ghostscript. Of several frames the first counts."""
DAMAGED = (OSError, RuntimeError, SyntaxError, ValueError, EOFError, IndexError, struct.error)
"""What Pillow raises on damaged content."""


class ImageError(ValueError):
    """A file that is no readable image; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Transform:
    """The paper's preprocessing: shorter side to ``resize``, centre crop, ImageNet normalisation.

    Attributes:
        size: side of the square that the network sees, pixels.
        resize: shorter side after resizing (bilinear with antialiasing), pixels; at least ``size``.
    """

    size: int = 224
    resize: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(f"expected 1 <= size <= resize, got {self.size} and {self.resize}")


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that the installed Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.SAVE)  # OPEN has those that lack codecs


@lru_cache(maxsize=1)
def suffixes() -> tuple[str, ...]:
    """Those that make a file an image, in lower case."""
    return tuple(suffix for name in formats() for suffix in FORMATS[name])


def prepared(image: Image.Image, transform: Transform) -> np.ndarray:
    """Resize and crop an image.

    Grayscale, palette, CMYK and 16-bit images are converted to RGB; transparency is dropped. A JPEG
    of more than :data:`MAX_PIXELS` that is not decoded yet is decoded at a fraction of its size.

    Returns:
        (3, size, size) uint8, RGB. Not normalised: that is done on the device.

    Raises:
        ValueError: a format that is not read, pixels whose range is unknown, or too many of them.
    """
    if image.format not in (None, *FORMATS, "MPO"):  # None: made in memory
        raise ValueError(f"{image.format} images are not read; save it as PNG or JPEG")
    if image.width * image.height > MAX_PIXELS:
        width, height = image.size
        image.draft(image.mode, (transform.resize, transform.resize))  # a JPEG; others stay
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"{width} x {height} pixels, {width * height / 1e6:.0f} million, are more than "
                f"{MAX_PIXELS / 1e6:.0f} million; make it smaller"
            )
    return _square(_rgb(image), transform)


def load_image(path: str | os.PathLike[str], transform: Transform) -> np.ndarray:
    """Decode one image file, and the rest as :func:`prepared`.

    Raises:
        ImageError: naming the file, if it is missing, empty, truncated, no image, or too large.
    """
    name = shown(path)
    try:
        with Image.open(path, formats=formats()) as image:
            return prepared(image, transform)
    except FileNotFoundError as error:
        link = f": a broken link to {shown(os.readlink(path))}" if os.path.islink(path) else ""
        raise ImageError(f"{name}: no such image file{link}") from error
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0
        what = "empty file" if empty else "no image, or of a format that is not read"
        raise ImageError(f"{name}: {what}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: {error}; make it smaller") from error
    except DAMAGED as error:
        raise ImageError(f"{name}: unreadable image: {error}") from error


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as an image does; its pixels are not decoded."""
    try:
        with Image.open(path, formats=formats()):
            return True
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True
    except DAMAGED:
        return False


def _rgb(image: Image.Image) -> Image.Image:
    """The image as RGB, 8 bits a channel. Pillow's own conversion would clip 16-bit grey."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown; save it with 8 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
            raise ValueError("32-bit pixels, whose range is unknown; save it with 8 bits")
        image = Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: Image.Image, transform: Transform) -> np.ndarray:
    from torchvision.transforms import functional as F  # slow to import

    sides = sorted(image.size)
    if transform.resize**2 * sides[1] / sides[0] > MAX_PIXELS:
        raise ValueError(f"{image.size[0]} x {image.size[1]} pixels is too long a strip")
    if sides[0] != transform.resize:
        image = F.resize(image, [transform.resize])
    if image.size != (transform.size, transform.size):
        image = F.center_crop(image, [transform.size])
    return np.asarray(image).transpose(2, 0, 1)
