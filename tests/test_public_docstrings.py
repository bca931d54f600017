"""Every public name says what it takes, gives and refuses, and shows an example that runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from doctested import is_run_with_its_module
from flax import nnx
from jax.tree_util import Partial

import prune_jax
from prune_jax import experiment, trainability

NAMES = sorted(
    {(name, room.__name__) for room in (prune_jax, trainability, experiment) for name in room.__all__}
    - {(name, "prune_jax") for name in ("allocation", "criteria", "mask_rules", "regularizers")}  # modules
    - {(name, "prune_jax.trainability") for name in prune_jax.__all__}  # the same objects
)
# The others' examples run with all of their module.
ALONE = [
    name
    for name, room in NAMES
    if room == "prune_jax" and not is_run_with_its_module(getattr(prune_jax, name).__module__)
]
GLOBALS = {"jax": jax, "jnp": jnp, "np": np, "nnx": nnx, "Partial": Partial}


def wanted(found):
    """The sections that the documentation of this object must have."""
    if inspect.isclass(found):
        return {"Attributes", "Example"}
    parameters = inspect.signature(found).parameters
    gives = {"Returns"} if inspect.signature(found).return_annotation not in (None, "None") else set()
    return {"Raises", "Example", *(("Args",) if parameters else ()), *gives}


def sections(text):
    return set(re.findall(r"^(Args|Attributes|Returns|Raises|Example|Source):", text, re.MULTILINE))


@pytest.mark.parametrize(("name", "room"), NAMES)
def test_a_public_name_has_its_sections(name, room):
    found = getattr(importlib.import_module(room), name)
    text = inspect.getdoc(found)
    assert not wanted(found) - sections(text)
    assert ">>>" in text


@pytest.mark.parametrize(("name", "room"), NAMES)
def test_every_argument_is_explained(name, room):
    found = getattr(importlib.import_module(room), name)
    if inspect.isclass(found):
        pytest.skip("its attributes are checked below")
    text = inspect.getdoc(found).partition("Args:")[2].partition("Returns:")[0]
    for argument in inspect.signature(found).parameters:
        assert re.search(rf"^ +\*{{0,2}}(\w+, )*{argument}(, \w+)*: |`?{argument}`?", text, re.MULTILINE), (
            argument
        )


@pytest.mark.parametrize(("name", "room"), NAMES)
def test_every_attribute_is_explained(name, room):
    found = getattr(importlib.import_module(room), name)
    fields = getattr(found, "_fields", None) or tuple(getattr(found, "__dataclass_fields__", ()))
    if not inspect.isclass(found):
        assert callable(found)
        return
    text = inspect.getdoc(found).partition("Attributes:")[2]
    assert fields
    assert not [field for field in fields if not re.search(rf"^ +{field}: \S", text, re.MULTILINE)]


@pytest.mark.parametrize("name", ALONE)
def test_the_example_does_what_it_says(name):
    found = getattr(prune_jax, name)
    module = importlib.import_module(found.__module__)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs={**vars(module), **GLOBALS})
    runner = doctest.DocTestRunner(optionflags=flags)
    for example in examples:
        runner.run(example)
    assert runner.failures == 0
    assert runner.tries > 0


def test_the_reference_names_every_public_name():
    pages = "\n".join(
        path.read_text() for path in (Path(prune_jax.__file__).parents[1] / "docs" / "api").glob("*.md")
    )
    named = set(re.findall(r"^   (\w+)$", pages, re.MULTILINE))
    assert not {name for name, _ in NAMES} - named
