"""PolicyLR as timm's scheduler, which steers a small timm network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from schedulers_support import Images, cautious_policy, same_weights

from asg_env.schedulers import PolicyLR, param_groups

timm = pytest.importorskip("timm")
from timm.optim import create_optimizer_v2  # noqa: E402
from timm.scheduler.scheduler import Scheduler  # noqa: E402

from asg_env.schedulers.timm import PolicyScheduler  # noqa: E402

STEPS = {"total_steps": 12, "window": 2}


def vit():
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 4, "num_heads": 2, "img_size": 16, "patch_size": 8}
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes)


def optimizer_of(model, **options):
    table = param_groups(model, size=16)
    return create_optimizer_v2(table, opt="sgd", lr=0.1, momentum=0.9, **options)


def batches(steps=12):
    return list(torch.utils.data.DataLoader(Images(8 * steps), batch_size=8))


def train(model, optimizer, scheduler, found, done=0):
    rates = []
    for updates, (images, labels) in enumerate(found, done + 1):
        rates.append([group["lr"] for group in optimizer.param_groups])
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(scheduler, Scheduler):
            scheduler.step_update(num_updates=updates, metric=loss)
            if updates % 4 == 0:
                scheduler.step(updates // 4, metric=0.5)
        else:
            scheduler.step(loss)
    return rates


def test_it_is_timms_scheduler_and_sets_policy_lrs_rates():
    found = []
    for kind in (PolicyScheduler, PolicyLR):
        model = vit()
        optimizer = optimizer_of(model)
        scheduler = kind(optimizer, cautious_policy(), **STEPS)
        found.append((train(model, optimizer, scheduler, batches()), model))
    (ours, one), (plain, other) = found
    assert ours == plain
    assert len({tuple(row) for row in ours}) > 3
    assert same_weights(one, other)


def test_layer_groups_of_a_timm_vit():
    names = [group["name"] for group in param_groups(vit(), size=16)]
    assert names == ["embed", "blocks1", "blocks2", "blocks3", "blocks4", "head"]


def test_timms_layer_decay_is_the_base():
    model = vit()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01, weight_decay=0.1, layer_decay=0.5)
    scheduler = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    scales = sorted({group["lr_scale"] for group in optimizer.param_groups})
    assert len(scales) > 3
    assert scheduler.policy_lr.layers.names == [f"scale{scale:.4g}" for scale in scales]
    expected = [0.01 * group["lr_scale"] for group in optimizer.param_groups]
    assert scheduler.policy_lr.layers.base_lrs == pytest.approx(expected)
    again = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    assert again.policy_lr.layers.base_lrs == pytest.approx(expected)


@pytest.mark.parametrize("stop", [3, 8])
def test_a_saved_run_goes_on_exactly(stop, tmp_path):
    found, model = batches(), vit()
    optimizer = optimizer_of(model)
    scheduler = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    train(model, optimizer, scheduler, found[:stop])
    parts = model.state_dict(), optimizer.state_dict(), scheduler.state_dict()
    torch.save(parts, tmp_path / "last.pt")
    expected = train(model, optimizer, scheduler, found[stop:], stop)

    weights, moments, state = torch.load(tmp_path / "last.pt", weights_only=True)
    again = vit()
    optimizer = optimizer_of(again)
    again.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    scheduler = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    scheduler.load_state_dict(state)
    scheduler.step_update(stop)  # as train.py does
    assert train(again, optimizer, scheduler, found[stop:], stop) == expected
    assert same_weights(model, again)


def test_skipped_updates_do_not_count():
    model = vit()
    optimizer = optimizer_of(model)
    scheduler = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    (images, labels), *_ = batches()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for updates in range(1, 5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        scaler.scale(loss * (float("inf") if updates == 2 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step_update(updates, loss)
    assert scheduler.num_updates == 4
    assert scheduler.policy_lr.last_epoch == 3


def test_what_does_not_fit_is_refused():
    model = vit()
    optimizer = optimizer_of(model)
    scheduler = PolicyScheduler(optimizer, cautious_policy(), **STEPS)
    (images, labels), *_ = batches()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    with pytest.raises(ValueError, match="pass metric=loss"):
        scheduler.step_update(1)
    with pytest.raises(ValueError, match=r"num_updates=7 follows 0.*load_state_dict"):
        scheduler.step_update(7, 1.0)
