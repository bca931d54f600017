"""The call ``prune`` on every network of the zoo, and on architectures written for it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo_architectures
import zoo_linen
import zoo_nnx
import zoo_wild
from drawn import drawn
from flax import nnx

import prune_jax
from prune_jax.pruning.jaxpr.reading import leaf_paths

ALL = [(zoo, name) for zoo in (zoo_nnx, zoo_linen, zoo_wild) for name in zoo.NETS]
IDS = [f"{zoo.__name__.removeprefix('zoo_')}-{name}" for zoo, name in ALL]
# Recurrent cells of these two start from zeros of a size that the code fixes.
WRAPPED = {"lstm", "gru"}


@pytest.fixture(autouse=True)
def _as_authors_write():
    with jax.numpy_rank_promotion("allow"):
        yield


def half(groups):
    return {g.name: np.arange(0, g.size, 2) for g in groups if g.frozen is None and g.size > 1}


# In the slow part: Linen networks whose NNX twin is in the fast one.
LINEN_TWINS = {(zoo_linen, name) for name in zoo_linen.NETS if name in zoo_nnx.NETS}
EACH = [pytest.param(*case, marks=[pytest.mark.slow] * (case in LINEN_TWINS)) for case in ALL]


@pytest.mark.parametrize(("zoo", "name"), EACH, ids=IDS)
def test_every_network_of_the_zoo_comes_back_smaller(zoo, name):
    """On shapes: nothing is computed. That values agree is the law, which has its own tests."""
    apply, shapes, x = zoo.build(name)
    keep = half(prune_jax.find_groups(apply, shapes, x))
    pruned = prune_jax.prune((apply, shapes), x, keep=keep)
    assert jax.eval_shape(pruned.apply, pruned.variables, x) == jax.eval_shape(apply, shapes, x)
    assert pruned.after.params < pruned.before.params
    assert pruned.after.macs == prune_jax.count(pruned.apply, pruned.variables, x).macs


def some_fast(names, fast):
    """All cases, of which all but a few are in the slow part."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_fast(zoo_nnx.NETS, {"shufflenet", "groupnorm", "lstm"}))
def test_every_module_of_the_zoo_is_made_again_small(name):
    make, shape = zoo_nnx.NETS[name]
    net = drawn(make)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")
    pruned = prune_jax.prune(net, x, ratio=0.5)
    assert (pruned.wrapped is not None) == (name in WRAPPED)
    assert isinstance(pruned.model, make)
    wanted = jax.eval_shape(net, x)
    assert jax.eval_shape(pruned.model, x) == wanted


# Networks of which a size stays in the code that no attribute states: the wrapper runs them.
CODE_FIXES = {"experts"}


def inputs_of(shapes):
    rng = np.random.default_rng(1)
    return [
        jnp.asarray(rng.integers(0, 13, shape) if dtype == "int32" else rng.normal(size=shape), dtype)
        for shape, dtype in shapes
    ]


@pytest.mark.parametrize("name", some_fast(zoo_architectures.NETS, {"experts"}))
def test_an_architecture_is_halved_and_trained(name):
    make, shapes = zoo_architectures.NETS[name]
    net, inputs = make(nnx.Rngs(0)), inputs_of(shapes)  # as they start: it trains
    pruned = prune_jax.prune(net, *inputs, ratio=0.5)
    print(pruned.wrapped, pruned.sizes)
    assert (pruned.wrapped is not None) == (name in CODE_FIXES)
    assert pruned.after.params < 0.75 * pruned.before.params
    model = pruned.model
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(1e-2, 0.9), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, grads = nnx.value_and_grad(lambda model: (model(*inputs) ** 2).mean())(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(10)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    sizes = {path: leaf.shape for path, leaf in leaf_paths(nnx.to_pure_dict(nnx.state(model)))}
    assert sizes == {path: leaf.shape for path, leaf in leaf_paths(pruned.variables)}
