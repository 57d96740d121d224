"""PolicyLR in Lightning's Trainer, which trains a small network."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from schedulers_support import Images, cautious_policy, same_weights
from torch import nn

from asg_env.schedulers import PolicyLR, param_groups

pl = pytest.importorskip("lightning.pytorch")
from asg_env.schedulers.lightning import SHARDED, PolicyLRCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
GROUPS = {"first": ["0"], "second": ["3"], "head": ["5"]}


def network():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3, 2), nn.Linear(196, 8)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), second, nn.ReLU(), nn.Linear(8, 3))


def module_of(package):
    class Module(package.LightningModule):
        def __init__(self, lr=0.1, scheduler=False, optimizers=1, skipped=()):
            super().__init__()
            self.net, self.lr, self.scheduler = network(), lr, scheduler
            self.count, self.skipped = optimizers, skipped

        def training_step(self, batch, batch_idx):
            if batch_idx in self.skipped:
                return None
            return F.cross_entropy(self.net(batch[0]).float(), batch[1])

        def configure_optimizers(self):
            made = [
                torch.optim.SGD(param_groups(self.net, GROUPS), lr=self.lr, momentum=0.9)
                for _ in range(self.count)
            ]
            if self.scheduler:
                return made, [torch.optim.lr_scheduler.StepLR(made[0], 1)]
            return made

    return Module


Module = module_of(pl)


class Noted(pl.loggers.Logger):
    name, version = "noted", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))

    def log_hyperparams(self, params, *args, **kwargs):
        pass


def fit(module, callback, folder, *, epochs=2, count=48, package=pl, path=None, **options):
    loader = torch.utils.data.DataLoader(Images(count), batch_size=8)
    trainer = package.Trainer(
        **{"max_epochs": epochs, "logger": False, "enable_checkpointing": False, **options},
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, ckpt_path=path)
    return trainer


def rates(callback):
    return [list(row.rates.values()) for row in callback.scheduler.history]


def by_hand(batches, accumulate=1, clip=None, steps=12):
    net = network()
    optimizer = torch.optim.SGD(param_groups(net, GROUPS), lr=0.1, momentum=0.9)
    scheduler = PolicyLR(optimizer, cautious_policy(), total_steps=steps, window=2)
    for start in range(0, len(batches), accumulate):
        optimizer.zero_grad()
        losses = [F.cross_entropy(net(x), y) for x, y in batches[start : start + accumulate]]
        for loss in losses:
            (loss / accumulate).backward()
        if clip:
            scheduler.gradients()
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        scheduler.step(torch.stack(losses).mean().detach())
    return net, [list(row.rates.values()) for row in scheduler.history]


def batches(epochs=2):
    return list(torch.utils.data.DataLoader(Images(48), batch_size=8)) * epochs


@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (1, 0.5), (2, None), (4, None)])
def test_a_training_is_the_plain_loops(tmp_path, accumulate, clip):
    """Four batches of six leave two, of which Lightning makes a step of its own."""
    module, callback = Module(), PolicyLRCallback(cautious_policy(), window=2)
    options = {"accumulate_grad_batches": accumulate, "gradient_clip_val": clip}
    trainer = fit(module, callback, tmp_path, callbacks=[callback], **options)
    if accumulate == 4:
        assert callback.scheduler.last_epoch == trainer.global_step == 4
        return
    net, expected = by_hand(batches(), accumulate, clip, steps=12 // accumulate)
    assert rates(callback) == expected
    assert len({tuple(row) for row in expected}) == len(expected) > 2
    assert same_weights(module.net, net)


def test_learning_rates_are_logged_at_every_decision(tmp_path):
    noted, callback = Noted(), PolicyLRCallback(cautious_policy(), window=3)
    fit(Module(), callback, tmp_path, callbacks=[callback], logger=noted)
    found = [(step, row) for step, row in noted.rows if "lr/head" in row]
    assert [step for step, _ in found] == [0, 3, 6, 9]
    assert [list(row.values()) for _, row in found] == rates(callback)
    assert set(found[0][1]) == {"lr/first", "lr/second", "lr/head"}


class Killed(Exception):
    pass


class Killer(pl.Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.current_epoch == 2:
            raise Killed


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("policy", ["cautious", "frozen_backbone"])
def test_a_killed_run_goes_on_exactly(tmp_path, accumulate, policy):
    """A frozen group has a learning rate of 0 in the checkpoint's optimizer."""
    made = cautious_policy() if policy == "cautious" else policy
    whole, first, second = (PolicyLRCallback(made, window=4) for _ in range(3))
    options = {"epochs": 4, "accumulate_grad_batches": accumulate}
    uninterrupted, module = Module(), Module(lr=0.1)
    fit(uninterrupted, whole, tmp_path, callbacks=[whole], **options)
    keep = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, save_top_k=-1)
    with pytest.raises(Killed):
        fit(
            *(Module(), first, tmp_path),
            callbacks=[keep, first, Killer()],
            enable_checkpointing=True,
            **options,
        )
    last = tmp_path / "last.ckpt"
    fit(module, second, tmp_path, callbacks=[second], path=last, **options)
    assert second.scheduler.history == whole.scheduler.history
    assert second.scheduler.last_epoch == 24 // accumulate
    assert same_weights(module, uninterrupted)


