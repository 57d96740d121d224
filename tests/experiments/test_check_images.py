"""experiments/check_images.py names the images that cannot be read."""

import re
import shutil

import numpy as np
import pytest

from experiments import check_images

ID = "ASG-ImageFolder-v0"


def check(folders, **chosen):
    kwargs = {k: v for k, v in folders.items() if k not in ("batch_size", "threads")}
    return check_images.main(check_images.Args(ID, kwargs, **chosen))


@pytest.mark.parametrize("workers", [0, 2])
def test_checking_images_names_the_bad_ones(folders, tmp_path, capsys, workers):
    root = shutil.copytree(folders["source_root"], tmp_path / "synthetic")
    (root / "star" / "3.png").write_bytes(b"")
    (root / "circle" / "0.png").write_text("no image")
    chosen = {**folders, "source_root": str(root), "workers": workers}
    assert check({**chosen, "cache": str(tmp_path / "kept")}) == 2
    out = capsys.readouterr().out
    assert re.search(r"star/3\.png: empty file", out)
    assert re.search(r"circle/0\.png: no image", out)
    assert "synthetic -> real: 79 of 81 image files are readable" in out  # 36 + 15 + 30
    filled = [np.load(path).sum() for path in (tmp_path / "kept").glob("*.filled.npy")]
    assert sum(filled) == 79
    assert check({**chosen, "cache": str(tmp_path / "kept")}) == 2


def test_checking_quickly_looks_at_the_first_of_each_split(folders, capsys, monkeypatch):
    monkeypatch.setattr(check_images, "QUICK", 4)
    assert check(folders, quick=True) == 0
    assert "20 of 20 image files" in capsys.readouterr().out  # five splits


@pytest.mark.parametrize("env", ["ASG-Digits-v0", "ASG-VisDA-v0"])
@pytest.mark.filterwarnings("ignore:no data_root")
def test_checking_an_embedded_task_is_an_error(env, monkeypatch):
    monkeypatch.delenv("ASG_DATA_ROOT", raising=False)
    with pytest.raises(SystemExit, match=f"{env} has no image files .*: nothing was checked"):
        check_images.main(check_images.Args(env))


@pytest.mark.parametrize("by_variable", [False, True])
def test_checking_images_needs_no_pretrained_weights(
    visda_root, folders, capsys, monkeypatch, by_variable
):
    def no_download(*_):
        pytest.fail("weights were asked for")

    monkeypatch.setattr("asg_env.models.pretrained._download", no_download)
    small = {"model": "resnet18", "image_size": 32, "workers": 0}
    roots = {"source_root": folders["source_root"], "target_root": folders["target_root"]}
    if by_variable:
        monkeypatch.setenv("ASG_DATA_ROOT", str(visda_root))
        arguments = check_images.Args("ASG-VisDA-v0", small)
    else:
        arguments = check_images.Args(ID, {**roots, **small})
    assert check_images.main(arguments) == 0
    assert "image files are readable" in capsys.readouterr().out


@pytest.mark.parametrize("kwargs", [{"env": "ASG-Nowhere-v0"}, {"env_kwargs": {"zzz": 1}}, {}])
def test_checking_an_env_that_cannot_be_made_says_why(kwargs):
    with pytest.raises(SystemExit, match=r"--env .*: .*(source_root|zzz|Nowhere)") as error:
        check_images.main(check_images.Args(**{"env": ID, **kwargs}))
    assert "\n" not in str(error.value)
