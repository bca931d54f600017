"""The fake ImageNet, written once for the tests of this folder."""

import pytest
from fake_imagenet import write_fake_imagenet


@pytest.fixture(scope="session")
def imagenet_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("imagenet"))
    write_fake_imagenet(folder)
    return folder
