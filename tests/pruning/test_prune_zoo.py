"""The call ``prune`` on every network of the zoo, and on architectures written for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_linen
import zoo_nnx
import zoo_wild
from flax import nnx

import prune_jax

ALL = [(zoo, name) for zoo in (zoo_nnx, zoo_linen, zoo_wild) for name in zoo.NETS]
IDS = [f"{zoo.__name__.removeprefix('zoo_')}-{name}" for zoo, name in ALL]
# Recurrent cells of these two start from zeros of a size that the code fixes.
WRAPPED = {"lstm", "gru"}


def half(groups):
    return {g.name: np.arange(0, g.size, 2) for g in groups if g.frozen is None and g.size > 1}


@pytest.mark.parametrize(("zoo", "name"), ALL, ids=IDS)
def test_every_network_of_the_zoo_comes_back_smaller(zoo, name):
    """On shapes: nothing is computed. That values agree is the law, which has its own tests."""
    apply, shapes, x = zoo.build(name)
    keep = half(prune_jax.find_groups(apply, shapes, x))
    pruned = prune_jax.prune((apply, shapes), x, keep=keep)
    assert jax.eval_shape(pruned.apply, pruned.variables, x) == jax.eval_shape(apply, shapes, x)
    assert pruned.after.params < pruned.before.params
    assert pruned.after.macs == prune_jax.count(pruned.apply, pruned.variables, x).macs


@pytest.mark.parametrize("name", zoo_nnx.NETS)
def test_every_module_of_the_zoo_is_made_again_small(name):
    make, shape = zoo_nnx.NETS[name]
    net = make(nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")
    pruned = prune_jax.prune(net, x, ratio=0.5)
    assert (pruned.wrapped is not None) == (name in WRAPPED)
    assert isinstance(pruned.model, make)
    wanted = jax.eval_shape(net, x)
    assert jax.eval_shape(pruned.model, x) == wanted
