"""Small lists of images."""

import pytest
from images import file_list
from loading_support import order, split

from asg_env.data import image_split
from asg_env.data.decode import Transform, load_image
from asg_env.data.files import read_class_folders


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return file_list(tmp_path_factory.mktemp("images"), 21)


@pytest.fixture(scope="module")
def expected(files):
    return list(split(files).batches(order(files)))


@pytest.fixture
def own(tmp_path):
    """A list that a test may damage."""
    return file_list(tmp_path / "own", 12)


@pytest.fixture
def decodes(monkeypatch):
    """What a fresh split does with a cache: (images decoded, sum of all pixels)."""
    counted = []
    monkeypatch.setattr(
        image_split, "load_image", lambda *a: (counted.append(1), load_image(*a))[1]
    )

    def count(root, folder, size=16):
        counted.clear()
        data = split(read_class_folders(root), folder, transform=Transform(size, size))
        total = sum(batch.images.double().sum().item() for batch in data.chunks())
        return len(counted), total

    return count
