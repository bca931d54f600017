"""Masks: shapes, what they zero, holding weights at zero under any optimizer, reports."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo_nnx

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.masks import apply_mask, expand, hold, report


def network():
    def apply(p, x):
        h = jnp.tanh(x @ p["w"] + p["b"].reshape(1, -1))
        return h @ p["v"]

    params = {
        "w": jnp.arange(1.0, 13.0).reshape(3, 4),
        "b": jnp.arange(1.0, 5.0),
        "v": jnp.ones((4, 2)),
        "step": jnp.ones((1, 1)),
        "key": jax.random.key(0),
    }
    return apply, params, find_groups(apply, params, jnp.ones((1, 3)))


def test_masks_have_each_leafs_rank_and_size_one_off_the_cut_axes():
    _, params, groups = network()
    mask = expand(params, groups, {"w": np.array([1, 3])})
    assert {k: v.shape for k, v in mask.items()} == {
        "w": (1, 4),
        "b": (4,),
        "v": (4, 1),
        "step": (1, 1),
        "key": (),
    }
    np.testing.assert_array_equal(mask["w"], [[0, 1, 0, 1]])
    np.testing.assert_array_equal(mask["v"], [[0], [1], [0], [1]])
    assert mask["w"].dtype == params["w"].dtype


def test_an_empty_keep_masks_nothing():
    _, params, groups = network()
    mask = expand(params, groups, {})
    assert all((np.asarray(m) == 1).all() for m in jax.tree.leaves(mask))
    assert [m.ndim for m in jax.tree.leaves(mask)] == [p.ndim for p in jax.tree.leaves(params)]


def test_a_leaf_cut_on_two_axes_has_the_outer_product():
    apply, variables, x = zoo_nnx.build("shared")
    groups = find_groups(apply, variables, x)
    mask = expand(variables, groups, {"first": np.array([0, 2, 5])})
    stays = np.array([1, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(mask["params"]["twice"]["kernel"], np.outer(stays, stays))


def test_masked_entries_are_zero_whatever_they_were():
    tree = {"a": jnp.array([jnp.inf, jnp.nan, 2.0]), "n": jnp.array([1, 2, 3])}
    out = apply_mask(tree, {"a": jnp.array([0.0, 0.0, 1.0]), "n": jnp.array([1, 0, 1])})
    np.testing.assert_array_equal(out["a"], [0, 0, 2])
    np.testing.assert_array_equal(out["n"], [1, 0, 3])


OPTIMIZERS = {
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "schedule": optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(optax.cosine_decay_schedule(0.1, 5), 0.9)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_weights_stay_zero_with_momentum_carried_over(name):
    apply, params, groups = network()
    params = {k: params[k] for k in ("w", "b", "v")}
    x = jnp.ones((2, 3)) / 3

    def stepped_by(transform):
        @jax.jit
        def step(params, state):
            gradients = jax.grad(lambda p: (apply(p, x) ** 2).sum())(params)
            updates, state = transform.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        return step

    dense = OPTIMIZERS[name]
    state, step = dense.init(params), stepped_by(dense)
    for _ in range(2):  # dense training fills the momentum
        params, state = step(params, state)
    mask = expand(params, groups, {"w": np.array([0, 1])})
    sparse_step = stepped_by(optax.chain(dense, hold(mask)))
    carried = (state, optax.EmptyState())
    for _ in range(3):  # the weights themselves need not be masked beforehand
        params, carried = sparse_step(params, carried)
        for leaf, m in zip(jax.tree.leaves(params), jax.tree.leaves(mask), strict=True):
            assert (np.asarray(leaf)[np.broadcast_to(m == 0, leaf.shape)] == 0).all()
    assert (np.asarray(params["w"][:, :2]) != 0).all()


def test_held_training_is_training_of_the_masked_network():
    """Kept weights move as they do when gradients and momentum never knew the pruned ones."""
    apply, params, groups = network()
    params = {k: params[k] / 10 for k in ("w", "b", "v")}
    mask = expand(params, groups, {"w": np.array([0, 1])})
    small = {"w": params["w"][:, :2], "b": params["b"][:2], "v": params["v"][:2]}
    loss = jax.jit(jax.grad(lambda p, x: (apply(p, x) ** 2).sum()))
    held, plain = optax.chain(optax.sgd(0.1, 0.9), hold(mask)), optax.sgd(0.1, 0.9)
    params, x = apply_mask(params, mask), jnp.ones((2, 3)) / 3
    state, small_state = held.init(params), plain.init(small)
    update, small_update = jax.jit(held.update), jax.jit(plain.update)
    for _ in range(3):
        updates, state = update(loss(params, x), state, params)
        params = optax.apply_updates(params, updates)
        updates, small_state = small_update(loss(small, x), small_state, small)
        small = optax.apply_updates(small, updates)
    np.testing.assert_allclose(params["w"][:, :2], small["w"], rtol=1e-6)
    np.testing.assert_allclose(params["v"][:2], small["v"], rtol=1e-6)


def test_hold_needs_the_params():
    transform = hold({"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="needs the params"):
        transform.update({"a": jnp.ones(2)}, transform.init({"a": jnp.ones(2)}))


def test_report_counts_by_hand_and_names_what_only_surgery_defines():
    apply, variables, x = zoo_nnx.build("convnext")
    groups = find_groups(apply, variables, x)
    out = report(variables, groups, {"stem": np.arange(4), "up": np.arange(12)})
    # 2x2 stem 3->8, 7x7 depthwise, norm, 8->12->8, scale, head 8->3; width 8 cut to 4.
    dense = (12 * 8 + 8) + (49 * 8 + 8) + 16 + (8 * 12 + 12) + (12 * 8 + 8) + 8 + (8 * 3 + 3)
    kept = (12 * 4 + 4) + (49 * 4 + 4) + 8 + (4 * 12 + 12) + (12 * 4 + 4) + 4 + (4 * 3 + 3)
    assert (out.params, out.kept) == (dense, kept)
    assert out.sparsity == pytest.approx(1 - kept / dense)
    assert out.surgery_only == ("stem",)


def test_leak_of_an_activation_that_is_not_zero_at_zero():
    """Masking the kernels alone isn't removal: biases and f(0) leak. Masking readers too is."""
    params = {k: network()[1][k] for k in ("w", "b", "v")}

    @jax.jit
    def sigmoid_net(p, x):
        return jax.nn.sigmoid(x @ p["w"] + p["b"].reshape(1, -1)) @ p["v"]

    groups = find_groups(sigmoid_net, params, jnp.ones((1, 3)))
    mask = expand(params, groups, {"w": np.array([1])})
    x = jnp.ones((1, 3))
    small = {"w": params["w"][:, 1:2], "b": params["b"][1:2], "v": params["v"][1:2]}
    kernels_alone = params | {"w": params["w"] * mask["w"]}
    np.testing.assert_allclose(sigmoid_net(apply_mask(params, mask), x), sigmoid_net(small, x), rtol=1e-6)
    assert np.abs(sigmoid_net(kernels_alone, x) - sigmoid_net(small, x)).max() > 0.5
