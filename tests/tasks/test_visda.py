"""ASG-VisDA-v0: the paper's settings, identity, and what is measured."""

import contextlib
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from images import write_visda, write_weights
from PIL import Image
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support import (
    constant,
    frame,
    make,
    play,
    random_actions,
    run_python,
    student,
    trajectory,
)
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from visda_support import ID, SHORT, short

from asg_env.data.decode import IMAGENET_MEAN, IMAGENET_STD
from asg_env.data.files import FileList, read_image_list
from asg_env.tasks.problem import RECHECKED
from asg_env.tasks.visda import CLASSES

GROUPS = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc_new"]  # the paper's


def started(visda, **kwargs):
    env = short(visda, **kwargs)
    env.reset(seed=0)
    return env


def test_settings_groups_and_splits_are_the_papers(visda, weights):
    plain = {k: visda[k] for k in ("data_root", "model", "weights", "threads")}
    env = gym.make(ID, **plain).unwrapped
    config = env.config
    assert env.group_names == GROUPS
    assert (config.base_lr, config.guidance, config.batch_size) == (1e-4, 0.1, 32)
    assert (config.window, config.optimizer, config.channels_last) == (
        "paper",
        "official_sgd",
        True,
    )
    assert (config.momentum, config.weight_decay) == (0.9, 5e-4)
    assert config.budget == 30 * env.epoch_length == 30 * 3  # epochs, of 72 images
    assert env.dataset_name == "VisDA-17"
    problem = env.problem
    assert problem.flip_average
    assert problem.classes == CLASSES
    transforms = {split.transform for split in problem.splits.values()}
    assert [(t.size, t.resize) for t in transforms] == [(224, 224)]
    assert {n: len(s) for n, s in problem.splits.items()} == {
        "train": 72,
        "inner_valid": 36,
        "outer_valid": 36,
        "test": 48,
    }
    head = problem.student(0).fc_new
    assert [head[0].in_features, head[0].out_features, head[2].out_features] == [512, 512, 12]


def test_splits_are_disjoint_in_3d_models(visda):
    seen = {}
    for name, split in short(visda).problem.splits.items():
        for path in split.files.paths if name != "test" else ():
            assert seen.setdefault(path.split("__")[0], name) == name
    assert len(seen) == 48


@pytest.mark.parametrize("checker", [check_env, sb3_check_env])
def test_the_checkers_find_nothing_to_say(visda, checker, recwarn):
    checker(short(visda))
    assert not [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]


def test_the_environment_variable_is_the_default_root(visda, monkeypatch, visda_root, tmp_path):
    rest = {k: v for k, v in visda.items() if k != "data_root"}
    monkeypatch.setenv("ASG_DATA_ROOT", str(visda_root))
    assert short(rest).dataset_name == "VisDA-17"
    monkeypatch.setenv("ASG_DATA_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*ASG_DATA_ROOT"):
        short(rest)
    assert short(visda).dataset_name == "VisDA-17"  # data_root= goes first


@pytest.fixture(scope="module")
def reference(visda):
    env = short(visda)
    actions = random_actions(env, 4, seed=0)
    return actions, trajectory(env, 7, actions)


@pytest.mark.parametrize("kwargs", [{"workers": 2}, {"cache": "none"}, {"workers": 3, "cache": ""}])
def test_workers_and_caches_do_not_change_a_bit(visda, reference, tmp_path, kwargs):
    actions, expected = reference
    if "cache" in kwargs:
        kwargs = {**kwargs, "cache": kwargs["cache"] or str(tmp_path / "kept")}
    env = short(visda, **kwargs)
    assert trajectory(env, 7, actions) == expected
    assert trajectory(env, 7, actions) == expected
    assert trajectory(env, 8, actions) != expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fork_goes_on_with_the_same_bits(visda, reference, workers):
    actions, expected = reference
    env = short(visda, workers=workers)
    trajectory(env, 7, actions[:2])
    forked = env.fork()
    assert play(env, actions[2:]) == play(forked, actions[2:]) == expected[3:]


def test_worker_processes_go_the_same_way(visda, reference):
    actions, expected = reference
    for workers in (None, 2):
        arguments = {**visda, **SHORT, "workers": workers}
        vector = gym.vector.AsyncVectorEnv([lambda a=arguments: gym.make(ID, **a)])
        with contextlib.closing(vector):
            frames = [frame(*vector.reset(seed=7))]
            observation, reward, *ends, info = vector.step(actions[0][None])
            frames.append(frame(observation, info, reward[0], *(end[0] for end in ends)))
        assert frames == expected[:2]


