"""The law over the networks of prune_jax.models, by slim and by the networks themselves on shrunk variables."""

import jax
import law
import numpy as np
import pytest
from every_network import EVERY

from prune_jax import models
from prune_jax.pruning import allocation
from prune_jax.pruning.coupling import analyse, find_groups
from prune_jax.pruning.surgery import shrink

FAST = ("mlp7_relu", "lenet5", "resnet8")
SHAPES = {"mlp7_linear": (28, 28, 1), "mlp7_relu": (28, 28, 1), "lenet5": (28, 28, 1), "decoder": (4,)}
OPTIONS = {name: {"hidden": 10} for name in ("mlp7_linear", "mlp7_relu")}
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in models.names()]


def build(name):
    module = models.abstract(
        name, num_classes=5, input_shape=SHAPES.get(name, (32, 32, 3)), **OPTIONS.get(name, {})
    )
    network = models.functional(module)
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, "float64"), network.variables)
    dtype = "int32" if models.info(name).dtype == "int32" else "float64"
    return network.apply, shapes, jax.ShapeDtypeStruct((1, *SHAPES.get(name, (32, 32, 3))), dtype)


@pytest.mark.parametrize("name", NAMES)
def test_law(name):
    with jax.enable_x64(True):
        apply, shapes, x = build(name)
        analysis = analyse(apply, shapes, x)
        groups = analysis.groups
        # A norm runs over the residual width, and scores are divided by the root of a head's size.
        inner = {f"blocks/{i}/attention/q:inner" for i in (0, 1)}
        unmaskable = {"embed", *inner} if name == "decoder" else set()
        assert {group.name for group in groups if not group.maskable} == unmaskable
        variables = law.numbers(shapes)
        keep = law.some_keep(groups, np.random.default_rng(0), maskable=True)
        deep = name in (
            "resnet34",
            "resnet50",
            "resnet56",
            "resnet110",
        )  # gradients would compile for minutes
        law.check(
            apply, variables, groups, keep, law.numbers(x, seed=1), gradients=not deep, analysis=analysis
        )


@EVERY
def test_what_the_paper_prunes_leaves_a_network_that_runs_as_it_is(name):
    with jax.enable_x64(True):
        apply, shapes, x = build(name)
        groups = find_groups(apply, shapes, x)
        scores = {g.name: np.arange(g.size, dtype=float) for g in groups}
        keep = allocation.uniform(groups, scores, 0.7, models.info(name).pruned)
        small = shrink(shapes, groups, keep)
        assert jax.eval_shape(apply, small, x).shape == (1, *((4,) if name == "decoder" else ()), 5)
        # The constructor, given the kept widths by group name, has the same leaves.
        widths = {name: len(kept) for name, kept in keep.items()}
        options = OPTIONS.get(name, {})
        built = models.abstract(name, num_classes=5, input_shape=x.shape[1:], widths=widths, **options)
        assert jax.tree.map(np.shape, models.functional(built).variables) == jax.tree.map(np.shape, small)
