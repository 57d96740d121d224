"""PolicyLR in transformers' Trainer, which trains a small ViT."""

from __future__ import annotations

import pytest
import torch
from schedulers_support import Images, cautious_policy, same_weights

from asg_env.schedulers import PolicyLR, param_groups

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from asg_env.schedulers.transformers import PolicyLRCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ["embed", "blocks1", "blocks2", "head"]


def vit():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            **sizes, intermediate_size=32, image_size=16, patch_size=8, num_labels=3
        )
    )


def trainer_of(folder, model=None, kind=None, optimizers=(None, None), **options):
    args = transformers.TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": 12,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "logging_steps": 1,
            "save_strategy": "no",
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            **options,
        }
    )
    return (kind or transformers.Trainer)(
        model=model or vit(), args=args, train_dataset=Images(64, True), optimizers=optimizers
    )


def train(folder, window=2, resume=None, **options):
    trainer = trainer_of(folder, **options)
    callback = PolicyLRCallback(cautious_policy(), window=window).attach(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


def test_learning_rates_change_as_the_policy_says(tmp_path):
    """The losses that the Trainer logs, and its gradients, through a PolicyLR by hand."""
    seen = []

    class Noting(transformers.Trainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            seen.append((loss, [p.grad.clone() for p in self.model.parameters()]))
            return loss

    trainer, callback = train(tmp_path, kind=Noting)
    assert len(seen) == 12
    net = vit()
    optimizer = torch.optim.AdamW(param_groups(net, size=16), lr=0.01, weight_decay=0.1)
    for group in list(optimizer.param_groups):
        plain = [p for p in group["params"] if p.dim() == 1]
        group["params"] = [p for p in group["params"] if p.dim() > 1]
        added = {"params": plain, "name": group["name"], "lr": 0.01, "weight_decay": 0.0}
        if plain:
            optimizer.add_param_group(added)
    optimizer.param_groups.sort(key=lambda group: NAMES.index(group["name"]))
    scheduler = PolicyLR(optimizer, cautious_policy(), total_steps=12, window=2)
    for loss, gradients in seen:
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        scheduler.gradients()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step(loss)
    found = [list(row.rates.values()) for row in callback.scheduler.history]
    assert list(callback.scheduler.history[0].rates) == NAMES
    assert [list(row.rates.values()) for row in scheduler.history] == found
    assert len({tuple(row) for row in found}) > 3
    for ours, theirs in zip(trainer.model.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_logs_hold_the_learning_rates_that_were_in_force(tmp_path):
    trainer, callback = train(tmp_path)
    rows = [row for row in trainer.state.log_history if "learning_rate" in row]
    assert [row["step"] for row in rows] == list(range(1, 13))
    for row in rows:
        expected = callback.scheduler.history[(row["step"] - 1) // 2].rates
        assert {name: row[f"lr/{name}"] for name in NAMES} == expected
        assert row["learning_rate"] == expected["embed"]
    assert not [key for key in trainer.state.log_history[-1] if key.startswith("lr/")]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_goes_on_exactly(tmp_path, accumulate):
    """The Trainer of transformers 5.24 does not find a ViT's weights in its own checkpoint, whose
    names are those of before: the model is made from it first."""
    options = {"gradient_accumulation_steps": accumulate, "window": 4}
    save = {"save_strategy": "steps", "save_steps": 5}
    whole, expected = train(tmp_path / "whole", **options)
    train(tmp_path / "cut", **options, **save)
    checkpoint = str(tmp_path / "cut" / "checkpoint-5")
    model = transformers.ViTForImageClassification.from_pretrained(checkpoint)
    resumed, found = train(tmp_path / "cut", resume=checkpoint, model=model, **options)
    assert found.scheduler.history == expected.scheduler.history
    assert found.scheduler.last_epoch == 12
    assert same_weights(resumed.model, whole.model)


def test_accumulated_batches_are_one_step_of_their_mean_loss(tmp_path, monkeypatch):
    seen = []

    class Noting(PolicyLR):
        def step(self, loss):
            seen.append(float(loss))
            super().step(loss)

    monkeypatch.setattr("asg_env.schedulers.transformers.PolicyLR", Noting)
    trainer, callback = train(tmp_path, gradient_accumulation_steps=3)
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert callback.scheduler.last_epoch == 12
    assert seen == pytest.approx(logged, abs=1e-3)


def test_a_loss_that_is_not_the_models_own(tmp_path):
    trainer, callback = train(tmp_path, label_smoothing_factor=0.2)
    assert callback.scheduler.last_epoch == 12
    first = trainer.state.log_history[0]["loss"]
    assert callback.scheduler._losses[0] == pytest.approx(first, abs=1e-3)


def test_bf16(tmp_path):
    _, callback = train(tmp_path, bf16=True)
    assert callback.scheduler.last_epoch == 12
    assert len({tuple(row.rates.values()) for row in callback.scheduler.history}) > 3


def test_two_trainings_of_one_trainer_start_alike(tmp_path):
    trainer, callback = train(tmp_path)
    first = callback.scheduler.history[0]
    trainer.train()
    assert callback.scheduler.history[0] == first
    assert callback.scheduler.last_epoch == 12


def test_an_optimizer_of_ones_own(tmp_path):
    model = vit()
    optimizer = torch.optim.SGD(param_groups(model, size=16), lr=0.3)
    _, callback = train(tmp_path, model=model, optimizers=(optimizer, None))
    assert callback.scheduler.optimizer is optimizer
    assert callback.scheduler.layers.base_lrs == [0.3] * 4


def test_weight_decay_spares_biases_and_norms(tmp_path):
    trainer, callback = train(tmp_path)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    groups = callback.scheduler.optimizer.param_groups
    decayed = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
    assert decayed == set(trainer.get_decay_parameter_names(trainer.model)) & set(names.values())
    assert 0 < len(decayed) < len(names)
    assert isinstance(callback.scheduler.optimizer, torch.optim.AdamW)


def test_what_does_not_fit_is_refused(tmp_path):
    def attach(trainer):
        return PolicyLRCallback(cautious_policy()).attach(trainer)

    model = vit()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match=r"a scheduler \(StepLR\)"):
        attach(trainer_of(tmp_path, model, optimizers=(optimizer, own)))
    trainer = trainer_of(tmp_path)
    trainer.model_init = vit
    with pytest.raises(ValueError, match="model_init"):
        attach(trainer)
    for name in ("is_fsdp_enabled", "is_deepspeed_enabled"):
        trainer = trainer_of(tmp_path)
        setattr(trainer, name, True)
        with pytest.raises(ValueError, match="shard the weights"):
            attach(trainer)
    trainer = trainer_of(tmp_path)
    trainer.optimizer_cls_and_kwargs = (torch.optim.SGD, {"lr": 0.1, "params": []})
    with pytest.raises(ValueError, match="makes its own param groups"):
        attach(trainer)
    trainer = trainer_of(tmp_path)
    trainer.add_callback(PolicyLRCallback(cautious_policy()))
    with pytest.raises(ValueError, match=r"call attach\(trainer\)"):
        trainer.train()