CONTINUE = """
import json, sys
import numpy as np, torch
from support import frame, make, play
for job in json.load(open(sys.argv[1])):
    env = make("ASG-VisDA-v0", **job["kwargs"])
    env.load(job["path"])
    print(json.dumps(play(env, [np.asarray(a) for a in job["actions"]])))
"""


def test_a_saved_episode_goes_on_with_the_same_bits_in_a_new_process(visda, reference, tmp_path):
    actions, expected = reference
    jobs = []
    for done, workers in ((1, 0), (2, 2)):
        env = short(visda, workers=workers)
        trajectory(env, 7, actions[:done])
        env.save(tmp_path / str(done))
        rest = [action.tolist() for action in actions[done:]]
        kwargs = {**visda, **SHORT, "workers": workers}
        jobs.append({"kwargs": kwargs, "path": str(tmp_path / str(done)), "actions": rest})
    (tmp_path / "jobs").write_text(json.dumps(jobs))
    lines = run_python(CONTINUE, str(tmp_path / "jobs")).splitlines()
    assert [json.loads(line) for line in lines] == [expected[2:], expected[3:]]


def test_a_snapshot_of_another_problem_is_refused(visda, weights, retention_root, tmp_path):
    started(visda).save(tmp_path / "saved")
    state = torch.load(weights, weights_only=True)
    state["conv1.weight"][0, 0, 0, 0] += 1e-3
    torch.save(state, tmp_path / "other.pt")
    thirds = {"a": ["conv1", "bn1", "layer1"], "b": ["layer2", "layer3"], "c": ["layer4"]}
    for other in (
        *({"weights": str(tmp_path / "other.pt")}, {"image_size": 40}, {"held_out": 0.3}),
        *({"groups": thirds}, {"hidden": 7}, {"flip_average": False}),
        {"retention_root": str(retention_root)},
    ):
        with pytest.raises(
            ValueError, match="other images, pretrained weights, layer groups or evaluation"
        ):
            short(visda, **other).load(tmp_path / "saved")
    copy = shutil.copytree(visda["data_root"], tmp_path / "elsewhere")
    short(visda, data_root=str(copy)).load(tmp_path / "saved")


