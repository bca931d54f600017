"""The examples in docstrings do what they say, and every public name has one."""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from doctested import SLOW_OF_TRAINABILITY
from flax import nnx
from jax.tree_util import Partial

from prune_jax import trainability

NAMES = {"jax": jax, "jnp": jnp, "np": np, "nnx": nnx, "Partial": Partial}
MODULES = sorted({getattr(trainability, name).__module__ for name in trainability.__all__})


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name.split(".")[-1] in SLOW_OF_TRAINABILITY))
        for name in MODULES
    ],
)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module), extraglobs=NAMES)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", trainability.__all__)
def test_every_public_name_has_an_example_and_says_what_it_takes(name):
    public = getattr(trainability, name)
    assert ">>> " in public.__doc__
    if inspect.isfunction(public):
        for part in ("Args:", "Raises:") if name == "check_finite" else ("Args:", "Returns:", "Raises:"):
            assert part in public.__doc__
