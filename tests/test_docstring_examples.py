"""The examples in docstrings of data, schedules, comparisons and reports do what they say."""

import doctest
import importlib

import pytest
from doctested import OTHERS


@pytest.mark.parametrize("module", OTHERS)
def test_examples_of_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.{module}"))
    assert found.failed == 0
    assert found.attempted > 0
