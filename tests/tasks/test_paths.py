"""Paths mean what they meant when the environment was made, wherever the process works later."""

import os
import shutil

import pytest
import torch
from support import make, random_actions, trajectory

from asg_env.tasks.image_files import ImageSettings

ID = "ASG-ImageFolder-v0"
ROOTS = ("source_root", "target_root", "retention_root", "weights")


def test_relative_paths_hold_after_the_folder_was_changed(folders, tmp_path, monkeypatch):
    parent = tmp_path / "data"
    parent.mkdir()
    for name in ROOTS:
        (parent / name).symlink_to(folders[name])
    monkeypatch.chdir(parent)
    env = make(ID, **{**folders, **dict(zip(ROOTS, ROOTS, strict=True)), "cache": "kept"})
    fingerprint = env.problem.fingerprint
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    frames = trajectory(env, 0, random_actions(env, 2, 0))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert list((parent / "kept").glob("images-*"))
    absolute = make(ID, **folders)
    assert absolute.problem.fingerprint == fingerprint
    assert trajectory(absolute, 0, random_actions(absolute, 2, 0)) == frames
    other = make(ID, **{**folders, "cache": "kept"})
    trajectory(other, 0, [])
    assert list((tmp_path / "elsewhere" / "kept").glob("images-*"))


def test_settings_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ImageSettings(cache="kept", weights="here/w.pt")
    assert settings.loader.cache == str(settings.cache_folder) == str(tmp_path / "kept")
    assert settings.weights == str(tmp_path / "here" / "w.pt")
    for name in ("none", "memory", "auto"):
        assert ImageSettings(cache=name).cache == name
    for name in ("random", "DEFAULT", "IMAGENET1K_V1", "NO_SUCH_V9"):
        assert ImageSettings(weights=name).weights == name


def test_the_folder_one_works_in_has_a_name(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(folders["source_root"])
    assert make(ID, **{**folders, "source_root": "."}).dataset_name == "synthetic -> real"
    monkeypatch.chdir(os.path.join(folders["source_root"], "circle"))
    assert make(ID, **{**folders, "source_root": ".."}).dataset_name == "synthetic -> real"


@pytest.mark.parametrize("how", ["copies", "links", "one"])
def test_a_target_that_holds_the_sources_images_is_refused(folders, tmp_path, how):
    target = tmp_path / "target"
    if how == "copies":
        shutil.copytree(folders["source_root"], target)
    elif how == "one":
        shutil.copytree(folders["target_root"], target)
        shutil.copy(f"{folders['source_root']}/star/3.png", target / "circle" / "new.png")
    else:
        target.mkdir()
        for name in ("circle", "square", "star"):
            (target / name).symlink_to(f"{folders['source_root']}/{name}")
    with pytest.raises(ValueError, match=r"source and target share images \((36|1) in all\)"):
        make(ID, **{**folders, "target_root": str(target)})
    root = shutil.copytree(folders["retention_root"], tmp_path / "retention")
    shutil.copy(f"{folders['source_root']}/star/3.png", root / "egg" / "new.png")
    with pytest.raises(ValueError, match=r"source and retention share images"):
        make(ID, **{**folders, "retention_root": str(root)})


def test_a_damaged_teacher_cache_is_made_again(folders, tmp_path):
    kwargs = {**folders, "cache": str(tmp_path / "kept")}
    before = make(ID, **kwargs).problem.teacher_logits("train").clone()
    damaged = 0
    for path in (tmp_path / "kept").glob("teacher-*.rows.npy"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 64
        path.write_bytes(content)
        damaged += 1
    assert damaged
    weights = shutil.copy(folders["weights"], tmp_path / "same.pt")  # another task in this process
    with pytest.warns(UserWarning, match=r"teacher-.*is damaged"):
        after = make(ID, **{**kwargs, "weights": str(weights)}).problem.teacher_logits("train")
    assert torch.equal(after, before)