def decoded(files: FileList, size, resize=None):
    """Images and labels as torchvision reads them."""
    steps = [
        Resize(resize or size),
        CenterCrop(size),
        ToTensor(),
        Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    read = Compose(steps)
    images = [read(Image.open(files.root / path).convert("RGB")) for path in files.paths]
    return torch.stack(images), torch.from_numpy(files.labels)


def test_evaluation_is_the_papers_by_hand(visda, visda_root, retention_root):
    env = started(visda, base_lr=0.01, retention_root=str(retention_root))
    env.step(constant(env, 1.0))
    result = env.evaluate("test")
    images, labels = decoded(read_image_list(visda_root / "validation", CLASSES), 32)
    with torch.no_grad():
        network = student(env)
        scores = (network(images).new.sigmoid() + network(images.flip(-1)).new.sigmoid()) / 2
        right = scores.argmax(1) == labels
        recalls = [right[labels == k].double().mean() for k in range(12)]
        ce = torch.nn.functional.cross_entropy(network(images).new, labels)
        old_images, old_labels = decoded(env.problem.retention.files, 32, 37)  # 256 for 224
        kept = (network(old_images).old.argmax(1) == old_labels).double().mean()
    assert result["accuracy"] == pytest.approx(float(sum(recalls) / 12))
    assert result["ce"] == pytest.approx(float(ce), abs=1e-5)
    assert result["retention"] == pytest.approx(float(kept))


def test_without_retention_images_there_is_no_retention(visda):
    assert set(started(visda).evaluate("test")) == {"accuracy", "ce"}


@pytest.mark.parametrize("optimizer", ["sgd", "official_sgd"])
def test_online_and_cached_teachers_agree(visda, optimizer):
    losses = []
    for teacher in ("online", "cached"):
        env = started(visda, teacher=teacher, base_lr=1.0, optimizer=optimizer)
        assert env._episode.optimizee.settings.teacher == teacher
        losses += [[env.step(constant(env, 1.0))[4]["losses"] for _ in range(4)]]
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert one["train_kl"] > 1e-4


def test_the_cached_teachers_rows_belong_to_their_images(visda):
    env = started(visda, teacher="cached")
    problem = env._episode.optimizee.problem
    batch = problem.splits["train"].batch(torch.randperm(72)[:16])
    kept, fresh = problem.teacher_logits("train")[batch.indices], problem.teach(batch.images)
    assert (kept - fresh).abs().max() < 1e-5
    assert (kept - fresh.roll(1, 0)).abs().max() > 1e-3


def test_an_automatic_teacher_is_online_for_less_than_an_epoch_only(visda):
    chosen = {
        budget: started(visda, budget=budget)._episode.optimizee.settings.teacher
        for budget in (8, 9)
    }
    assert chosen == {8: "online", 9: "cached"}  # 72 images, 8 a batch


PASSES = """
import json, sys
from support import make
from asg_env.tasks.base import Problem
real, seen = Problem.teach, []
Problem.teach = lambda self, images: (seen.append(len(images)), real(self, images))[1]
env = make("ASG-VisDA-v0", **json.loads(sys.argv[1]))
env.reset(seed=0)
print(json.dumps([sum(seen), env._episode.ledger.losses]))
"""


def test_teacher_outputs_are_kept_until_the_weights_change(visda, weights, tmp_path, monkeypatch):
    kwargs = {**visda, **SHORT, "teacher": "cached", "cache": str(tmp_path / "kept")}
    kwargs["weights"] = str(shutil.copy(weights, tmp_path / "weights.pt"))
    seen, losses = json.loads(run_python(PASSES, json.dumps(kwargs)))
    assert seen == 72 + 36  # train, outer_valid
    problem_class = type(make(ID, **kwargs).problem)
    real, passes = problem_class.teach, []
    monkeypatch.setattr(
        problem_class, "teach", lambda self, x: (passes.append(len(x)), real(self, x))[1]
    )
    env = make(ID, **kwargs)
    env.reset(seed=0)
    assert sum(passes) == 2 * RECHECKED
    assert env._episode.ledger.losses == losses
    state = torch.load(kwargs["weights"], weights_only=True)
    torch.save({k: v * 1.01 for k, v in state.items()}, kwargs["weights"])
    env = make(ID, **kwargs)
    env.reset(seed=0)
    assert sum(passes) == 2 * RECHECKED + 72 + 36
    assert env._episode.ledger.losses != losses


def test_precision_and_layout_stay_near_fp32(visda):
    losses = {}
    for name, kwargs in {
        "plain": {"channels_last": False},
        "channels_last": {"channels_last": True},
        "bf16": {"precision": "bf16"},
    }.items():
        env = started(visda, base_lr=0.01, image_size=64, **kwargs)
        losses[name] = [env.step(constant(env, 0.5))[4]["losses"] for _ in range(2)][-1]
        assert np.isfinite(list(env.evaluate("test").values())).all()
    assert losses["channels_last"] == pytest.approx(losses["plain"], rel=1e-3, abs=1e-4)
    # bfloat16 has 8 bits of precision: 0.4% a rounding
    for name, value in losses["plain"].items():
        assert losses["bf16"][name] == pytest.approx(value, rel=0.05, abs=0.02)
    assert losses["bf16"] != losses["plain"]


def test_a_resnet101_takes_a_step_with_the_papers_settings(tmp_path, monkeypatch):
    """About 13 s on one core: the paper's network and image size, on 36 images."""
    monkeypatch.setattr("asg_env.training.optimizee.PROBE_SIZE", 2)
    root = write_visda(tmp_path / "visda", models_a_class=3, views=1, real=1)
    weights = write_weights(tmp_path / "resnet101.pth", "resnet101", 10)
    arguments = {"data_root": str(root), "weights": str(weights), "threads": 1, "workers": 1}
    env = make(ID, **arguments, budget=1, window=1, batch_size=4)
    assert env.group_names == GROUPS
    env.reset(seed=0)
    assert next(iter(env.problem.splits["train"].chunks())).images.shape == (12, 3, 224, 224)
    _, _, terminated, _, info = env.step(constant(env, 1.0))
    assert terminated
    assert "error_type" not in info
    assert student(env).fc_new[0].in_features == 2048
