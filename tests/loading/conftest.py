"""Small lists of images."""

import pytest
from images import file_list
from loading_support import order, split


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
