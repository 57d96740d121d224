"""ASG-VisDA-v0 on a small tree in VisDA-17's exact layout."""

import contextlib
import dataclasses
import json
import os
import pickle
import re
import shutil
import urllib.error

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from images import random_network, write_image, write_visda, write_weights
from PIL import Image
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support import constant, frame, make, play, random_actions, run_python, student, trajectory
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from asg_env.data.decode import IMAGENET_MEAN, IMAGENET_STD, ImageError
from asg_env.data.files import FileList, read_image_list
from asg_env.tasks.base import RECHECKED
from asg_env.tasks.visda import CLASSES

ID = "ASG-VisDA-v0"
SHORT = {"budget": 4, "window": 1, "batch_size": 8}
GROUPS = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc_new"]  # the paper's


def short(visda, **kwargs):
    return make(ID, **{**visda, **SHORT, **kwargs})


def started(visda, **kwargs):
    env = short(visda, **kwargs)
    env.reset(seed=0)
    return env


def rewritten(root, tmp_path, part="train", add=(), lines=None):
    """A copy of a tree with another list."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=os.link)
    source = copy / part / "image_list.txt"
    old = source.read_text().splitlines()
    source.unlink()  # a hard link
    source.write_text("\n".join([*(old if lines is None else lines), *add]))
    return copy


# -- the task --------------------------------------------------------------------------------------


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


# -- identity --------------------------------------------------------------------------------------


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


# -- what is measured ------------------------------------------------------------------------------


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
        assert env._optimizee.settings.teacher == teacher
        losses += [[env.step(constant(env, 1.0))[4]["losses"] for _ in range(4)]]
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert one["train_kl"] > 1e-4


def test_the_cached_teachers_rows_belong_to_their_images(visda):
    env = started(visda, teacher="cached")
    problem = env._optimizee.problem
    batch = problem.splits["train"].batch(torch.randperm(72)[:16])
    kept, fresh = problem.teacher_logits("train")[batch.indices], problem.teach(batch.images)
    assert (kept - fresh).abs().max() < 1e-5
    assert (kept - fresh.roll(1, 0)).abs().max() > 1e-3


def test_an_automatic_teacher_is_online_for_less_than_an_epoch_only(visda):
    chosen = {
        budget: started(visda, budget=budget)._optimizee.settings.teacher for budget in (8, 9)
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
print(json.dumps([sum(seen), env._episode.losses]))
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
    assert env._episode.losses == losses
    state = torch.load(kwargs["weights"], weights_only=True)
    torch.save({k: v * 1.01 for k, v in state.items()}, kwargs["weights"])
    env = make(ID, **kwargs)
    env.reset(seed=0)
    assert sum(passes) == 2 * RECHECKED + 72 + 36
    assert env._episode.losses != losses


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


# -- unreadable images -----------------------------------------------------------------------------


def damaged(visda_root, tmp_path, *places):
    """A copy of the tree and the paths of some broken images in it."""
    copy = shutil.copytree(visda_root, tmp_path / "damaged")
    paths = (copy / "train" / "image_list.txt").read_text().split()[::2]
    for place in places:
        (copy / "train" / paths[place]).write_bytes(b"no image")
    return copy, [paths[place] for place in places]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_the_run_with_its_name(visda, visda_root, tmp_path, workers):
    copy, paths = damaged(visda_root, tmp_path, *range(0, 144, 2))
    env = short(visda, data_root=str(copy), workers=workers)
    with pytest.raises(ImageError, match="|".join(map(re.escape, paths))):
        env.reset(seed=0)


def test_a_step_that_broke_off_ends_the_episode_and_a_reset_begins_another(
    visda, visda_root, tmp_path
):
    root = shutil.copytree(visda_root, tmp_path / "visda")
    env = short(visda, data_root=str(root), cache="none", teacher="online")
    env.reset(seed=0)
    hidden = [p.rename(p.with_suffix(".away")) for p in (root / "train").rglob("*.png")]
    with pytest.raises(ImageError, match="no such image file"):
        env.step(constant(env, 0.5))
    with pytest.raises(ResetNeeded):
        env.step(constant(env, 0.5))
    for path in hidden:
        path.rename(path.with_suffix(".png"))
    env.reset(seed=0)
    assert np.isfinite(env.step(constant(env, 0.5))[0]).all()


@pytest.mark.parametrize("teacher", ["online", "cached"])
def test_skipped_images_are_counted_and_change_no_identity(visda, visda_root, tmp_path, teacher):
    copy, paths = damaged(visda_root, tmp_path, *range(0, 144, 2))
    env = short(visda, data_root=str(copy), on_error="skip", teacher=teacher, batch_size=1)
    actions = random_actions(env, 4, seed=0)
    with pytest.warns(UserWarning, match="skipped") as caught:
        first = trajectory(env, 3, actions)
    named = {p for p in paths for w in caught if p in str(w.message)}
    *_, info = env.reset(seed=3)
    assert info["skipped"] == len(named) > 0
    assert np.isfinite(list(info["losses"].values())).all()
    assert trajectory(env, 3, actions) == first
    env.evaluate("train")


def test_the_first_image_may_be_unreadable(visda, visda_root, tmp_path):
    split = short(visda).problem.splits["outer_valid"]
    copy = shutil.copytree(visda_root, tmp_path / "damaged")
    (copy / "train" / split.files.paths[0]).write_bytes(b"")
    env = short(visda, data_root=str(copy), on_error="skip")
    with pytest.warns(UserWarning, match=re.escape(split.files.paths[0])):
        env.reset(seed=0)


# -- bad input -------------------------------------------------------------------------------------

FIRST = "aeroplane/src_1_02691156_0000000000__0_147_164.png"
BAD_LINES = {
    "car/x.png 12": "label 12 is out of range 0..11",
    "car/x.png -1": "label '-1' is not an integer 0..11",
    "car/x.png cat": "label 'cat' is not an integer",
    "car/x.png 1.0": "label '1.0' is not an integer",
    "car/x.png ²": "is not an integer",
    "car/x.png": "expected 'relative/path label'",
    "../x.png 3": r"'\.\./x\.png' leaves the folder",
    "car/../../x.png 3": "leaves the folder",
    "/etc/passwd 3": "'/etc/passwd' leaves the folder",
    f"{FIRST} 0": "listed twice",
    f"./{FIRST.replace('/', '//')} 1": "listed twice",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_with_its_number(visda, visda_root, tmp_path, line):
    copy = rewritten(visda_root, tmp_path, add=[line])
    place = f"{re.escape(str(copy / 'train' / 'image_list.txt'))}, line 145: .*"
    with pytest.raises(ValueError, match=place + BAD_LINES[line]):
        short(visda, data_root=str(copy))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_missing_or_empty_list_or_image_is_named(visda, visda_root, tmp_path, part):
    copy = rewritten(visda_root, tmp_path, part, add=["car/gone.png 3"])
    with pytest.raises(FileNotFoundError, match=rf"1 of .* {copy / part}: car/gone\.png; unpack"):
        short(visda, data_root=str(copy))
    source = copy / part / "image_list.txt"
    source.write_text("\n \n")
    with pytest.raises(ValueError, match=f"{source} lists no image"):
        short(visda, data_root=str(copy))
    source.unlink()
    with pytest.raises(FileNotFoundError, match=rf"expected {source}\. Unpack"):
        short(visda, data_root=str(copy))


def test_a_class_without_training_images_is_named(visda, visda_root, tmp_path):
    lines = (visda_root / "train" / "image_list.txt").read_text().splitlines()
    copy = rewritten(visda_root, tmp_path, lines=[x for x in lines if not x.startswith("horse")])
    with pytest.raises(ValueError, match=r"class 'horse'.* 0 images"):
        short(visda, data_root=str(copy))


def test_a_list_may_have_spaces_blank_lines_and_windows_ends(visda, visda_root, tmp_path):
    lines = (visda_root / "train" / "image_list.txt").read_text().splitlines()
    copy = rewritten(visda_root, tmp_path, lines=["\ufeff" + lines[0], "", *lines[1:]])
    write_image(copy / "train" / "car" / "a name.png", 1)
    source = copy / "train" / "image_list.txt"
    source.write_bytes(
        (source.read_text() + "\ncar/a name.png\t3 \n").replace("\n", "\r\n").encode()
    )
    assert len(short(visda, data_root=str(copy)).task.source) == 145


@pytest.mark.parametrize("root", ["/nowhere/visda", "", 3, b"/nowhere"])
def test_a_wrong_root_is_never_replaced_by_something_else(visda, root, monkeypatch):
    monkeypatch.setenv("ASG_DATA_ROOT", visda["data_root"])
    with pytest.raises((FileNotFoundError, ValueError), match=r"data_root|/nowhere/visda"):
        short(visda, data_root=root)


@pytest.mark.parametrize("classes", [4, 6])
def test_retention_needs_the_old_classes(visda, retention_root, tmp_path, classes):
    weights = write_weights(tmp_path / "other.pt", "resnet18", classes)
    with pytest.raises(ValueError, match=rf"{retention_root} has 5 class folders.*has {classes}"):
        short(visda, weights=str(weights), retention_root=str(retention_root))


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def bad_weights(kind, path, weights):
    whole = weights.read_bytes()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(path.parent / "executed")))
    elif kind == "torch pickle":
        torch.save({"state_dict": Payload(path.parent / "executed")}, path)
    elif kind == "whole module":
        torch.save(random_network("cifar_resnet20", 2), path)
    elif kind == "a tensor":
        torch.save(torch.ones(3), path)
    elif kind == "other architecture":
        torch.save(random_network("cifar_resnet20", 5).state_dict(), path)
    elif kind == "one missing":
        state = torch.load(weights, weights_only=True)
        del state["layer3.0.conv1.weight"]
        torch.save(state, path)
    elif kind == "directory":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no weight file"),
        ("directory", "no weight file"),
        ("cut", "no whole weight file"),
        ("empty", "no whole weight file|more than tensors"),
        ("text", "no whole weight file|more than tensors"),
        ("pickle", "more than tensors, and is not loaded"),
        ("torch pickle", "more than tensors, and is not loaded"),
        ("whole module", "more than tensors, and is not loaded"),
        ("a tensor", "no state dict"),
        ("other architecture", "another architecture than 'resnet18'"),
        ("one missing", r"1 parameters missing \(layer3\.0\.conv1\.weight\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_bad_weights_are_named_and_never_executed(visda, weights, tmp_path, kind, reason, suffix):
    path = tmp_path / f"bad{suffix}"
    bad_weights(kind, path, weights)
    if suffix == ".safetensors" and kind not in ("missing", "directory"):
        reason = "no whole weight file"
    error = FileNotFoundError if kind in ("missing", "directory") else ValueError
    with pytest.raises(error, match=f"{re.escape(str(path))}.*({reason})|({reason}) {path}"):
        short(visda, weights=str(path))
    assert not (tmp_path / "executed").exists()


def test_unknown_names_are_answered_with_the_known_ones(visda):
    with pytest.raises(ValueError, match=r"IMAGENET1K_V9.*resnet18 has DEFAULT, IMAGENET1K_V1"):
        short(visda, weights="IMAGENET1K_V9")
    with pytest.raises(ValueError, match=r"model='resnet17'.*cifar_resnet20.*resnet18"):
        short(visda, model="resnet17")
    with pytest.raises(ValueError, match=r"classifier='conv1' of 'resnet18' is no nn\.Linear"):
        short(visda, classifier="conv1")
    with pytest.raises(ValueError, match=r"cifar_resnet20.*pass a file"):
        short(visda, model="cifar_resnet20", weights="DEFAULT")


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no network"), RuntimeError("invalid hash value")]
)
def test_a_download_that_fails_says_to_pass_a_file(visda, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ValueError, match=r"IMAGENET1K_V1.*resnet18.*weights='/path/to"):
        short(visda, weights="IMAGENET1K_V1")


def test_random_weights_warn(visda):
    with pytest.warns(UserWarning, match="random weights"):
        short(visda, weights="random")


BAD_VALUES = {
    "model": [3, None, ""],
    "weights": [3, None],
    "classifier": [3, "nowhere"],
    "groups": [3, {"a": []}],
    "hidden": [0, -1, 2.5, "512", True],
    "image_size": [0, -1, 2.5, "224", True],
    "retention_resize": [0, -1, 2.5, "256", True],
    "held_out": [0, 0.5, -0.1, float("nan"), "0.1", None],
    "flip_average": ["yes", None, 1],
    "workers": [-1, 1.5, "2", True],
    "cache": [3, True],
    "on_error": ["ignore", None],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values]
)
def test_a_bad_value_is_refused_when_the_env_is_made_and_named(visda, name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name[:5]}"):
        short(visda, **{name: value})


def test_a_bad_batch_size_is_named_though_the_budget_follows_from_it(visda):
    for size in (-5, "32", 2.5):
        with pytest.raises(ValueError, match="batch_size="):
            gym.make(ID, **visda, batch_size=size)


def test_every_image_argument_has_bad_values_to_try(visda):
    fields = {field.name for field in dataclasses.fields(short(visda).task.settings)}
    assert set(BAD_VALUES) == fields