def test_bf16(tmp_path):
    module, callback = Module(), PolicyLRCallback(cautious_policy(), window=2)
    kinds = set()
    module.net.register_forward_hook(lambda net, inputs, logits: kinds.add(logits.dtype))
    fit(module, callback, tmp_path, callbacks=[callback], precision="bf16-mixed")
    assert kinds == {torch.bfloat16}
    assert callback.scheduler.last_epoch == 12
    exact = by_hand(batches())[1]
    assert torch.tensor(rates(callback)).log10() == pytest.approx(
        torch.tensor(exact).log10(), abs=0.5
    )


def test_bf16_weights(tmp_path):
    module, callback = Module(), PolicyLRCallback(cautious_policy(), window=2)
    fit(module, callback, tmp_path, callbacks=[callback], precision="bf16-true")
    assert next(module.parameters()).dtype == torch.bfloat16
    assert len({tuple(row) for row in rates(callback)}) > 2


def test_a_step_that_the_grad_scaler_skipped_does_not_count(tmp_path):
    """The CPU's Trainer takes no fp16: the precision plugin with a CPU scaler does."""
    from lightning.pytorch.plugins import MixedPrecision

    class Overflow(Module):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * (float("inf") if batch_idx == 2 else 1.0)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    callback = PolicyLRCallback(cautious_policy(), window=2)
    fit(Overflow(), callback, tmp_path, callbacks=[callback], plugins=[plugin])
    assert callback.scheduler.last_epoch == 10
    assert all(torch.isfinite(torch.tensor(rates(callback))).flatten())


def test_a_batch_without_a_loss_does_not_count(tmp_path):
    callback = PolicyLRCallback(cautious_policy(), window=2)
    fit(Module(skipped=(1, 2)), callback, tmp_path, callbacks=[callback])
    assert callback.scheduler.last_epoch == 8


def test_the_other_name_of_the_package(tmp_path):
    package = pytest.importorskip("pytorch_lightning")
    module, callback = module_of(package)(), PolicyLRCallback(cautious_policy(), window=2)
    fit(module, callback, tmp_path, callbacks=[callback], package=package)
    assert rates(callback) == by_hand(batches())[1]


def test_only_the_other_name_is_installed(monkeypatch):
    package = pytest.importorskip("pytorch_lightning")
    import asg_env.schedulers.lightning as module

    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "lightning.pytorch", None)
        assert issubclass(importlib.reload(module).PolicyLRCallback, package.Callback)
    importlib.reload(module)


def test_two_trainings_with_one_callback(tmp_path):
    callback, found = PolicyLRCallback(cautious_policy(), window=2), []
    for _ in range(2):
        fit(Module(), callback, tmp_path, callbacks=[callback])
        found.append(rates(callback))
    assert found[0] == found[1]


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (lambda: Module(scheduler=True), {}, r"a scheduler \(StepLR\).*return the optimizer alone"),
        (Manual, {}, "automatic optimization only"),
        (Module, {"epochs": -1, "max_steps": -1}, "has no end.*pass total_steps"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, module, options, message):
    callback = PolicyLRCallback(cautious_policy())
    with pytest.raises(ValueError, match=message):
        fit(module(), callback, tmp_path, callbacks=[callback], **options)


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_optimizers_is_refused(tmp_path, count):
    """Lightning itself refuses two, unless optimization is manual."""
    callback = PolicyLRCallback(cautious_policy())
    with pytest.raises((ValueError, RuntimeError), match=r"optimizers|0 optimizers"):
        fit(Module(optimizers=count), callback, tmp_path, callbacks=[callback])


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_weights_are_refused(name):
    trainer = SimpleNamespace(
        optimizers=[None], lr_scheduler_configs=[], strategy=type(name, (), {})()
    )
    with pytest.raises(ValueError, match=f"strategy {name} shards the weights"):
        PolicyLRCallback(cautious_policy()).on_train_start(trainer, Module())


def test_the_sharded_strategies_are_lightnings():
    from lightning.pytorch import strategies

    assert all(hasattr(strategies, name) for name in SHARDED)


def test_a_run_without_an_end_takes_total_steps(tmp_path):
    callback = PolicyLRCallback(cautious_policy(), total_steps=30)

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = trainer.global_step == 3

    fit(Module(), callback, tmp_path, epochs=-1, callbacks=[callback, Stop()], max_steps=-1)
    assert callback.scheduler.total_steps == 30
