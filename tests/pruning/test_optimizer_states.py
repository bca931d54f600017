"""States of optax's optimizers are cut so that training goes on, or are refused in one line.

The oracle is a masked run: where params and gradients of pruned channels are 0, every optimizer whose rule is
elementwise, or takes norms and maxima, moves the kept weights as it would in the small network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx
from optax import contrib

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.surgery import shrink

KEPT = np.array([1, 2, 5])
KEEP = {"a": KEPT}
SHAPES = {"a": {"bias": (6,), "kernel": (8, 6)}, "b": {"bias": (2,), "kernel": (6, 2)}}


def by_hand(tree):
    a, b = tree["a"], tree["b"]
    return {
        "a": {"bias": a["bias"][KEPT], "kernel": a["kernel"][:, KEPT]},
        "b": {"bias": b["bias"], "kernel": b["kernel"][KEPT]},
    }


def apply(p, x):
    return jnp.tanh(x @ p["a"]["kernel"] + p["a"]["bias"][None]) @ p["b"]["kernel"] + p["b"]["bias"][None]


def numbers(seed):
    """Values for every leaf, 0 in pruned channels."""
    rng = np.random.default_rng(seed)
    alive = np.isin(np.arange(6), KEPT)
    tree = jax.tree.map(
        lambda shape: (rng.uniform(0.2, 1, shape) * rng.choice([-1, 1], shape)).astype("float32"),
        SHAPES,
        is_leaf=lambda s: isinstance(s, tuple),
    )
    tree["a"] = {"bias": tree["a"]["bias"] * alive, "kernel": tree["a"]["kernel"] * alive}
    tree["b"]["kernel"] = tree["b"]["kernel"] * alive[:, None]
    return jax.tree.map(jax.device_put, tree)


GROUPS = find_groups(apply, numbers(0), jax.ShapeDtypeStruct((3, 8), "float32"))
P, G = numbers(1), [numbers(seed) for seed in (2, 3, 4)]


def labels(tree):
    return jax.tree.map(lambda a: "two" if a.ndim == 2 else "one", tree)


ALIASES = """
    adabelief adadelta adagrad adam adamax adan amsgrad fromage lamb lars lion nadam novograd
    optimistic_gradient_descent radam rmsprop rprop signum yogi
"""
CONTRIB = """
    acprop ademamix adopt cocob dadapt_adamw dog dowg madgrad momo prodigy simplified_ademamix sophia
"""
LEAF_FOR_LEAF = {
    **{name: getattr(optax, name)(0.01) for name in ALIASES.split()},
    **{name: getattr(contrib, name)(0.01) for name in CONTRIB.split()},
    "schedule-free": contrib.schedule_free(optax.sgd(0.1, 0.5), 0.1),
    "mechanize": contrib.mechanize(optax.adam(0.01)),
    "split": contrib.split_real_and_imaginary(optax.adam(0.01)),
    "finite": optax.apply_if_finite(optax.adam(0.01), 3),
    "zero nans": optax.chain(optax.zero_nans(), optax.ema(0.9)),
    "injected": optax.inject_hyperparams(optax.adamw)(optax.constant_schedule(0.01)),
    "plateau": optax.chain(optax.sgd(0.1, 0.9), contrib.reduce_on_plateau()),
}
OPTIMIZERS = {
    "sm3": optax.sm3(0.01),
    "lbfgs without a search": optax.lbfgs(0.1, memory_size=2, linesearch=None),
    "adafactor": optax.adafactor(
        0.01, min_dim_size_to_factor=2, clipping_threshold=None, multiply_by_parameter_scale=False
    ),  # what is left out takes means over whole leaves, masked entries included
    "muon": contrib.muon(0.01, ns_steps=2),
    "schedule-free": contrib.schedule_free_adamw(0.01),
    "multi steps": optax.MultiSteps(optax.adam(0.01), 2).gradient_transformation(),
    "masked": optax.masked(optax.adam(0.01), lambda tree: jax.tree.map(lambda a: a.ndim == 2, tree)),
    "multi transform": optax.multi_transform({"one": optax.adam(0.01), "two": optax.sm3(0.01)}, labels),
}


def close(got, wanted):
    """Up to another order of summation in norms and products, of numbers near 1."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


