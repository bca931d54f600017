"""What is refused before, and after, the Jacobians of a batch are measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import trainability


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.ones((0, 4)), "at least one example"),
        (jnp.ones((4,)), "at least one example"),
        (jnp.ones((2, 0)), "no Jacobian"),
        (jnp.ones((2, 4), jnp.int32), "floating"),
    ],
)
def test_bad_inputs_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        trainability.jacobian_singular_values(lambda v: v, x)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda v: v[:, None], r"need \(batch, outputs\): reduce the other axes inside apply, as y.mean"),
        (lambda v: v.sum(1), r"need \(batch, outputs\)"),
        (lambda v: (v, v), "returned a tuple; .* pick it inside apply"),
        (lambda v: v.T, r"shape \(3, 2\) for 2 examples"),
        (lambda v: v > 0, "bool; a Jacobian needs floating outputs"),
    ],
)
def test_outputs_of_another_kind_are_refused(apply, message):
    with pytest.raises(ValueError, match=message):
        trainability.jacobian_singular_values(apply, jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"method": "eig"}, "'eig' is none of 'auto', 'gram', 'gram64', 'svd'"),
        ({"outputs": [3]}, "output 3 is not among the 3 outputs 0 to 2"),
        ({"outputs": [-1]}, "output -1 is not among"),
        ({"outputs": []}, "non-empty list"),
        ({"outputs": [1, 1]}, "twice"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        trainability.jacobian_singular_values(lambda v: v, jnp.ones((2, 3)), **options)


def test_a_leaf_that_is_not_finite_is_named():
    tree = {
        "layers": [{"kernel": jnp.ones((2, 2))}, {"kernel": jnp.array([1.0, jnp.nan])}],
        "step": jnp.array(3),
    }
    with pytest.raises(ValueError, match="leaf 'layers/1/kernel' holds NaN or infinity in 1 of 2 values"):
        trainability.check_finite(tree)
    trainability.check_finite(tree["layers"][0])


@pytest.mark.parametrize(
    "measure", [trainability.jacobian_singular_values, trainability.jacobians, trainability.mean_jsv]
)
def test_what_is_not_finite_is_named_outside_a_trace_and_comes_out_inside(measure):
    weights = {"a": {"kernel": jnp.eye(3)}, "b": {"kernel": jnp.eye(3).at[1, 1].set(jnp.inf)}}

    def network(weights, x):
        return jnp.tanh(x @ weights["a"]["kernel"]) @ weights["b"]["kernel"]

    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"leaf 'b/kernel' holds NaN or infinity in 1 of 9 values"):
        measure(jax.tree_util.Partial(network, weights), x)
    if measure is trainability.mean_jsv:  # jacobian_singular_values as far as here
        return
    with pytest.raises(
        ValueError, match=r"Jacobian of 2 of 2 examples is not finite, first that of example 0"
    ):
        measure(lambda v: network(weights, v), x)
    with pytest.raises(
        ValueError, match=r"Jacobian of 1 of 2 examples is not finite, first that of example 1"
    ):
        measure(jnp.tanh, x.at[1].set(jnp.nan))
    inside = jax.jit(lambda weights: measure(jax.tree_util.Partial(network, weights), x))(weights)
    assert not np.isfinite(inside).all()
