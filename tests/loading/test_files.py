"""Lists of images: held-out models, class folders, names for content."""

import itertools
import os
import shutil

import numpy as np
import pytest
import torch
from images import write_folders, write_image
from loading_support import split
from support import REPO

from asg_env.data.files import FileList, held_out, read_class_folders, read_image_list
from asg_env.tasks.visda import model_of


def models_list(sizes):
    """A list of one class for each entry; an entry holds the number of views of each 3D model."""
    paths, labels = [], []
    for label, models in enumerate(sizes):
        for model, views in enumerate(models):
            paths += [f"c{label}/src_{model:04x}__{view}_1_2.png" for view in range(views)]
            labels += [label] * views
    names = tuple(f"c{i}" for i in range(len(sizes)))
    return FileList(REPO, tuple(paths), np.array(labels), names)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_held_out_is_disjoint_whole_and_keeps_models_together(share, seed):
    rng = np.random.default_rng(seed)
    sizes = [rng.integers(1, 20, rng.integers(3, 60)).tolist() for _ in range(5)]
    files = models_list(sizes)
    parts = held_out(files, share, seed, model_of)
    assert sorted(np.concatenate(parts)) == list(range(len(files)))
    model = np.array([path.split("__")[0] for path in files.paths])
    for a, b in itertools.combinations(parts, 2):
        assert not set(model[a]) & set(model[b])
    for label, models in enumerate(sizes):
        counts = [int((files.labels[part] == label).sum()) for part in parts]
        assert min(counts) > 0
        if len(models) > 20 and share < 0.3:
            assert all(share * sum(models) <= c < share * sum(models) + 20 for c in counts[1:])


def test_held_out_depends_on_the_seed_alone_and_mixes_the_classes():
    files = models_list([[1] * 40] * 3)
    first, again, other = (held_out(files, 0.1, seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))
    assert len(set(files.labels[first[0][:12]])) == 3


@pytest.mark.parametrize("object_of", [str, model_of])
def test_plain_names_are_their_own_models(object_of):
    paths = tuple(f"a/{name}" for name in ("x.png", "x.jpg", "y_1.png", "y_2.png"))
    files = FileList(REPO, paths, np.zeros(4, np.int64), ("a",))
    assert [len(part) for part in held_out(files, 0.1, 0, object_of)] == [2, 1, 1]


def test_two_underscores_mean_nothing_in_other_lists():
    files = FileList(REPO, tuple(f"a/x__{i}.png" for i in range(4)), np.zeros(4, np.int64), ("a",))
    assert [len(part) for part in held_out(files, 0.1, 0)] == [2, 1, 1]
    with pytest.raises(ValueError, match="4 images of 1 obj"):
        held_out(files, 0.1, 0, model_of)


@pytest.mark.parametrize("models", [[], [9], [9, 9]])
def test_held_out_needs_three_objects_a_class(models):
    with pytest.raises(ValueError, match=rf"'c1'.*{9 * len(models)} images of {len(models)} obj"):
        held_out(models_list([[1] * 9, models]), 0.1, 0, model_of)


@pytest.mark.parametrize("share", [0, -0.1, 1 / 3, 0.5, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="held_out="):
        held_out(models_list([[1] * 9]), share, 0)


def test_class_folders_are_read_in_order(tmp_path):
    write_folders(tmp_path, ["b", "a"], 2)
    write_image(tmp_path / "a" / "deep" / "z.jpg", 1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    files = read_class_folders(tmp_path)
    assert files.classes == ("a", "b")
    assert list(files.paths) == ["a/0.png", "a/1.png", "a/deep/z.jpg", "b/0.png", "b/1.png"]
    assert files.labels.tolist() == [0, 0, 0, 1, 1]


def test_a_list_has_a_name_for_its_content(own):
    lists = [own, own.subset(np.arange(5)), own.subset(np.arange(5)[::-1])]
    assert len({f.fingerprint for f in lists}) == len({f.content_key for f in lists}) == 3
    assert read_class_folders(own.root).content_key == own.content_key
    moved = own.root.parent / "moved"
    shutil.copytree(own.root, moved)
    assert read_class_folders(moved).content_key == own.content_key  # copytree keeps the times
    write_image(moved / own.paths[3], seed=9)
    assert read_class_folders(moved).content_key != own.content_key
    assert read_class_folders(moved).fingerprint == own.fingerprint


LINES = ("class0/0.png 0", "class1/0.png 1", "class2/1.png 2", "class0/3.png 0")
NAMES = ("a", "b", "c")


def listed(root, lines=LINES, end=b"\n"):
    """What is read of a list that says so."""
    content = end.join(x if isinstance(x, bytes) else os.fsencode(x) for x in lines)
    (root / "image_list.txt").write_bytes(content)
    return read_image_list(root, NAMES)


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x0c", "\x1d", "\x85", "\x0b", "\u00a0"])
def test_only_line_ends_end_a_line(own, odd):
    name = f"class1/{odd}a{odd} b{odd}.png"
    write_image(own.root / name, 5)
    files = listed(own.root, [*LINES, f"\t{name}  1 "])
    assert files.paths[-1] == name
    assert len(files) == len(LINES) + 1
    with pytest.raises(ValueError, match=r"line 5: .*expected 'relative/path label'"):
        listed(own.root, [*LINES, f"class1/1.png{odd}1"])


def test_names_that_are_no_utf_8_may_be_listed(own):
    name = b"class1/caf\xe9.png"
    with open(os.path.join(os.fsencode(own.root), name), "wb") as file:
        file.write((own.root / own.paths[0]).read_bytes())
    files = listed(own.root, [*LINES, name + b" 1"])
    assert list(split(files).unreadable()) == [None] * 5
    with pytest.raises(FileNotFoundError, match=r"1 of 5 .*gon\\udce9\.png; unpack"):
        listed(own.root, [*LINES, b"class1/gon\xe9.png 1"])


def test_a_broken_link_in_a_list_is_an_image_that_cannot_be_read(own):
    (own.root / "class1" / "x.png").symlink_to("nowhere")
    data = split(listed(own.root, [*LINES, "class1/x.png 1"]), on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped: .*a broken link to nowhere"):
        assert data.batch(torch.arange(5)).indices.tolist() == [0, 1, 2, 3]


def test_a_file_may_be_listed_under_one_label_and_counts_once(own):
    (own.root / "x.png").symlink_to("class0/3.png")
    (own.root / "y").symlink_to("class0", target_is_directory=True)
    with pytest.warns(
        UserWarning, match=r"2 links to images that are listed already, e\.g\. x\.png"
    ):
        files = listed(own.root, ["x.png 0", *LINES, "y/0.png 0"])
    assert files.paths == tuple(line.split()[0] for line in LINES)
    with pytest.raises(ValueError, match=r"class0/3\.png and x\.png are the same file in two cl"):
        listed(own.root, [*LINES, "x.png 2"])


def test_a_damaged_list_is_read_or_named(own):
    content, named = "\n".join(LINES).encode(), []
    for case in range(60):
        rng, changed = np.random.default_rng(case), bytearray(content)
        for place in rng.integers(0, len(content), 1 + case % 3).tolist():
            changed[place] = int(rng.integers(0, 256))
        if case % 4 == 0:
            del changed[int(rng.integers(0, len(content))) :]
        try:
            files = listed(own.root, [bytes(changed)])
        except (ValueError, FileNotFoundError) as error:
            named.append(str(own.root) in str(error))
        else:
            assert files.labels.max() < 3
            assert list(split(files).unreadable()) == [None] * len(files)
    assert len(named) > 20
    assert all(named)
