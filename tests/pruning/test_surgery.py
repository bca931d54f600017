"""Surgery on params, gradients, batch statistics and optimizer states; bad keeps; the small twin."""

import functools

import jax
import jax.numpy as jnp
import law
import numpy as np
import optax
import pytest
import zoo_linen
import zoo_nnx
from flax import nnx
from jax import lax

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.masks import expand
from prune_jax.pruning.surgery import shrink, slim


@functools.cache
def convolutional():
    """Linen variables with batch statistics, as numbers, and a keep."""
    with jax.enable_x64(True):
        apply, shapes, x = zoo_linen.build("preact")
        params = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, "float32"), shapes)
        x = jax.ShapeDtypeStruct(x.shape, "float32")
    groups = find_groups(apply, params, x)
    return apply, law.numbers(params), groups, {"c1": np.array([0, 3]), "stem": np.array([1, 2, 6])}, x


def test_kept_entries_are_copied_exactly():
    _, variables, groups, keep, _ = convolutional()
    small = shrink(variables, groups, keep)
    np.testing.assert_array_equal(
        small["params"]["c1"]["kernel"], variables["params"]["c1"]["kernel"][:, :, [1, 2, 6]][..., [0, 3]]
    )
    np.testing.assert_array_equal(
        small["batch_stats"]["n2"]["var"], variables["batch_stats"]["n2"]["var"][np.array([0, 3])]
    )
    np.testing.assert_array_equal(small["params"]["c3"]["kernel"], variables["params"]["c3"]["kernel"])


def test_shapes_and_numpy_stay_what_they_are():
    _, variables, groups, keep, _ = convolutional()
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), variables)
    shapes = shrink(specs, groups, keep)
    assert jax.tree.map(lambda a: a.shape, shapes) == jax.tree.map(
        lambda a: a.shape, shrink(variables, groups, keep)
    )
    arrays = shrink(jax.tree.map(np.asarray, variables), groups, keep)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(arrays))
    jitted = jax.jit(lambda v: shrink(v, groups, keep))(variables)
    jax.tree.map(np.testing.assert_array_equal, jitted, arrays)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(optax.constant_schedule(0.1), momentum=0.9),
    "adamw": optax.adamw(0.1),
    "masked": optax.masked(optax.sgd(0.1, 0.9), lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)),
    "multi": optax.multi_transform(
        {"all": optax.sgd(0.1, 0.9)}, lambda tree: jax.tree.map(lambda _: "all", tree)
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("whole", [True, False], ids=["variables", "params only"])
def test_optimizer_state_is_cut_like_its_params(name, whole):
    _, variables, groups, keep, _ = convolutional()
    tree = variables if whole else variables["params"]
    optimizer = OPTIMIZERS[name]
    small = shrink(tree, groups, keep)
    state = shrink(jax.eval_shape(optimizer.init, tree), groups, keep)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, jax.eval_shape(optimizer.init, small))
    updates, _ = jax.eval_shape(optimizer.update, small, state, small)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, small)


def test_nnx_state_merged_with_the_same_graph_runs_as_it_is():
    graph, state = nnx.split(nnx.eval_shape(lambda: zoo_nnx.PreActBottleneck(nnx.Rngs(0))))
    state, x = law.numbers(state), jnp.ones((2, 6, 6, 3))
    groups = find_groups(lambda state, x: nnx.merge(graph, state)(x), state, x)
    keep = {"stem": np.arange(5), "c1": np.arange(2), "c2": np.arange(4), "down": np.arange(7)}
    small = nnx.merge(graph, shrink(state, groups, keep))
    assert small.c1.kernel[...].shape == (1, 1, 5, 2)
    assert jax.eval_shape(lambda x: small(x), x).shape == (2, 3)


def bad_keeps():
    return {
        "unknown": ({"c9": [0]}, KeyError, "'c9'.*groups are"),
        "range": ({"c1": [0, 4]}, ValueError, r"'c1'.*index 4, outside 0\.\.3"),
        "negative": ({"c1": [-1]}, ValueError, "index -1"),
        "twice": ({"c1": [2, 2]}, ValueError, "index 2 twice"),
        "empty": ({"c1": []}, ValueError, "empty; at least one of 4"),
        "boolean": ({"c1": [True, False, True, True]}, ValueError, "flatnonzero"),
        "frozen": (
            {"fc": [0, 1]},
            ValueError,
            r"'fc' \(params/fc/kernel, axis 1\) is frozen: network output",
        ),
    }


@pytest.mark.parametrize("name", bad_keeps())
@pytest.mark.parametrize("transform", [expand, shrink])
def test_bad_keeps_are_refused_by_name(name, transform):
    _, variables, groups, _, _ = convolutional()
    keep, error, words = bad_keeps()[name]
    with pytest.raises(error, match=words):
        transform(variables, groups, {k: np.asarray(v) for k, v in keep.items()})


def test_a_frozen_group_may_be_named_whole():
    _, variables, groups, _, _ = convolutional()
    same = shrink(variables, groups, {"fc": np.arange(3)})
    jax.tree.map(np.testing.assert_array_equal, same, variables)


def test_params_of_another_structure_are_refused():
    apply, variables, groups, keep, x = convolutional()
    with pytest.raises(ValueError, match="no such leaf"):
        shrink({"params": {"stem": variables["params"]["stem"]}}, groups, keep)
    with pytest.raises(ValueError, match="no such leaf"):
        expand({"weights": jnp.ones((3, 3))}, groups, keep)
    once = shrink(variables, groups, keep)
    with pytest.raises(ValueError, match=r"'batch_stats/.*' has shape .* was traced with"):
        shrink(once, groups, keep)
    small = slim(apply, variables, groups, keep, x)
    with pytest.raises(ValueError, match=r"needs .*shrink it"):
        small(variables, jnp.ones(x.shape))
    with pytest.raises(ValueError, match="another tree structure"):
        small(once["params"], jnp.ones(x.shape))


