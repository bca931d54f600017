"""The examples in docstrings do what they say."""

import doctest
import importlib

import numpy as np
import pytest


@pytest.mark.parametrize("module", ["granularity", "rounds", "unstructured"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.pruning.{module}"), extraglobs={"np": np})
    assert found.attempted
    assert not found.failed
