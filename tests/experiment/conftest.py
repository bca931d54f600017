"""What the tests of experiments share."""

import pytest

from prune_jax import data


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The 8x8 digits, prepared for one file of tests."""
    return data.load("digits", data_dir=str(tmp_path_factory.mktemp("tfds")))
