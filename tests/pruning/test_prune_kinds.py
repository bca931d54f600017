"""The kinds of model that ``prune`` takes besides modules, and what Flax's own tools do with what comes back."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import orbax.checkpoint as ocp
import pytest
from drawn import drawn
from flax import nnx

import prune_jax

PARAMS = {
    "a": jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), "float32"),
    "b": jnp.asarray(np.ones((8, 3), "float32")),
}
X = jnp.asarray(np.ones((2, 4), "float32"))


def mlp(params, x):
    return jax.nn.relu(x @ params["a"]) @ params["b"]


class Transformed:
    """What ``hk.transform`` gives: a pair of functions, of which apply takes a key after the params."""

    def init(self, rng, x):
        return PARAMS

    def apply(self, params, rng, x):
        return mlp(params, x)


class TransformedWithState(Transformed):
    def apply(self, params, state, rng, x):
        return mlp(params, x), state


class Variable:
    def __init__(self, path, value):
        self.path, self.value = path, value


class Keras:
    """What ``prune`` needs of a Keras 3 model."""

    trainable_variables = (Variable("dense/kernel", PARAMS["a"]), Variable("head/kernel", PARAMS["b"]))
    non_trainable_variables = ()

    def stateless_call(self, trainable, non_trainable, x, training=None):
        assert training is False
        return mlp(dict(zip("ab", trainable, strict=True)), x), non_trainable


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """A pytree that is called, as an Equinox module is; its width is a part of its code where it says so."""

    a: jax.Array
    b: jax.Array
    width: int | None = dataclasses.field(default=None, metadata={"static": True})

    def __call__(self, x):
        hidden = jax.nn.relu(x @ self.a)
        return (hidden if self.width is None else hidden.reshape(-1, self.width)) @ self.b


KINDS = {
    "haiku": (Transformed(), PARAMS),
    "haiku with state": (TransformedWithState(), (PARAMS, {"count": jnp.zeros(3)})),
    "keras": Keras(),
    "callable": Callable(**PARAMS),
    "apply": (mlp, PARAMS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_cut_alike(kind):
    pruned = prune_jax.prune(KINDS[kind], X, ratio=0.5)
    kept = np.sort(np.argsort(np.abs(PARAMS["a"]).mean(0), kind="stable")[4:])
    (found,) = [keep for name, keep in pruned.keep.items() if len(keep) == 4]
    np.testing.assert_array_equal(found, kept)
    assert (pruned.before.params, pruned.after.params) == (56, 28)
    wanted = mlp({"a": PARAMS["a"][:, kept], "b": PARAMS["b"][kept]}, X)
    np.testing.assert_allclose(pruned.apply(pruned.variables, X), wanted, rtol=1e-6)


def test_a_callable_comes_back_as_one():
    pruned = prune_jax.prune(Callable(**PARAMS), X, ratio=0.5)
    assert isinstance(pruned.model, Callable)
    assert pruned.model.a.shape == (4, 4)
    fixed = prune_jax.prune(Callable(**PARAMS, width=8), X, ratio=0.5)
    assert "doesn't run" in fixed.wrapped
    np.testing.assert_allclose(fixed.model(X), pruned.model(X), rtol=1e-6)


def test_boxed_linen_variables_keep_their_boxes():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
            x = nn.relu(nn.Dense(8, kernel_init=init)(x))
            return nn.Dense(3)(x)

    pruned = prune_jax.prune(
        (Net(), law.numbers(jax.eval_shape(Net().init, jax.random.key(0), X))), X, ratio=0.5
    )
    kernel = pruned.variables["params"]["Dense_0"]["kernel"]
    assert kernel.names == (None, "model")
    assert kernel.value.shape == (4, 4)
    assert pruned.apply(pruned.variables, X).shape == (2, 3)


class Fixed(nnx.Module):
    """Its code holds its width."""

    def __init__(self, rngs):
        self.a, self.b = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)).reshape(-1, 8))


class Free(Fixed):
    def __call__(self, x):
        return self.b(nnx.relu(self.a(x)))


@pytest.mark.parametrize("make", [Free, Fixed])
def test_flax_and_orbax_take_the_module_that_comes_back(make, tmp_path):
    model = prune_jax.prune(drawn(make), X, ratio=0.5).model
    assert model.a.out_features == (4 if make is Free else 8)
    assert make.__name__ in nnx.tabulate(model, X)
    again = nnx.clone(model)
    np.testing.assert_array_equal(again(X), model(X))
    np.testing.assert_allclose(nnx.jit(lambda m, x: m(x))(model, X), model(X), rtol=1e-6)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(model))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", nnx.state(model))
    assert restored["a"]["kernel"][...].shape == (4, 4)


def test_a_module_of_shapes_is_cut_by_a_keep_alone():
    dense = nnx.eval_shape(lambda: Free(nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((2, 4), "float32")
    pruned = prune_jax.prune(dense, x, keep={"a": np.arange(4)})
    assert pruned.wrapped is None
    assert pruned.variables["a"]["kernel"] == jax.ShapeDtypeStruct((4, 4), "float32")
    with pytest.raises(ValueError, match="target holds shapes without numbers"):
        prune_jax.prune(dense, x, ratio=0.5)


def test_layers_may_be_an_nnx_filter():
    net = drawn(Free)
    assert prune_jax.prune(net, X, ratio=0.5, layers=nnx.PathContains("a")).sizes["a"] == (8, 4)
    with pytest.raises(ValueError, match="picks the maker of no group"):
        prune_jax.prune(net, X, ratio=0.5, layers=nnx.BatchStat)
    with pytest.raises(ValueError, match="filters are for nnx modules"):
        prune_jax.prune((mlp, PARAMS), X, ratio=0.5, layers=nnx.Param)
