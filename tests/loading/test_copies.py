"""Pictures that are there several times are found by their content."""

import shutil
import warnings

import numpy as np
import pytest
from images import file_list, write_image

from asg_env.data import copies as module
from asg_env.data.copies import check_apart, copies, together, warn_of_two_labels
from asg_env.data.files import held_out, read_class_folders


@pytest.fixture
def source(tmp_path):
    return file_list(tmp_path / "source", 30)


@pytest.fixture
def target(tmp_path, source):
    for label, name in enumerate(source.classes):
        for i in range(3):
            write_image(tmp_path / "target" / name / f"{i}.png", 700 + 10 * label + i)
    return read_class_folders(tmp_path / "target")


def test_lists_without_copies_have_none(source, target):
    assert copies([source, target]) == []
    assert check_apart({"source": source, "target": target}) == []


@pytest.mark.parametrize("how", [shutil.copy, "symlink", "hardlink"])
def test_lists_that_share_a_picture_are_refused(source, target, how):
    path = target.root / "class2" / "new.png"
    original = source.root / source.paths[4]
    if callable(how):
        how(original, path)
    else:
        getattr(path, f"{how}_to")(original)
    with pytest.raises(
        ValueError, match=r"source and target share images \(1 in all\): .*class0/4.*class2/new"
    ):
        check_apart({"source": source, "target": read_class_folders(target.root)})


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_what_is_no_picture_is_no_copy(source, target, content):
    for files in (source, target):
        (files.root / files.paths[0]).write_bytes(content)
        (files.root / files.paths[1]).unlink()
        (files.root / files.paths[1]).symlink_to("nowhere")
    lists = [read_class_folders(files.root) for files in (source, target)]
    assert copies(lists) == []


def test_equal_middles_and_sizes_are_not_enough(source, target, monkeypatch):
    monkeypatch.setattr(module, "PROBE", 8)
    content = bytearray((source.root / source.paths[0]).read_bytes())
    content[-20] ^= 1
    (target.root / target.paths[0]).write_bytes(content)
    assert copies([source, read_class_folders(target.root)]) == []


def test_copies_are_on_one_side_of_the_split(source):
    """Else what is trained on would be validated with."""
    for i in range(1, 8):
        shutil.copy(source.root / source.paths[0], source.root / "class0" / f"copy{i}.png")
    files = read_class_folders(source.root)
    for seed in range(6):
        groups = check_apart({"source": files})
        assert [len(group) for group in groups] == [8]
        parts = held_out(files, 0.1, seed, together(files, groups, str))
        assert sorted(np.concatenate(parts)) == list(range(len(files)))
        assert len([part for part in parts if set(groups[0]) & set(part.tolist())]) == 1


def test_objects_that_share_pictures_are_one(source):
    objects = {path: path.split("/")[1][0] for path in source.paths}  # "0" to "9"
    groups = [[0, 11], [1, 2], [22, 13], [3, 2]]  # 0 with 1, 1 with 2, 2 with 3, 3 with 2
    one = {together(source, groups, objects.__getitem__)(p) for p in source.paths[:4]}
    assert len(one) == 1
    all_ = [together(source, groups, objects.__getitem__)(p) for p in source.paths]
    assert len(set(all_)) == 7


def test_without_copies_the_split_is_what_it_was(source):
    object_of = together(source, check_apart({"source": source}), str)
    for one, other in zip(
        held_out(source, 0.1, 0), held_out(source, 0.1, 0, object_of), strict=True
    ):
        assert (one == other).all()


def test_a_picture_with_two_labels_is_reported(source):
    shutil.copy(source.root / source.paths[0], source.root / "class2" / "x.png")
    files = read_class_folders(source.root)
    with pytest.warns(UserWarning, match=r"1 images are in several .*class0/0\.png, class2/x\.png"):
        warn_of_two_labels(files, check_apart({"source": files}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_two_labels(source, check_apart({"source": source}))
