"""A run that is killed anywhere ends with the bits of one that was not."""

import contextlib
import dataclasses
import json
import multiprocessing
import random
import time

import pytest
import torch
from finetune_support import EVALUATED, STEPS, TINY, same
from PIL import Image
from support import make
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import asg_env.evaluation.run as run_module
from asg_env.deploy import load_student
from asg_env.envs import FinetuneEnv
from asg_env.policies.recurrent import (
    PolicyArgs,
    RecurrentPolicy,
    load_policy,
    save_policy,
)
from asg_env.tasks.visda import read_visda
from experiments import finetune

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    pass


def fragile(monkeypatch, calls, after):
    """Let the process die at the given write to the disk, just before or just after it."""
    left = [calls]

    def wrap(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0 and not after:
                raise Killed
            function(*args, **kwargs)
            if left[0] == 0:
                raise Killed

        return wrapped

    monkeypatch.setattr(run_module.Run, "_write_line", wrap(run_module.Run._write_line))
    monkeypatch.setattr(FinetuneEnv, "save", wrap(FinetuneEnv.save))
    monkeypatch.setattr(run_module, "save_student", wrap(run_module.save_student))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["random", "learned"])
def test_a_run_that_dies_around_any_write_ends_with_the_same_bits(
    whole, name, after, tmp_path, monkeypatch
):
    """The first life ends at the first write, the second at its second, and so on."""
    args = dataclasses.replace(whole[name], out=tmp_path)
    deaths = 0
    while not (tmp_path / "record.json").exists():
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            deaths += 1
            fragile(patch, deaths, after)
            finetune.main(args)
    assert deaths > 5
    assert same(whole[name], args)


def killed_and_resumed(args, kills, longest, seed):
    """The run, after SIGKILLs wherever they come."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.finetune", "torch.utils.tensorboard"])
    moments = random.Random(seed)
    for _ in range(kills):
        process = context.Process(target=finetune.main, args=(args,))
        process.start()
        until = time.monotonic() + 60
        while not (args.out / "metrics.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        process.join()
    finetune.main(args)
    return args


@pytest.mark.parametrize("save_every", [0, 3])
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(
    whole, learned, save_every, tmp_path
):
    args = dataclasses.replace(
        TINY, policy=str(learned), actions="sampled", out=tmp_path, save_every=save_every
    )
    assert same(whole["learned"], killed_and_resumed(args, 5, 0.3, save_every))


def test_the_papers_run_on_visda_files_is_killed_and_ends_with_the_same_bits(
    visda, retention_root, whole, tmp_path
):
    paper = finetune.parse(["--preset", "paper"])
    kwargs = {**paper.env_kwargs, **visda, "workers": 2, "retention_root": str(retention_root)}
    args = dataclasses.replace(paper, env_kwargs=kwargs, epochs=4, out=tmp_path / "whole")
    finetune.main(args)
    record = json.loads((args.out / "record.json").read_text())
    assert record["groups"] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc_new"]
    assert record["steps"] == [0, 3, 6, 9, 12]  # an epoch is 72 images in batches of 32
    assert set(record["final"]) == {"accuracy", "ce", "retention"}
    assert same(args, killed_and_resumed(dataclasses.replace(args, out=tmp_path / "k"), 3, 2, 0))
    model = load_student(args.out / "student.safetensors")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 12)
    assert model.facts["transform"]["size"] == 32
    files = read_visda(visda["data_root"])[1]
    with Image.open(files.root / files.paths[0]) as photo:
        image = model.preprocess(photo)
    assert torch.equal(image, make("ASG-VisDA-v0", **visda).problem.splits["test"].first(1).images)
    embedded = load_student(whole["random"].out / "student.safetensors")
    with pytest.raises(ValueError, match="not on pictures"):
        embedded.preprocess(Image.new("RGB", (8, 8)))


def test_tensorboard_has_each_moment_once(whole, tmp_path, monkeypatch):
    args = dataclasses.replace(whole["random"], out=tmp_path)
    for calls in (8, 6):
        with monkeypatch.context() as patch:
            fragile(patch, calls, after=False)
            with pytest.raises(Killed):
                finetune.main(args)
    finetune.main(args)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    curves = {name: [e.step for e in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert curves["losses/phi"] == STEPS
    assert curves["test/retention"] == curves["inner_valid/ce"] == EVALUATED
    for name in ("reward", "rewards/proxy_valid", "lr_scale/fc_new"):
        assert curves[name][-7:] == STEPS[1:]


@pytest.mark.parametrize("damage", ["snapshot", "metrics", "missing metrics", "policy"])
def test_a_folder_that_does_not_fit_is_refused(damage, tmp_path, learned):
    policy = tmp_path / "policy"
    save_policy(load_policy(learned), policy)
    args = dataclasses.replace(TINY, policy=str(policy), out=tmp_path / "run")
    finetune.main(args)
    if damage == "snapshot":
        (args.out / "snapshot.safetensors").write_bytes(b"nothing")
    elif damage == "metrics":
        lines = (args.out / "metrics.jsonl").read_text().splitlines(keepends=True)
        (args.out / "metrics.jsonl").write_text("".join(lines[:3]))
    elif damage == "missing metrics":
        (args.out / "metrics.jsonl").unlink()
    else:
        save_policy(RecurrentPolicy(PolicyArgs("paper", 1, 6), seed=1), policy)
    with pytest.raises(SystemExit, match="delete") as error:
        finetune.main(args)
    assert str(args.out) in str(error.value)
