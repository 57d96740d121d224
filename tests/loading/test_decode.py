"""Decoding: the colours of every kind of image, and what cannot be read."""

import contextlib
import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from images import pixels
from loading_support import SMALL, split
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from asg_env.data.decode import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageError,
    Transform,
    formats,
    load_image,
    prepared,
)
from asg_env.data.files import FileList

FLAT = Transform(8, 8)  # of uniform images: the colours themselves


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(300, 260), (224, 224), (100, 480), (225, 223), (7, 9)])
def test_decoding_is_torchvisions_to_the_last_bit(tmp_path, suffix, size):
    path = tmp_path / "a" / f"image{suffix}"
    path.parent.mkdir()
    Image.fromarray(pixels(3, *size)).save(path)
    usual = Compose(
        [Resize(224), CenterCrop(224), ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    listed = FileList(tmp_path, (f"a/{path.name}",), np.zeros(1, np.int64), ("a",))
    batch = split(listed, transform=Transform()).batch(torch.arange(1))
    assert torch.equal(batch.images[0], usual(Image.open(path)))


def test_a_larger_resize_crops_the_middle(tmp_path):
    Image.fromarray(pixels(1, 60, 90)).save(tmp_path / "x.png")
    usual = Compose([Resize(32), CenterCrop(20)])(Image.open(tmp_path / "x.png"))
    loaded = load_image(tmp_path / "x.png", Transform(20, 32))
    assert (loaded == np.asarray(usual).transpose(2, 0, 1)).all()
    with pytest.raises(ValueError, match="32 and 20"):
        Transform(32, 20)


def uniform(mode, colour, **options):
    """A file of one colour."""
    content = io.BytesIO()
    format_ = options.pop("format", "PNG")
    Image.new(mode, (12, 12), colour).save(content, format_, **options)
    return content.getvalue()


def palette(**options):
    image = Image.new("P", (12, 12), 2)
    image.putpalette([0, 0, 0, 255, 255, 255, 200, 100, 50])
    content = io.BytesIO()
    image.save(content, "PNG", **options)
    return content.getvalue()


def png(width, height, bits, colour_type, rows=b""):
    """A PNG made by hand."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgb16(*colour):
    return png(8, 8, 16, 2, (b"\0" + struct.pack(">3H", *colour) * 8) * 8)


def grey16(value):
    content = io.BytesIO()
    Image.fromarray(np.full((12, 12), value, np.uint16)).save(content, "PNG")
    return content.getvalue()


COLOURS = {
    "grey": (uniform("L", 77), (77, 77, 77), 0),
    "grey and alpha": (uniform("LA", (77, 10)), (77, 77, 77), 0),
    "one bit": (uniform("1", 1), (255, 255, 255), 0),
    "alpha": (uniform("RGBA", (200, 100, 50, 10)), (200, 100, 50), 0),
    "palette": (palette(), (200, 100, 50), 0),
    "palette, one colour transparent": (palette(transparency=2), (200, 100, 50), 0),
    "palette, alpha": (palette(transparency=bytes([0, 9, 99])), (200, 100, 50), 0),
    "16-bit grey, 77 * 257": (grey16(77 * 257), (77, 77, 77), 0),
    "16-bit grey, 77 * 256": (grey16(77 * 256), (77, 77, 77), 0),
    "16-bit white": (grey16(65535), (255, 255, 255), 0),
    "16-bit colours": (rgb16(51400, 25700, 12850), (200, 100, 50), 0),
    "gif": (uniform("L", 77, format="GIF"), (77, 77, 77), 0),
    "jpeg": (uniform("RGB", (200, 100, 50), format="JPEG"), (200, 100, 50), 2),
    "grey jpeg": (uniform("L", 77, format="JPEG"), (77, 77, 77), 1),
    "CMYK jpeg": (uniform("CMYK", (55, 155, 205, 0), format="JPEG"), (200, 100, 50), 4),
    "tiff": (uniform("RGB", (200, 100, 50), format="TIFF"), (200, 100, 50), 0),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_every_kind_of_image_becomes_its_rgb_colours_silently(tmp_path, kind):
    content, colour, tolerance = COLOURS[kind]
    (tmp_path / "image").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(tmp_path / "image", FLAT)
    assert loaded.shape == (3, 8, 8)
    assert loaded.dtype == np.uint8
    wrong = np.abs(loaded.astype(int) - np.reshape(colour, (3, 1, 1))).max()
    assert wrong <= tolerance, loaded[:, 0, 0]


def cut(format_, share):
    content = io.BytesIO()
    Image.fromarray(pixels(0)).save(content, format_)
    return content.getvalue()[: int(len(content.getvalue()) * share)]


BROKEN = {
    "float": (uniform("F", 0.5, format="TIFF"), "floating-point"),
    "32 bit": (uniform("I", 1 << 20, format="TIFF"), "32-bit"),
    "empty": (b"", "empty file"),
    "text": (b"<html>404</html>", "no image"),
    "cut jpeg": (cut("JPEG", 0.7), "truncated"),
    "cut png": (cut("PNG", 0.7), "unreadable"),
    "cut header": (cut("PNG", 0.001), "no image"),
    "bomb": (png(60000, 60000, 8, 2), "decompression bomb"),
    "large": (png(13000, 13000, 8, 2), "13000 x 13000 pixels"),
    "strip": (png(1, 20000, 8, 0, b"\0\0" * 20000), "1 x 20000 pixels is too long"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_named_with_its_reason(tmp_path, kind):
    content, reason = BROKEN[kind]
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"^{re.escape(str(path))}: .*{reason}"):
        load_image(path, SMALL if kind != "strip" else Transform())


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_picture_starts_a_program(tmp_path, monkeypatch):
    """Pillow gives EPS to Ghostscript, whatever the file is called."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "x.png").write_bytes(EPS)
    with pytest.raises(ImageError, match=r"x\.png: no image, or of a format that is not read"):
        load_image(tmp_path / "x.png", SMALL)
    image = Image.open(tmp_path / "x.png")  # as who uses a student may do
    with pytest.raises(ValueError, match="EPS images are not read"):
        prepared(image, SMALL)
    image.close()


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(png(13000, 13000, 8, 2))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(
        ImageError, match=r"x\.png: .*13000 x 13000 pixels, 169 million,.* 100 million"
    ):
        load_image(tmp_path / "x.png", SMALL)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch):
    Image.fromarray(pixels(0, 96, 160)).save(tmp_path / "x.jpg", quality=95)
    whole = load_image(tmp_path / "x.jpg", SMALL).astype(int)
    monkeypatch.setattr("asg_env.data.decode.MAX_PIXELS", 96 * 160 - 1)
    small = load_image(tmp_path / "x.jpg", SMALL).astype(int)
    assert 0 < np.abs(whole - small).mean() < 8
    monkeypatch.setattr("asg_env.data.decode.MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="160 x 96 pixels"):
        load_image(tmp_path / "x.jpg", SMALL)


def test_of_several_frames_the_first_is_the_picture(tmp_path):
    frames = [Image.fromarray(pixels(seed, 16, 16)) for seed in range(3)]
    for suffix in (".gif", ".png", ".tif", ".webp"):
        path = tmp_path / f"x{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
        wrong = np.abs(load_image(path, SMALL).astype(int) - pixels(0, 16, 16).transpose(2, 0, 1))
        assert wrong.mean() < (20 if suffix == ".gif" else 1)


def test_a_missing_image_and_a_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such image file"):
        load_image(tmp_path / "gone.png", SMALL)
    with pytest.raises(ImageError, match=re.escape(str(tmp_path))):
        load_image(tmp_path, SMALL)


@pytest.mark.parametrize("format_", formats())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_an_image_or_an_image_error(tmp_path, format_):
    whole, rng = cut(format_, 1.0), np.random.default_rng(0)
    for case in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(damaged) if case % 2 else min(len(damaged), 100), 4)
        damaged[places] = rng.integers(0, 256, 4)
        (tmp_path / "image").write_bytes(damaged.tobytes()[: None if case % 3 else -99])
        with contextlib.suppress(ImageError):
            assert load_image(tmp_path / "image", SMALL).shape == (3, 16, 16)
