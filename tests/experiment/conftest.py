"""What the tests of experiments share."""

import itertools
import sys

import pytest

from prune_jax import data

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The 8x8 digits, prepared once."""
    return data.load("digits", data_dir=str(tmp_path_factory.mktemp("tfds")))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into a folder on sys.path, under a name of its own where none is given; that name."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made = []

    def to_file(text, name=None):
        name = name or f"parts_{next(NUMBERS)}"
        (folder / f"{name}.py").write_text(text)
        made.append(name)
        return name

    yield to_file
    for name in made:
        sys.modules.pop(name, None)
