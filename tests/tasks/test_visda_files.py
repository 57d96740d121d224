"""VisDA-17's files: unreadable images and bad lists."""

import os
import re
import shutil

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from images import write_image
from support import (
    constant,
    random_actions,
    trajectory,
)
from visda_support import short

from asg_env.data.decode import ImageError


def rewritten(root, tmp_path, part="train", add=(), lines=None):
    """A copy of a tree with another list."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=os.link)
    source = copy / part / "image_list.txt"
    old = source.read_text().splitlines()
    source.unlink()  # a hard link
    source.write_text("\n".join([*(old if lines is None else lines), *add]))
    return copy


def damaged(visda_root, tmp_path, *places):
    """A copy of the tree and the paths of some broken images in it."""
    copy = shutil.copytree(visda_root, tmp_path / "damaged")
    paths = (copy / "train" / "image_list.txt").read_text().split()[::2]
    for place in places:
        (copy / "train" / paths[place]).write_bytes(b"no image")
    return copy, [paths[place] for place in places]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_the_run_with_its_name(visda, visda_root, tmp_path, workers):
    copy, paths = damaged(visda_root, tmp_path, *range(0, 144, 2))
    env = short(visda, data_root=str(copy), workers=workers)
    with pytest.raises(ImageError, match="|".join(map(re.escape, paths))):
        env.reset(seed=0)


def test_a_step_that_broke_off_ends_the_episode_and_a_reset_begins_another(
    visda, visda_root, tmp_path
):
    root = shutil.copytree(visda_root, tmp_path / "visda")
    env = short(visda, data_root=str(root), cache="none", teacher="online")
    env.reset(seed=0)
    hidden = [p.rename(p.with_suffix(".away")) for p in (root / "train").rglob("*.png")]
    with pytest.raises(ImageError, match="no such image file"):
        env.step(constant(env, 0.5))
    with pytest.raises(ResetNeeded):
        env.step(constant(env, 0.5))
    for path in hidden:
        path.rename(path.with_suffix(".png"))
    env.reset(seed=0)
    assert np.isfinite(env.step(constant(env, 0.5))[0]).all()


@pytest.mark.parametrize("teacher", ["online", "cached"])
def test_skipped_images_are_counted_and_change_no_identity(visda, visda_root, tmp_path, teacher):
    copy, paths = damaged(visda_root, tmp_path, *range(0, 144, 2))
    env = short(visda, data_root=str(copy), on_error="skip", teacher=teacher, batch_size=1)
    actions = random_actions(env, 4, seed=0)
    with pytest.warns(UserWarning, match="skipped") as caught:
        first = trajectory(env, 3, actions)
    named = {p for p in paths for w in caught if p in str(w.message)}
    *_, info = env.reset(seed=3)
    assert info["skipped"] == len(named) > 0
    assert np.isfinite(list(info["losses"].values())).all()
    assert trajectory(env, 3, actions) == first
    env.evaluate("train")


def test_the_first_image_may_be_unreadable(visda, visda_root, tmp_path):
    split = short(visda).problem.splits["outer_valid"]
    copy = shutil.copytree(visda_root, tmp_path / "damaged")
    (copy / "train" / split.files.paths[0]).write_bytes(b"")
    env = short(visda, data_root=str(copy), on_error="skip")
    with pytest.warns(UserWarning, match=re.escape(split.files.paths[0])):
        env.reset(seed=0)


FIRST = "aeroplane/src_1_02691156_0000000000__0_147_164.png"


BAD_LINES = {
    "car/x.png 12": "label 12 is out of range 0..11",
    "car/x.png -1": "label '-1' is not an integer 0..11",
    "car/x.png cat": "label 'cat' is not an integer",
    "car/x.png 1.0": "label '1.0' is not an integer",
    "car/x.png ²": "is not an integer",
    "car/x.png": "expected 'relative/path label'",
    "../x.png 3": r"'\.\./x\.png' leaves the folder",
    "car/../../x.png 3": "leaves the folder",
    "/etc/passwd 3": "'/etc/passwd' leaves the folder",
    f"{FIRST} 0": "listed twice",
    f"./{FIRST.replace('/', '//')} 1": "listed twice",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_with_its_number(visda, visda_root, tmp_path, line):
    copy = rewritten(visda_root, tmp_path, add=[line])
    place = f"{re.escape(str(copy / 'train' / 'image_list.txt'))}, line 145: .*"
    with pytest.raises(ValueError, match=place + BAD_LINES[line]):
        short(visda, data_root=str(copy))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_missing_or_empty_list_or_image_is_named(visda, visda_root, tmp_path, part):
    copy = rewritten(visda_root, tmp_path, part, add=["car/gone.png 3"])
    with pytest.raises(FileNotFoundError, match=rf"1 of .* {copy / part}: car/gone\.png; unpack"):
        short(visda, data_root=str(copy))
    source = copy / part / "image_list.txt"
    source.write_text("\n \n")
    with pytest.raises(ValueError, match=f"{source} lists no image"):
        short(visda, data_root=str(copy))
    source.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected {source}\. Unpack"):
        short(visda, data_root=str(copy))


def test_a_class_without_training_images_is_named(visda, visda_root, tmp_path):
    lines = (visda_root / "train" / "image_list.txt").read_text().splitlines()
    copy = rewritten(visda_root, tmp_path, lines=[x for x in lines if not x.startswith("horse")])
    with pytest.raises(ValueError, match=r"class 'horse'.* 0 images"):
        short(visda, data_root=str(copy))


def test_a_list_may_have_spaces_blank_lines_and_windows_ends(visda, visda_root, tmp_path):
    lines = (visda_root / "train" / "image_list.txt").read_text().splitlines()
    copy = rewritten(visda_root, tmp_path, lines=["\ufeff" + lines[0], "", *lines[1:]])
    write_image(copy / "train" / "car" / "a name.png", 1)
    source = copy / "train" / "image_list.txt"
    source.write_bytes(
        (source.read_text() + "\ncar/a name.png\t3 \n").replace("\n", "\r\n").encode()
    )
    assert len(short(visda, data_root=str(copy)).task.source) == 145
