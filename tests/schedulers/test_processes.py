"""Several processes that train one network decide alike; the picture of what was decided."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from schedulers_support import Images, cautious_policy
from support import REPO
from torch import nn

from asg_env.schedulers import PolicyLR, plot_rates

RANK = """
import json, sys
sys.path.insert(0, "tests")
import torch, torch.nn.functional as F
from torch import distributed, nn
from schedulers_support import Images, cautious_policy
from asg_env.schedulers import PolicyLR

rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scheduler = PolicyLR(optimizer, cautious_policy(), total_steps=8, window=2)
losses = []
for step in range(8):
    images = Images(8, seed=2 * step + rank)
    loss = F.cross_entropy(net(images.images), images.labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(loss)
    losses.append(loss.item())
print(json.dumps([losses, scheduler._losses, scheduler.history]))
"""


def test_processes_decide_alike(tmp_path):
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            cwd=REPO,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (one, kept, history), (other, kept_too, history_too) = (
        __import__("json").loads(run.communicate(timeout=120)[0]) for run in runs
    )
    assert one != other
    assert kept == kept_too
    assert kept[0] == pytest.approx((one[0] + other[0]) / 2)
    assert history == history_too
    assert len(history) == 4


def test_the_picture_shows_every_group(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = PolicyLR(optimizer, cautious_policy(), total_steps=8, window=2, groups=["head"])
    images = Images(8)
    for step in range(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images.images), images.labels)
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        if step == 3:
            early = plot_rates(scheduler, tmp_path / "new" / "early.png")
    assert [row.step for row in scheduler.history] == [0, 2, 4, 6]
    assert scheduler.history[-1].rates == {"head": scheduler.get_last_lr()[0]}
    late = plot_rates(scheduler, tmp_path / "late.png")
    pictures = [np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (early, late)]
    red = [(np.abs(p - (214, 39, 40)).sum(-1) < 30).sum() for p in pictures]
    assert min(red) > 100  # the head's line and its entry in the legend
    assert red[0] != red[1]
