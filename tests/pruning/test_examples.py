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
        "compensation",
        "criteria.criterion",
        "evidence",
        "gathering.synaptic_flow",
        "granularity",
        "inputs.layout",
        "isomorphism",
        "iterated",
        "lamp",
        "layouts.blocks",
        "layouts.erk",
        "layouts.kernel_axes",
        "layouts.n_of_m",
        "layouts.naming",
        "layouts.unstructured",
        *(
            f"mask_rules.{name}"
            for name in ("exchange", "magnitude", "plans", "step", "straight", "table", "units", "costs")
        ),
        "module.prune",
        *(
            f"regularizers.{name}"
            for name in ("gram", "group_norm", "growth", "orthogonality", "penalty", "table")
        ),
        "rounds",
        "slices",
    ],
)
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.pruning.{module}"), extraglobs=NAMES)
    assert found.attempted
    assert not found.failed