class _Name:
    """A leaf's place in the network; a class, so that JAX sees one leaf."""

    def __init__(self, layer, leaf):
        self.layer, self.leaf = layer, leaf

    def index(self):
        return INDEX[self.layer][self.leaf]


INDEX = {
    "a": {"bias": (KEPT,), "kernel": (slice(None), KEPT)},
    "b": {"bias": (slice(None),), "kernel": (KEPT,)},
}


@pytest.mark.parametrize("name", LEAF_FOR_LEAF)
def test_a_state_with_a_leaf_for_each_leaf_is_cut_as_optax_maps_it(name):
    optimizer = LEAF_FOR_LEAF[name]
    state = filled(optimizer, P)
    names = {layer: {leaf: _Name(layer, leaf) for leaf in leaves} for layer, leaves in SHAPES.items()}
    hand = optax.tree_map_params(
        optimizer, lambda leaf, name: leaf[name.index()] if leaf.ndim else leaf, state, names
    )
    got = shrink(state, GROUPS, KEEP)
    assert jax.tree.structure(got) == jax.tree.structure(hand)
    jax.tree.map(np.testing.assert_array_equal, got, hand)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_the_cut_state_as_in_the_masked_run(name):
    optimizer = OPTIMIZERS[name]
    params, state, update = P, optimizer.init(P), jax.jit(optimizer.update)
    for gradient in G[:2]:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    small, small_state = by_hand(params), shrink(state, GROUPS, KEEP)
    fresh = jax.eval_shape(optimizer.init, small)
    assert jax.tree.map(jnp.shape, small_state) == jax.tree.map(jnp.shape, fresh)
    for gradient in G[1:]:
        updates, state = update(gradient, state, params)
        small_updates, small_state = update(by_hand(gradient), small_state, small)
        close(small_updates, by_hand(updates))
        params, small = optax.apply_updates(params, updates), optax.apply_updates(small, small_updates)


def filled(optimizer, params):
    """Its state with another number in each place."""
    shapes = jax.eval_shape(optimizer.init, params)
    return jax.tree.map(lambda s: np.arange(np.prod(s.shape), dtype=s.dtype).reshape(s.shape), shapes)


def factored(state):
    return next(part for part in jax.tree.leaves(state, is_leaf=_has_means) if _has_means(part))


def _has_means(part):
    return hasattr(part, "v_row")


def stepped(optimizer, params):
    """Its state after a step, no channel masked: row and column means agree on the mean of all."""
    rng = np.random.default_rng(5)
    gradient = jax.tree.map(lambda w: rng.normal(size=w.shape).astype("float32"), params)
    return jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[1])(gradient, params)


