"""ASG-VisDA-v0's arguments and weights: what is refused, and how it is named."""

import dataclasses
import os
import pickle
import re
import urllib.error

import gymnasium as gym
import pytest
import torch
from images import random_network, write_weights
from visda_support import ID, short


@pytest.mark.parametrize("root", ["/nowhere/visda", "", 3, b"/nowhere"])
def test_a_wrong_root_is_never_replaced_by_something_else(visda, root, monkeypatch):
    monkeypatch.setenv("ASG_DATA_ROOT", visda["data_root"])
    with pytest.raises((FileNotFoundError, ValueError), match=r"data_root|/nowhere/visda"):
        short(visda, data_root=root)


@pytest.mark.parametrize("classes", [4, 6])
def test_retention_needs_the_old_classes(visda, retention_root, tmp_path, classes):
    weights = write_weights(tmp_path / "other.pt", "resnet18", classes)
    with pytest.raises(ValueError, match=rf"{retention_root} has 5 class folders.*has {classes}"):
        short(visda, weights=str(weights), retention_root=str(retention_root))


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def bad_weights(kind, path, weights):
    whole = weights.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(path.parent / "executed")))
    elif kind == "torch pickle":
        torch.save({"state_dict": Payload(path.parent / "executed")}, path)
    elif kind == "whole module":
        torch.save(random_network("cifar_resnet20", 2), path)
    elif kind == "a tensor":
        torch.save(torch.ones(3), path)
    elif kind == "other architecture":
        torch.save(random_network("cifar_resnet20", 5).state_dict(), path)
    elif kind == "one missing":
        state = torch.load(weights, weights_only=True)
        del state["layer3.0.conv1.weight"]
        torch.save(state, path)
    elif kind == "directory":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no weight file"),
        ("directory", "no weight file"),
        ("cut", "no whole weight file"),
        ("empty", "no whole weight file|more than tensors"),
        ("text", "no whole weight file|more than tensors"),
        ("pickle", "more than tensors, and is not loaded"),
        ("torch pickle", "more than tensors, and is not loaded"),
        ("whole module", "more than tensors, and is not loaded"),
        ("a tensor", "no state dict"),
        ("other architecture", "another architecture than 'resnet18'"),
        ("one missing", r"1 parameters missing \(layer3\.0\.conv1\.weight\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bad_weights_are_named_and_never_executed(visda, weights, tmp_path, kind, reason, suffix):
    path = tmp_path / f"bad{suffix}"
    bad_weights(kind, path, weights)
    if suffix == ".safetensors" and kind not in ("missing", "directory"):
        reason = "no whole weight file"
    error = FileNotFoundError if kind in ("missing", "directory") else ValueError
    with pytest.raises(error, match=f"{re.escape(str(path))}.*({reason})|({reason}) {path}"):
        short(visda, weights=str(path))
    assert not (tmp_path / "executed").exists()


def test_unknown_names_are_answered_with_the_known_ones(visda):
    with pytest.raises(ValueError, match=r"IMAGENET1K_V9.*resnet18 has DEFAULT, IMAGENET1K_V1"):
        short(visda, weights="IMAGENET1K_V9")
    with pytest.raises(ValueError, match=r"model='resnet17'.*cifar_resnet20.*resnet18"):
        short(visda, model="resnet17")
    with pytest.raises(ValueError, match=r"classifier='conv1' of 'resnet18' is no nn\.Linear"):
        short(visda, classifier="conv1")
    with pytest.raises(ValueError, match=r"cifar_resnet20.*pass a file"):
        short(visda, model="cifar_resnet20", weights="DEFAULT")


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no network"), RuntimeError("invalid hash value")]
)
def test_a_download_that_fails_says_to_pass_a_file(visda, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"IMAGENET1K_V1.*resnet18.*weights='/path/to"):
        short(visda, weights="IMAGENET1K_V1")


def test_random_weights_warn(visda):
    with pytest.warns(UserWarning, match="random weights"):
        short(visda, weights="random")


BAD_VALUES = {
    "model": [3, None, ""],
    "weights": [3, None],
    "classifier": [3, "nowhere"],
    "groups": [3, {"a": []}],
    "hidden": [0, -1, 2.5, "512", True],
    "image_size": [0, -1, 2.5, "224", True],
    "retention_resize": [0, -1, 2.5, "256", True],
    "held_out": [0, 0.5, -0.1, float("nan"), "0.1", None],
    "flip_average": ["yes", None, 1],
    "workers": [-1, 1.5, "2", True],
    "cache": [3, True],
    "on_error": ["ignore", None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_a_bad_value_is_refused_when_the_env_is_made_and_named(visda, name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name[:5]}"):
        short(visda, **{name: value})


def test_a_bad_batch_size_is_named_though_the_budget_follows_from_it(visda):
    for size in (-5, "32", 2.5):
        with pytest.raises(ValueError, match="batch_size="):
            gym.make(ID, **visda, batch_size=size)


def test_every_image_argument_has_bad_values_to_try(visda):
    fields = {field.name for field in dataclasses.fields(short(visda).task.settings)}
    assert set(BAD_VALUES) == fields
