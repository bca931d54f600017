"""The examples in docstrings do what they say."""

import doctest
import importlib

import jax.numpy as jnp
import numpy as np
import pytest
from doctested import PRUNING
from flax import nnx

NAMES = {"np": np, "jnp": jnp, "nnx": nnx}


@pytest.mark.parametrize("module", PRUNING)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.pruning.{module}"), extraglobs=NAMES)
    assert found.attempted
    assert not found.failed