def test_means_of_adafactor_are_cut_along_the_axes_that_they_have():
    optimizer = optax.adafactor(0.01, min_dim_size_to_factor=2)
    dense = stepped(optimizer, P)
    small = shrink(dense, GROUPS, KEEP)
    shapes = jax.eval_shape(optimizer.init, by_hand(P))
    assert jax.tree.map(np.shape, small) == jax.tree.map(np.shape, shapes)
    before, after = factored(dense), factored(small)
    # A second moment is taken to be its row's mean times its column's, over the mean of all.
    moments = np.outer(before.v_col["a"]["kernel"], before.v_row["a"]["kernel"])[:, KEPT]  # 8 by 3 of 6
    moments /= before.v_row["a"]["kernel"].mean()
    np.testing.assert_allclose(after.v_row["a"]["kernel"], moments.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after.v_col["a"]["kernel"], moments.mean(1), rtol=1e-5)
    moments = np.outer(before.v_col["b"]["kernel"], before.v_row["b"]["kernel"])[KEPT]  # 3 of 6 by 2
    moments /= before.v_row["b"]["kernel"].mean()
    np.testing.assert_allclose(after.v_row["b"]["kernel"], moments.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after.v_col["b"]["kernel"], moments.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(after.v["a"]["bias"], before.v["a"]["bias"][KEPT])


def narrow(kernel_shape):
    params = {"a": {"kernel": np.ones(kernel_shape, "float32")}, "b": {"kernel": np.ones((6, 2), "float32")}}
    x = jax.ShapeDtypeStruct((3, kernel_shape[0]), "float32")
    return params, find_groups(lambda p, x: jnp.tanh(x @ p["a"]["kernel"]) @ p["b"]["kernel"], params, x)


def test_rows_and_columns_of_adafactor_change_places_where_another_axis_becomes_the_largest():
    optimizer = optax.adafactor(0.01, min_dim_size_to_factor=2)
    params, groups = narrow((5, 6))
    dense = stepped(optimizer, params)
    before, after = factored(dense), factored(shrink(dense, groups, KEEP))
    assert before.v_row["a"]["kernel"].shape == (5,)  # a mean over the 6 outputs, 3 of which stay
    row, col = before.v_row["a"]["kernel"], before.v_col["a"]["kernel"]
    moments = np.outer(row, col)[:, KEPT] / row.mean()  # 5 by 3: now the 5 inputs are the larger side
    np.testing.assert_allclose(after.v_row["a"]["kernel"], moments.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after.v_col["a"]["kernel"], moments.mean(1), rtol=1e-5)


def test_a_state_that_can_not_be_cut_is_refused_with_the_way_out():
    params, groups = narrow((8, 6))
    unclear = filled(optax.adafactor(0.01, min_dim_size_to_factor=6), params)
    with pytest.raises(
        ValueError, match=r"whether Adafactor factors \(8, 3\).*start it anew: optimizer.init"
    ):
        shrink(unclear, groups, KEEP)
    rotated = filled(contrib.galore(0.01, rank=2), P)
    with pytest.raises(
        ValueError, match=r"base_optimizer_state/mu/a/kernel.*start the state anew with the small params"
    ):
        shrink(rotated, GROUPS, KEEP)
    with pytest.raises(ValueError, match=r"GaLore's projection, which can't be cut.*start it anew"):
        shrink({"projector": rotated[0].projector}, GROUPS, KEEP)


def test_a_line_search_computes_its_loss_and_gradient_anew():
    optimizer = optax.lbfgs(memory_size=2)
    state = jax.tree.map(jax.device_put, filled(optimizer, P))
    small, small_state = by_hand(P), shrink(state, GROUPS, KEEP)
    shapes = jax.eval_shape(optimizer.init, small)
    assert jax.tree.map(jnp.shape, small_state) == jax.tree.map(jnp.shape, shapes)

    def loss(params):
        return optax.tree.norm(params, squared=True)

    anew = jax.jit(lambda p, state: (optax.value_and_grad_from_state(loss)(p, state=state), loss(p)))
    (value, gradient), wanted = anew(small, small_state)
    assert value == pytest.approx(float(wanted))
    close(gradient, jax.tree.map(lambda w: 2 * w, small))


@pytest.mark.parametrize("name", ["adam", "sm3", "adafactor", "muon"])
def test_the_state_of_an_nnx_optimizer_is_cut_in_its_boxes(name):
    net = drawn(
        lambda rngs: nnx.Sequential(nnx.Linear(8, 6, rngs=rngs), jnp.tanh, nnx.Linear(6, 2, rngs=rngs))
    )
    graphdef, params = nnx.split(net)
    groups = find_groups(
        lambda p, x: nnx.merge(graphdef, p)(x), params, jax.ShapeDtypeStruct((3, 8), "float32")
    )
    keep = {"layers/0": KEPT}
    rule = {
        "adam": optax.adam(0.01),
        "sm3": optax.sm3(0.01),
        "adafactor": optax.adafactor(0.01, min_dim_size_to_factor=2),
        "muon": contrib.muon(0.01),
    }[name]
    dense = nnx.state(nnx.Optimizer(net, rule, wrt=nnx.Param))
    small_net = nnx.merge(graphdef, shrink(params, groups, keep))
    wanted = nnx.state(nnx.Optimizer(small_net, rule, wrt=nnx.Param))
    assert jax.tree.map(jnp.shape, shrink(dense, groups, keep)) == jax.tree.map(jnp.shape, wanted)
