"""Caches in folders whose files are damaged, or no cache files at all."""

import os
import re
import shutil

import numpy as np
import pytest
from loading_support import split

from asg_env.data.cache import RowCache


def copied(cache, folder):
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(cache, folder)


def test_a_changed_byte_of_a_row_is_noticed_and_the_row_made_again(own, tmp_path, decodes):
    first = decodes(own.root, tmp_path / "kept")
    (rows,) = (tmp_path / "kept").glob("*.rows.npy")
    content = bytearray(rows.read_bytes())
    content[-5] ^= 1
    rows.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{re.escape(str(rows))} is damaged: such rows are made"):
        assert decodes(own.root, tmp_path / "kept") == (1, first[1])
    assert decodes(own.root, tmp_path / "kept") == (0, first[1])


def test_checking_images_looks_at_the_rows_too(own, tmp_path):
    kept = tmp_path / "kept"
    list(split(own, kept).chunks())
    (rows,) = kept.glob("*.rows.npy")
    rows.write_bytes(rows.read_bytes()[:-1] + b"?")
    data = split(own, kept)
    (own.root / own.paths[-1]).unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        found = list(data.unreadable())
    assert [i for i, fault in enumerate(found) if fault] == [11]


def test_a_cache_of_a_version_without_checksums_is_filled_again(own, tmp_path, decodes):
    kept = tmp_path / "kept"
    first = decodes(own.root, kept)
    (sums,) = kept.glob("*.sums.npy")
    sums.unlink()
    assert decodes(own.root, kept) == first
    assert decodes(own.root, kept) == (0, first[1])
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize("part", ["rows", "sums", "filled"])
@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_changed_bytes_of_a_cache_are_named_or_mended(own, tmp_path, decodes, part):
    whole = decodes(own.root, tmp_path / "whole")
    refused = 0
    for case in range(24):
        rng = np.random.default_rng(case)
        folder = copied(tmp_path / "whole", tmp_path / "changed")
        (path,) = folder.glob(f"*.{part}.npy")
        content = bytearray(path.read_bytes())
        header = case % 2 == 0
        bounds = (0, 128) if header else (128, len(content))
        for place in rng.integers(*bounds, 3).tolist():
            content[place] = int(rng.integers(0, 256))
        path.write_bytes(content)
        try:
            assert decodes(own.root, folder)[1] == whole[1]
        except ValueError as error:
            refused += re.search(rf"{part}\.npy .*: delete it", str(error)) is not None
            assert header
    assert refused > 5


@pytest.mark.parametrize("part", ["rows", "sums", "filled"])
@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe", "folder", "huge", "long", "header"])
def test_what_is_no_cache_file_is_named(tmp_path, part, kind):
    RowCache.in_folder(tmp_path, "x", (3, 2), np.float32)
    path = tmp_path / f"x.{part}.npy"
    content = path.read_bytes()
    path.unlink()
    if kind in ("dangling", "loop"):
        path.symlink_to("nowhere" if kind == "dangling" else path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.write_bytes(content.replace(b"(3,", b"(3000000000000,", 1).replace(b" " * 12, b"", 1))
    else:
        path.write_bytes(
            content + b"more" if kind == "long" else content.replace(b"descr", b"\xff((((")
        )
    with pytest.raises(
        (ValueError, OSError), match=f"{re.escape(str(tmp_path))}.*(delete it|cache=)"
    ):
        RowCache.in_folder(tmp_path, "x", (3, 2), np.float32)
