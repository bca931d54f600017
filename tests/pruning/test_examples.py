"""The examples in docstrings do what they say."""

import doctest
import importlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

NAMES = {"np": np, "jnp": jnp, "nnx": nnx}


@pytest.mark.parametrize(
    "module",
    [
        "blocks",
        "compensation",
        "criteria.criterion",
        "evidence",
        "erk",
        "granularity",
        "inputs.layout",
        "isomorphism",
        "iterated",
        "kernel_axes",
        "lamp",
        "layouts",
        "module.prune",
        "n_of_m",
        "rounds",
        "slices",
        "synaptic_flow",
        "unstructured",
    ],
)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.pruning.{module}"), extraglobs=NAMES)
    assert found.attempted
    assert not found.failed
