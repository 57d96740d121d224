"""A student's file: what it declares is compared with its tensors before anything is made of it."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support import DIGITS_ID, SMALL, started

from asg_env.deploy import load_student, save_student
from asg_env.files import BadFile, read_tensors


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "student.safetensors"
    save_student(path, started(), DIGITS_ID, dict(SMALL), {"rule": "last"})
    return read_tensors(path)


def load(tmp_path, tensors, metadata, **change):
    ((key, text),) = metadata.items()
    path = tmp_path / "student.safetensors"
    save_file(tensors, path, {key: json.dumps(json.loads(text) | change)})
    return load_student(path)


def test_one_without_a_checksum_opens(saved, tmp_path):
    assert load(tmp_path, *saved).facts["rule"] == "last"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 10**9}, "hidden is 1000000000"),
        ({"old_classes": 2**62}, "old_classes is"),
        ({"classes": ["a"]}, "classes is 1"),
        ({"classes": 3}, "classes is 3"),
        ({"classifier": None}, "classifier is None"),
        ({"classifier": "zzz"}, "does not fit"),
        ({"model": "zzz"}, "does not fit zzz"),
        ({"transform": {"size": -1}}, "transform: |expected 1 <= size"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change, message, saved, tmp_path):
    with pytest.raises(BadFile, match=message) as error:
        load(tmp_path, *saved, **change)
    assert "student.safetensors" in str(error.value)


@pytest.mark.parametrize(
    "change", [lambda v: v * float("nan"), lambda v: v.to(torch.int32)], ids=["nan", "integers"]
)
def test_foreign_weights_are_refused(change, saved, tmp_path):
    tensors, metadata = saved
    name = "fc_new.0.bias"
    with pytest.raises(BadFile, match=r"student\.safetensors.*fc_new\.0\.bias holds"):
        load(tmp_path, {**tensors, name: change(tensors[name])}, metadata)
