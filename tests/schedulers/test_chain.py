"""Layer groups of networks that are one chain of blocks; which those are."""

from __future__ import annotations

import pytest
from torch import nn
from torchvision.models import get_model

from asg_env.models.groups import default_groups
from asg_env.schedulers import param_groups
from asg_env.schedulers.chain import chain_groups


@pytest.mark.parametrize(
    ("model", "size"),
    [("resnet18", 64), ("vgg11", 64), ("mobilenet_v2", 64), ("convnext_tiny", 64), ("swin_t", 64)],
)
def test_families_that_have_groups_keep_them(model, size):
    network = get_model(model, weights=None, num_classes=3)
    head = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    names = [group["name"] for group in param_groups(network, size=size)]
    assert names == [*default_groups(network, head, size), "head"]


def test_a_chain_is_split_by_depth_and_nothing_is_lost():
    network = get_model("vit_b_16", weights=None, num_classes=3, image_size=32)
    groups = param_groups(network, size=32)
    assert [g["name"] for g in groups] == [
        *("embed", "blocks1", "blocks2", "blocks3", "blocks4", "head")
    ]
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    names = {id(p): n for n, p in network.named_parameters()}
    last = {names[id(p)] for p in groups[4]["params"]}
    assert {"encoder.ln.weight", "encoder.ln.bias"} < last


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)


class Net(nn.Module):
    def __init__(self, chains, blocks):
        super().__init__()
        for k in range(chains):
            setattr(self, f"chain{k}", nn.ModuleList(Block() for _ in range(blocks)))
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 2)


def test_few_blocks_and_no_chain():
    assert chain_groups(Net(1, 2), "fc") == {
        "blocks1": ["chain0.0"],
        "blocks2": ["chain0.1", "norm.weight", "norm.bias"],
    }
    assert not chain_groups(Net(2, 2), "fc")
    assert not chain_groups(Net(1, 1), "fc")
    assert not chain_groups(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), "1")


def test_groups_may_be_a_function_or_its_name(monkeypatch):
    def halves(network):
        return {"body": ["chain0", "norm"], "head": ["fc"]}

    monkeypatch.setitem(globals(), "halves", halves)
    for groups in (halves, f"{__name__}:halves"):
        if isinstance(groups, str):
            monkeypatch.setitem(
                __import__("sys").modules, __name__, type("M", (), {"halves": staticmethod(halves)})
            )
        assert [g["name"] for g in param_groups(Net(1, 3), groups)] == ["body", "head"]
