"""Lets the tests import the checkout, installed or not; small data for all of them."""

import pytest
from images import write_folders, write_visda, write_weights
from support import DIGITS_ID, make

from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.play import run_episode
from asg_env.seeding import cpu_threads

SHAPES = ("circle", "square", "star")
OLD = ("apple", "boat", "cat", "dog", "egg")  # what the pretrained networks of the tests know


@pytest.fixture(scope="session")
def visda_root(tmp_path_factory):
    """VisDA-17's layout: 12 classes with four 3D models of three views, and four photographs."""
    return write_visda(tmp_path_factory.mktemp("visda"), models_a_class=4, views=3, real=4)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A ResNet-18 with the five classes of OLD."""
    return write_weights(tmp_path_factory.mktemp("weights") / "resnet18.pt", "resnet18", 5)


@pytest.fixture(scope="session")
def retention_root(tmp_path_factory):
    """Real images of the classes of OLD."""
    return write_folders(tmp_path_factory.mktemp("old"), OLD, 6, seed=9)


@pytest.fixture(scope="session")
def visda(visda_root, weights):
    """Arguments of a quick ASG-VisDA-v0."""
    return {
        "data_root": str(visda_root),
        "model": "resnet18",
        "weights": str(weights),
        "image_size": 32,
        "threads": 1,
        "workers": 0,
    }


@pytest.fixture(scope="session")
def folders(tmp_path_factory, retention_root):
    """Arguments of a quick ASG-ImageFolder-v0."""
    root = tmp_path_factory.mktemp("folders")
    return {
        "source_root": str(write_folders(root / "synthetic", SHAPES, 12, seed=1)),
        "target_root": str(write_folders(root / "real", SHAPES, 5, seed=2)),
        "retention_root": str(retention_root),
        "model": "cifar_resnet20",
        "weights": str(write_weights(root / "cifar.pt", "cifar_resnet20", 5)),
        "image_size": 16,
        "batch_size": 8,
        "threads": 1,
        "workers": 0,
    }


@pytest.fixture(scope="session")
def id_arguments(visda_root, folders):
    """For each id, arguments with which it makes a small environment: one row for a new id."""
    network = {k: folders[k] for k in ("model", "weights", "image_size", "threads", "workers")}
    visda = {"data_root": str(visda_root), "batch_size": 4, **network}
    return {
        "ASG-Digits-v0": {},
        "ASG-VisDA-v0": visda,
        "ASG-ImageFolder-v0": folders,
        "ASG-DigitsContext-v0": {},
        "ASG-VisDAContext-v0": visda,
    }


@pytest.fixture(scope="module")
def one_thread():
    """The tests of a module run on one CPU thread."""
    with cpu_threads(1):
        yield


@pytest.fixture(scope="module")
def record():
    """An episode of random paths of LR scales."""
    from experiments import reward_validity

    kwargs = {"budget": 8, "window": 2, **reward_validity.HAND_TUNED}
    path = reward_validity.RandomPath(3)
    return run_episode(make(**kwargs), path, EnvSetup(DIGITS_ID, kwargs), 5)
