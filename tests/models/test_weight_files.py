"""Weight files of other trainers: unwrapped if their kind is known, named if they do not fit."""

import argparse
import re

import numpy as np
import pytest
import torch
from images import random_network
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from asg_env.models import load_pretrained
from asg_env.models.pretrained import weight_file

MODEL = "cifar_resnet20"


@pytest.fixture(scope="module")
def network():
    return random_network(MODEL, 5)


@pytest.fixture
def state(network):
    return dict(network.state_dict())


def load(path):
    return load_pretrained(MODEL, path).network.state_dict()


def saved(path, content):
    torch.save(content, path)
    return path


def same(found, state):
    return all(torch.equal(found[k], v) for k, v in state.items()) and len(found) == len(state)


class Holder(nn.Module):
    """A Lightning module in small: the network is one of its attributes."""

    def __init__(self, name, network):
        super().__init__()
        setattr(self, name, network)


def wrapped(kind, network):
    """What a trainer of that kind saves."""
    state = network.state_dict()
    compiled = {f"_orig_mod.{k}": v for k, v in state.items()}
    return {
        "DataParallel": nn.DataParallel(network).state_dict(),
        "compiled": compiled,
        "compiled, distributed": {f"module.{k}": v for k, v in compiled.items()},
        "compiled, distributed otherwise": {f"_orig_mod.module.{k}": v for k, v in state.items()},
        "Lightning": {"state_dict": Holder("model", network).state_dict(), "epoch": 3},
        "Lightning, compiled": {"state_dict": {f"net.{k}": v for k, v in compiled.items()}},
        "timm": {"state_dict": state, "arch": "x", "args": argparse.Namespace(lr=0.1), "epoch": 3},
        "timm, EMA alone": {"state_dict_ema": state, "epoch": 3},
        "torchvision": {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3},
        "AveragedModel": AveragedModel(network).state_dict(),
        "AveragedModel in a file": {"model_ema": AveragedModel(network).state_dict()},
        "DeepSpeed": {"module": state, "global_steps": 7},
    }[kind]


KINDS = (
    *("DataParallel", "compiled", "compiled, distributed", "compiled, distributed otherwise"),
    *("Lightning", "Lightning, compiled", "timm", "timm, EMA alone", "torchvision"),
    *("AveragedModel", "AveragedModel in a file", "DeepSpeed"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_common_trainers_load(tmp_path, network, state, kind):
    assert same(load(saved(tmp_path / "w.pt", wrapped(kind, network))), state)


def test_of_several_sets_of_weights_the_plain_one_is_taken_and_that_is_said(tmp_path, state):
    ema = {k: v * 2 for k, v in state.items()}
    path = saved(tmp_path / "w.pt", {"model_ema": ema, "state_dict": state})
    with pytest.warns(UserWarning, match="several sets of weights, state_dict, model_ema: state_d"):
        assert same(load(path), state)


def test_a_prefix_of_some_names_is_no_prefix(tmp_path, state):
    changed = {f"model.{k}": v for k, v in state.items()} | {"criterion.weight": torch.ones(2)}
    with pytest.raises(
        ValueError, match=r"under other names: 97 parameters missing \(conv1\.wei"
    ) as e:
        load(saved(tmp_path / "w.pt", changed))
    assert "unknown (model.conv1.weight, " in str(e.value)


def test_a_networks_own_names_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "own_holder.py").write_text(
        "from torch import nn\n\nclass Own(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.model = nn.Linear(3, 4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    state = {"model.weight": torch.ones(4, 3), "model.bias": torch.ones(4)}
    for name, content in (
        ("a", state),
        ("b", {f"module.model.{k[6:]}": v for k, v in state.items()}),
    ):
        path = saved(tmp_path / name, content)
        assert same(load_pretrained("own_holder:Own", path).network.state_dict(), state)


def test_shapes_are_named(tmp_path, state):
    state["conv1.weight"] = torch.ones(16, 3, 5, 5)
    with pytest.raises(
        ValueError, match=re.escape("conv1.weight: (16, 3, 5, 5) instead of (16, 3, 3")
    ):
        load(saved(tmp_path / "w.pt", state))


@pytest.mark.parametrize("name", ["w.SAFETENSORS", "w.Safetensors", "w.pth"])
def test_safetensors_are_known_by_any_spelling_and_by_their_content(tmp_path, state, name):
    save_file(state, tmp_path / name)
    assert same(load(tmp_path / name), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(tmp_path, state, dtype):
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    found = load(saved(tmp_path / "w.pt", other))
    assert same(found, {k: v.to(state[k].dtype) for k, v in other.items()})
    assert {v.dtype for v in found.values()} == {torch.float32, torch.int64}


BAD = {
    "integers": (lambda v: v.int(), r"no plain floating-point .*conv1\.weight: torch\.int32"),
    "booleans": (lambda v: v > 0, "no plain floating-point"),
    "complex": (lambda v: v.to(torch.complex64), "no plain floating-point"),
    "sparse": (lambda v: v.to_sparse(), "no plain floating-point"),
    "nan": (lambda v: v * torch.nan, r"1 parameters are not finite \(conv1\.weight\)"),
    "infinite": (lambda v: v.double() * 1e300, "not finite"),
    "hollow": (lambda v: v[:1, :1, :1, :1].clone().expand(v.shape), "smaller than its tensors"),
}


@pytest.mark.parametrize("kind", BAD)
def test_numbers_that_are_no_weights_are_refused(tmp_path, state, kind):
    change, reason = BAD[kind]
    path = tmp_path / "w.pt"
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{reason}"):
        load(saved(path, {**state, "conv1.weight": change(state["conv1.weight"])}))


def test_a_class_count_that_the_file_only_claims_builds_no_network(tmp_path, state):
    state["linear.weight"] = torch.ones(1, 64).expand(10**9, 64)
    with pytest.raises(ValueError, match=r"smaller than its tensors \(linear\.weight\)"):
        load(saved(tmp_path / "w.pt", state))


def test_counters_of_any_kind_load(tmp_path, state):
    averaged = {k: v if v.is_floating_point() else v.float() for k, v in state.items()}
    assert same(load(saved(tmp_path / "w.pt", averaged)), state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_weights_are_named_or_finite(tmp_path, state, suffix):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    content, named = path.read_bytes(), 0
    for case in range(30):
        rng, changed = np.random.default_rng(case), bytearray(content)
        for place in rng.integers(0, 2000 if case % 2 else len(content), 4).tolist():
            changed[place] = int(rng.integers(0, 256))
        if case % 5 == 0:
            del changed[int(rng.integers(0, len(changed))) :]
        path.write_bytes(changed)
        try:
            found = load(path)
        except ValueError as error:
            named += str(path) in str(error)
        else:
            assert all(v.isfinite().all() for v in found.values())
    assert named > 8


def test_a_file_may_be_called_as_torchvisions_weights_are(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "IMAGENET1K_V1", state)
    saved(tmp_path / "OWN_V3", state)
    assert same(load("IMAGENET1K_V1"), state)  # torchvision has none for this model
    assert weight_file("resnet18", "OWN_V3") == tmp_path / "OWN_V3"
    assert weight_file("resnet18", "./IMAGENET1K_V1") == tmp_path / "IMAGENET1K_V1"
    with pytest.warns(UserWarning, match=r"are torchvision's; the file .* is '\./IMAGENET1K_V1'"):
        assert weight_file("resnet18", "IMAGENET1K_V1") is None
    for name in ("DEFAULT", "random", "NOWHERE_V1"):
        assert weight_file("resnet18", name) is None
