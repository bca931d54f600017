"""Every primitive of the installed JAX has a rule, or is listed with the reason why it has none."""

import importlib
import itertools
import pkgutil
import sys

import jax._src
import pytest
from jax._src.core import Primitive

from prune_jax.pruning.jaxpr.primitives import ABSENT, FROZEN
from prune_jax.pruning.jaxpr.rules import RULES
from prune_jax.pruning.jaxpr.rules_control import CONTROL

# Modules that need another machine or optional packages; kernels, which are frozen as a whole, are written with most.
SKIPPED = ("test", "mosaic", "triton", "pallas.", "tpu", "thunky", "debugger", "serialization")


@pytest.fixture(scope="module")
def primitives():
    """Names of the primitives that any module of JAX holds."""
    for module in pkgutil.walk_packages(jax._src.__path__, "jax._src."):
        if not any(word in module.name for word in SKIPPED):
            importlib.import_module(module.name)
    importlib.import_module("jax.experimental.multihost_utils")
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "jax"]
    values = itertools.chain.from_iterable(vars(module).values() for module in modules)
    # jax2onnx, where a test of this process has exported, leaves its own in jax.numpy, and dots in their names.
    return {value.name for value in values if isinstance(value, Primitive) and "." not in value.name}


def test_every_primitive_has_a_rule_or_a_reason(primitives):
    listed = {*RULES, *CONTROL, *FROZEN, *itertools.chain.from_iterable(ABSENT.values())}
    assert len(primitives) > 200
    assert sorted(primitives - listed) == []


def test_no_primitive_is_listed_twice():
    absent = list(itertools.chain.from_iterable(ABSENT.values()))
    lists = [set(RULES), set(CONTROL), set(FROZEN), set(absent)]
    assert len(absent) == len(set(absent))
    for a, b in itertools.combinations(lists, 2):
        assert not a & b
