"""The examples in docstrings of data, schedules, comparisons and reports do what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "experiment.config.arguments",
    "data.idx",
    "data.subset",
    "fairness.cells",
    "fairness.matched_macs",
    "fairness.metrics",
    "fairness.pruningbench",
    "fairness.table_records",
    "fairness.tidy",
    "fairness.validation",
    "models.conv_net",
    "report.formats",
    "schedules.printed",
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"prune_jax.{module}"))
    assert found.failed == 0
    assert found.attempted > 0
