"""Class folders: what is a picture of its own, and what is left out with a word about it."""

import os
import re
import shutil
import warnings

import numpy as np
import pytest
from images import file_list, pixels, write_image
from loading_support import split
from PIL import Image

from asg_env.data.decode import formats, suffixes
from asg_env.data.files import read_class_folders


def read(root, left_out=None):
    """The paths that are read, and that the warning says what is left out (a pattern)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = read_class_folders(root)
    said = [str(w.message) for w in caught]
    if left_out is None:
        assert not said
    else:
        assert len(said) == 1, said
        assert re.fullmatch(f".*{left_out}.*", said[0]), said  # in one line
    return files


@pytest.mark.parametrize("place", ["", "class0", "class0/deep"])
@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints/0.png", "__MACOSX/0.png", "._0.png", ".DS_Store", "Thumbs.db"]
)
def test_hidden_entries_are_no_classes_and_no_pictures(own, place, name):
    write_image(own.root / "class0" / "deep" / "9.png", 99)
    before = read(own.root)
    path = own.root / place / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((own.root / own.paths[0]).read_bytes())
    after = read(own.root, rf"left out 1 hidden entry \({re.escape(name.split('/')[0])}\)")
    assert (after.paths, after.classes) == (before.paths, before.classes)
    assert after.fingerprint == before.fingerprint


def test_files_of_other_kinds_are_counted_by_their_suffix(own):
    for name in ("a.txt", "b.TXT", "c.svg", "README"):
        (own.root / "class1" / name).write_text("no image")
    os.mkfifo(own.root / "class1" / "pipe.png")
    found = read(own.root, r"5 other files \(by suffix: \.txt 2, no suffix 1, \.png 1, \.svg 1\)")
    assert found.paths == own.paths


def test_pictures_of_every_format_are_read(own):
    image = Image.fromarray(pixels(7))
    for number, suffix in enumerate(suffixes()):
        image.save(own.root / "class2" / f"new{number}{suffix.upper()}")
    found = read(own.root)
    assert len(found) == len(own) + len(suffixes())
    assert {".jfif", ".gif"} <= set(suffixes())
    assert list(split(found).unreadable()) == [None] * len(found)


def test_a_format_without_its_codec_is_named(own, monkeypatch):
    for cached in (formats, suffixes):
        cached.cache_clear()
    write_image(own.root / "class0" / "x.webp", 1)
    monkeypatch.delitem(Image.SAVE, "WEBP")
    try:
        assert read(own.root, r"\.webp 1").paths == own.paths
    finally:
        formats.cache_clear()
        suffixes.cache_clear()


def test_a_class_folder_without_images_says_what_lies_there(own):
    shutil.rmtree(own.root / "class1")
    (own.root / "class1").mkdir()
    (own.root / "class1" / "x.svg").write_text("<svg/>")
    with pytest.raises(ValueError, match=r"no image in class1; .*\.png.*\.svg"):
        read_class_folders(own.root)


@pytest.mark.parametrize("target", ["..", ".", "../../own", "deep"])
def test_links_that_lead_round_add_nothing(own, target):
    write_image(own.root / "class0" / "deep" / "9.png", 99)
    before = read(own.root)
    (own.root / "class0" / "a loop").symlink_to(target, target_is_directory=True)
    (own.root / "class0" / "deep" / "other").symlink_to("..", target_is_directory=True)
    (own.root / "all").symlink_to(".", target_is_directory=True)
    (own.root / "class0" / "self.png").symlink_to("self.png")
    (own.root / "class0" / "self").symlink_to("self")
    after = read(own.root, r"3 links \(to what is read already: ")
    assert [p for p in after.paths if "self" not in p] == list(before.paths)
    assert after.classes == before.classes


def test_a_file_counts_once_in_its_class_by_its_own_path(own):
    write_image(own.root / "class0" / "z" / "9.png", 99)
    before = read(own.root)
    (own.root / "class0" / "00.png").symlink_to("z/9.png")
    (own.root / "class0" / "a").symlink_to("z", target_is_directory=True)
    assert read(own.root, r"2 links .*already: a, class0/00\.png").paths == before.paths


@pytest.mark.parametrize("kind", ["file", "folder", "class"])
def test_a_file_in_two_classes_is_refused(own, kind):
    where, target = {
        "file": ("class1/x.png", "../class0/0.png"),
        "folder": ("class1/x", "../class0"),
        "class": ("class9", "class0"),
    }[kind]
    (own.root / where).symlink_to(target)
    with pytest.raises(ValueError, match=r"class0/0\.png and .* are the same file in two classes"):
        read_class_folders(own.root)


def test_links_to_pictures_elsewhere_are_followed(own, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in own.classes:
        (linked / name).symlink_to(own.root / name, target_is_directory=True)
    assert read(linked).fingerprint == own.fingerprint


@pytest.mark.parametrize("name", ["broken.png", b"caf\xe9.png", "a\nb.png", "a\u2028b.png"])
def test_broken_links_and_odd_names_are_one_image_that_can_be_skipped(own, name):
    path = os.path.join(os.fsencode(own.root), b"class0", os.fsencode(name))
    os.symlink(b"nowhere", path)
    files = read(own.root)
    assert len(files) == len(own) + 1
    keys = {files.content_key, own.content_key}
    data = split(files, on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped: [ -~]*: no such image file: a broken link to"):
        assert sum(len(batch.indices) for batch in data.chunks()) == len(own)
    os.unlink(path)
    with open(path, "wb") as file:
        file.write((own.root / own.paths[0]).read_bytes())
    assert len(keys | {read(own.root).content_key}) == 3
    assert list(split(read(own.root)).unreadable()) == [None] * len(files)


def test_a_root_is_absolute_from_the_beginning(own, monkeypatch, tmp_path):
    monkeypatch.chdir(own.root.parent)
    files = read_class_folders("own")
    monkeypatch.chdir(tmp_path / "own" / "class0")
    assert files.root == own.root
    assert files.content_key == own.content_key
    assert list(split(files).unreadable()) == [None] * len(own)


def test_random_trees_are_read_once_or_refused(tmp_path):
    """Whatever links point at, no file comes twice, and no reading goes on without end."""
    refused = []
    for case in range(40):
        rng, root = np.random.default_rng(case), tmp_path / str(case)
        files = file_list(root, 6)
        folders = [p for p in root.rglob("*") if p.is_dir()]
        for number in range(3):
            at = folders[rng.integers(len(folders))] / f"link{number}.png"
            choice = [root, *folders, *(root / p for p in files.paths), root / "nowhere"]
            at.symlink_to(choice[rng.integers(len(choice))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = read_class_folders(root)
            except ValueError as error:
                refused.append("two classes" in str(error))
                continue
        real = [os.path.realpath(root / path) for path in found.paths]
        assert len(set(real)) == len(real)
        assert set(files.paths) <= set(found.paths)
    assert 0 < len(refused) < 40
    assert all(refused)
