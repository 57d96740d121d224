"""From an image file to (3, S, S) uint8."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_PIXELS = 178_956_970  # of a decoded or enlarged image: Pillow's limit for decompression bombs
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)
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


def prepared(image: Image.Image, transform: Transform) -> np.ndarray:
    """Resize and crop an image.

    Grayscale, palette, CMYK and 16-bit images are converted to RGB; transparency is dropped.

    Returns:
        (3, size, size) uint8, RGB. Not normalised: that is done on the device.

    Raises:
        ValueError: pixels whose range is unknown, or too many of them.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels; make it smaller")
    return _square(_rgb(image), transform)


def load_image(path: str | os.PathLike[str], transform: Transform) -> np.ndarray:
    """Decode one image file, and the rest as :func:`prepared`.

    Raises:
        ImageError: naming the file, if it is missing, empty, truncated, no image, or too large.
    """
    try:
        with Image.open(path) as image:
            return prepared(image, transform)
    except FileNotFoundError as error:
        raise ImageError(f"{os.fspath(path)}: no such image file") from error
    except UnidentifiedImageError as error:
        empty = os.path.getsize(path) == 0
        raise ImageError(f"{os.fspath(path)}: {'empty file' if empty else 'no image'}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{os.fspath(path)}: {error}; make it smaller") from error
    except DAMAGED as error:
        raise ImageError(f"{os.fspath(path)}: unreadable image: {error}") from error


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
