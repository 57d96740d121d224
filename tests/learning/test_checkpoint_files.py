"""Checkpoints and logs that are damaged, or do not fit, are clear errors."""

import json

import pytest
import torch

from asg_env.files import BadFile, write_tensors
from asg_env.learning.checkpoint import FILE, Checkpoint, read_checkpoint, write_checkpoint
from asg_env.learning.log import Log
from asg_env.learning.run_folder import open_run
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy

ROW = {"return": 0.5, "lr_scale": {}, "episodes": 1, "env_steps": 2, "optimizer_steps": 4}


def trained():
    network = RecurrentPolicy(PolicyArgs("paper", 1, 2, hidden=2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 1, 7), network.initial_state(1))[0].sum().backward()
    optimizer.step()
    return network, optimizer


@pytest.mark.parametrize(
    "change",
    [
        {"network.heads.0.0.bias": torch.full((11,), float("nan"))},
        {"network.heads.0.0.bias": torch.ones(11, dtype=torch.int64)},
        {"network.heads.0.0.bias": torch.ones(12)},
        {"optimizer.0.exp_avg": torch.ones(8, 1, dtype=torch.int32)},
        {"optimizer.0.exp_avg": torch.ones(3)},
        {"optimizer.99.exp_avg": torch.ones(3)},
        {"zzz": torch.ones(3)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_foreign_checkpoint_that_does_not_fit_changes_nothing(change, tmp_path):
    network, optimizer = trained()
    tensors = {**Checkpoint.of(network, optimizer, 1).tensors, **change}
    write_checkpoint(tmp_path, Checkpoint(tensors, 1))
    before = network.heads[0][0].bias.clone()
    with pytest.raises(BadFile, match=FILE):
        read_checkpoint(tmp_path).load_into(network, optimizer)
    assert torch.equal(network.heads[0][0].bias, before)


@pytest.mark.parametrize("update", ["", "-1", "x", "9" * 5000])
def test_a_checkpoint_of_no_update_is_an_error(update, tmp_path):
    write_tensors(tmp_path / FILE, {}, {"update": update})
    with pytest.raises(BadFile, match="delete it to start over"):
        read_checkpoint(tmp_path)


def test_a_damaged_log_is_named(tmp_path):
    with Log(tmp_path, 0) as log:
        for update in (1, 2):
            log.write({"update": update, **ROW})
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1].replace("0.5", "0.6"))
    with pytest.raises(BadFile, match=r"metrics\.jsonl, line 2 is not as it was written"):
        Log(tmp_path, 2)
    path.write_text(lines[0] + lines[0])
    with pytest.raises(BadFile, match="does not hold the rows of the updates 1 to 2"):
        Log(tmp_path, 2)
    path.write_text("".join(lines) + "damaged, but after the checkpoint\n")
    with Log(tmp_path, 2) as log:
        assert log.last()["update"] == 2


def test_damaged_arguments_are_named(tmp_path):
    open_run(tmp_path, {"lr": 0.5})
    path = tmp_path / "args.json"
    for text in (path.read_text().replace("0.5", "0.6"), "[" * 10**5, "\udcff", "[]"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(SystemExit, match=r"args\.json.* to start over, delete"):
            open_run(tmp_path, {"lr": 0.5})
    path.write_text(json.dumps({"lr": 0.5}))
    open_run(tmp_path, {"lr": 0.5})