def test_groups_of_another_network_are_refused():
    apply, variables, _, _, x = convolutional()
    other = find_groups(
        lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"],
        {"w": np.ones((3, 4)), "v": np.ones((4, 2))},
        np.ones((1, 3)),
    )
    with pytest.raises(ValueError, match="isn't in this network"):
        slim(apply, variables, other, {}, x)


def test_slim_takes_other_batches_than_it_was_made_with():
    apply, variables, groups, keep, x = convolutional()
    small = slim(apply, variables, groups, keep, jax.ShapeDtypeStruct((1, *x.shape[1:]), "float32"))
    params = shrink(variables, groups, keep)
    batch = jax.random.normal(jax.random.key(0), (3, *x.shape[1:]))
    np.testing.assert_allclose(
        law.cheap(small, params, batch)[:1], law.cheap(small, params, batch[:1]), rtol=1e-5
    )  # float32


def relu_net(p, x):
    return jax.nn.relu(x @ p["w"]) @ p["v"]


def test_custom_derivatives_are_kept_at_the_small_size():
    """jax.nn.relu has slope 0 at exactly 0, where the primitive max has 1/2."""
    params = {"w": jnp.zeros((3, 4)), "v": jnp.ones((4, 2))}
    x = jnp.ones((1, 3))
    groups = find_groups(relu_net, params, x)
    keep = {"w": np.array([1, 2])}
    small_apply = slim(relu_net, params, groups, keep, x)
    small = shrink(params, groups, keep)
    assert (jax.grad(lambda p: small_apply(p, x).sum())(small)["w"] == 0).all()
    assert (jax.jvp(lambda p: small_apply(p, x), (small,), (small,))[1] == 0).all()


@jax.custom_vjp
def rounded(x):
    return jnp.round(x * 4) / 4


rounded.defvjp(lambda x: (rounded(x), x), lambda x, g: (g * (jnp.abs(x) < 1),))


def test_straight_through_gradients_are_kept_at_the_small_size():
    def apply(p, x):
        return rounded(x @ p["w"]) @ p["v"]

    params = {"w": jax.random.normal(jax.random.key(0), (3, 6)), "v": jnp.ones((6, 2))}
    x = jnp.ones((2, 3)) / 2
    groups = find_groups(apply, params, x)
    keep = {"w": np.array([0, 1, 4])}
    small = shrink(params, groups, keep)
    grads = jax.grad(lambda p: slim(apply, params, groups, keep, x)(p, x).sum())(small)
    expected = jax.grad(lambda p: apply(p, x).sum())(small)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), grads, expected)
    assert (grads["w"] != 0).any()


def conv(x, w, **options):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def loops(p, x):
    h = lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ p["c"]), x @ p["w"])
    h = lax.cond(x.sum() > 0, lambda h: jnp.tanh(h @ p["c"]), lambda h: 2 * h, h)
    h = lax.while_loop(lambda h: (h * h).sum() > 4, lambda h: h / 2, h)
    return jax.checkpoint(lambda h: jnp.sin(h @ p["c"]) + jnp.zeros_like(h))(h) @ p["v"]


def indices(p, x):
    h = x @ p["w"]
    h = jnp.roll(h, 1, -1) + jnp.flip(h, -1) + h[:, np.array([3, 1, 0, 2, 5, 4])]
    return lax.dynamic_slice(h, (0, 1), (2, 4)) @ p["c"][:4, :4] @ p["v"][:4]


def pixels(p, x):
    h = jnp.tanh(x.reshape(2, 1, 1, 4) @ p["w"].reshape(4, 6)).reshape(2, 1, 1, 6)
    h = h.reshape(2, 1, 1, 1, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 1, 2, 3)
    return h.mean((1, 2)) @ p["v"][:3]


def padded(p, x):
    h = lax.pad(x @ p["w"][:, :4], jnp.zeros((), x.dtype), ((0, 0, 0), (1, 1, 0)))
    return jnp.tanh(h + x @ p["w"] @ p["c"]) @ p["v"]


def repeated(p, x):
    many = jnp.repeat(x @ p["w"][:, :3], 2, axis=-1) @ p["v"]
    return many * (jnp.tile(x @ p["c"][:4, :3], (1, 2)) @ p["u"])


def updated(p, x):
    h = lax.dynamic_update_slice(x @ p["w"], jnp.tanh(x @ p["c"][:4, :2]), (0, 3))
    return h @ p["v"]


@pytest.mark.parametrize(
    "apply", [loops, indices, pixels, padded, repeated, updated], ids=lambda f: f.__name__
)
def test_law_over_control_flow_and_index_arithmetic(apply):
    with jax.enable_x64(True):
        shapes = {"w": (4, 6), "c": (6, 6), "v": (6, 3), "u": (6, 3)}
        params = law.numbers({name: jax.ShapeDtypeStruct(shape, "float64") for name, shape in shapes.items()})
        x = jnp.asarray(np.random.default_rng(5).uniform(0.2, 1, (2, 4)))
        groups = find_groups(apply, params, x)
        keep = law.some_keep(groups, np.random.default_rng(1), maskable=True)
        assert keep
        if apply is loops:  # while_loop has no reverse derivative
            small = slim(apply, params, groups, keep, x)(shrink(params, groups, keep), x)
            np.testing.assert_allclose(
                apply(jax.tree.map(jnp.multiply, params, expand(params, groups, keep)), x), small
            )
        else:
            law.check(apply, params, groups, keep, x)
