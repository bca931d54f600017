"""Sizes baked into constants: rewritten where that is proved, frozen where it isn't."""

import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.surgery import shrink, slim


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def group_of(body, width, **more):
    """The hidden group of x @ w, body, @ v, with the network and its numbers."""
    shapes = {"w": (4, width), "v": (width, 3), **more}
    params = law.numbers({name: jax.ShapeDtypeStruct(shape, "float64") for name, shape in shapes.items()})
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4)))

    def apply(p, x):
        return body(p, x @ p["w"]) @ p["v"]

    groups = find_groups(apply, params, x)
    return next(g for g in groups if g.name == "w"), apply, params, groups, x


FOLLOWS = {
    "mean": (lambda p, h: h - h.mean(-1, keepdims=True), 6),
    "variance": (lambda p, h: h / jnp.sqrt(h.var(-1, keepdims=True) + 0.1), 6),
    "mean by hand": (lambda p, h: h - h.sum(-1, keepdims=True) / h.shape[-1], 6),
    "mean in two steps": (
        lambda p, h: h - (h.reshape(2, 2, -1).sum((1, 2)) / 2 / (h.shape[-1] // 2)).reshape(2, 1),
        6,
    ),
    "root mean square": (
        lambda p, h: h / jnp.sqrt((h * h).sum(-1, keepdims=True) * (1 / h.shape[-1]) + 0.1),
        6,
    ),
    "scaled by width": (lambda p, h: jnp.tanh(h) / np.sqrt(h.shape[-1]), 16),
    "attention": (lambda p, h: h * ((h @ h.T) / np.sqrt(h.shape[-1])).sum(-1, keepdims=True), 6),
    "query scaled first": (lambda p, h: h * ((h / np.sqrt(h.shape[-1])) @ h.T).sum(-1, keepdims=True), 6),
}


@pytest.mark.parametrize("name", FOLLOWS)
def test_a_size_is_rewritten_and_no_mask_stands_for_the_cut(name):
    body, width = FOLLOWS[name]
    group, apply, params, groups, x = group_of(body, width)
    assert group.frozen is None
    assert not group.maskable
    keep = {"w": np.array([0, 2, 3, 5])[: group.size - 1] if group.size > 3 else np.array([0, 2])}
    small = shrink(params, groups, keep)
    # The code takes its sizes from shapes, so run at the small ones it is the oracle.
    np.testing.assert_allclose(slim(apply, params, groups, keep, x)(small, x), apply(small, x), rtol=1e-12)


STAYS = {
    "mean": (lambda p, h: h - h.sum(-1, keepdims=True) / 6, 6, 6.0),
    "attention": (lambda p, h: h * ((h @ h.T) * 6**-0.5).sum(-1, keepdims=True), 6, 6**-0.5),
}


@pytest.mark.parametrize("name", STAYS)
def test_a_number_used_as_a_size_stays_where_it_does_not_follow_and_the_group_names_it(name):
    body, width, constant = STAYS[name]
    group, apply, params, groups, x = group_of(body, width)
    assert (group.frozen, group.maskable) == (None, True)
    assert group.constants == pytest.approx((constant,))
    law.check(apply, params, groups, {"w": np.array([0, 2, 3])}, x)


def test_a_number_that_moves_with_a_size_in_no_known_way_freezes():
    group, *_ = group_of(lambda p, h: h / jnp.sqrt(h.var(-1, ddof=1, keepdims=True) + 0.1), 6)
    assert "can't be proved" in group.frozen


PLAIN = {
    "slope": (lambda p, h: jnp.where(h > 0, h, 0.25 * h), 16),
    "half": (lambda p, h: 0.5 * jnp.tanh(h), 4),
    "gelu": (lambda p, h: jax.nn.gelu(h), 4),
    "leaky relu": (lambda p, h: jax.nn.leaky_relu(h, 0.5), 4),
    "other sum": (lambda p, h: h * h.sum(-1, keepdims=True) / 7, 6),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_number_that_happens_to_equal_a_size_stays(name):
    body, width = PLAIN[name]
    group, apply, params, groups, x = group_of(body, width)
    assert group.frozen is None
    assert group.maskable
    assert group.constants == ()
    keep = {"w": np.array([0, 3])}
    law.check(apply, params, groups, keep, x)


def test_a_spatial_mean_over_as_many_positions_as_channels_is_no_size():
    def apply(p, x):
        return (x @ p["w"]).mean((1, 2)) @ p["v"]

    shapes = {"w": jax.ShapeDtypeStruct((3, 16), "float32"), "v": jax.ShapeDtypeStruct((16, 2), "float32")}
    group = find_groups(apply, shapes, jax.ShapeDtypeStruct((1, 4, 4, 3), "float32"))[1]
    assert (group.name, group.frozen, group.maskable) == ("w", None, True)


def checked_shape(body, width):
    """Like a Linen module: the code refuses any width but its own, so it can't be traced at another."""

    def strict(p, h):
        if h.shape[-1] != width:
            raise ValueError("wrong width")
        return body(p, h)

    return strict, width


def test_without_a_second_trace_an_idiom_is_enough_and_a_coincidence_stays():
    mean, *_ = group_of(*checked_shape(lambda p, h: h - h.sum(-1, keepdims=True) / 6, 6))
    assert (mean.frozen, mean.maskable) == (None, False)
    gelu, *_ = group_of(*checked_shape(lambda p, h: jax.nn.gelu(h), 4))
    assert (gelu.frozen, gelu.maskable) == (None, True)
    slope, *net = group_of(*checked_shape(lambda p, h: jnp.where(h > 0, h, 0.25 * h), 16))
    assert (slope.frozen, slope.maskable, slope.constants) == (None, True, (0.25,))
    apply, params, groups, x = net
    law.check(apply, params, groups, {"w": np.array([0, 3, 7])}, x)


def test_constants_with_a_value_per_channel_are_cut_with_it():
    table = np.linspace(-1.0, 1.0, 6).reshape(1, 6)
    group, apply, params, groups, x = group_of(lambda p, h: jnp.tanh(h + table), 6)
    assert group.frozen is None
    keep = {"w": np.array([1, 2, 5])}
    law.check(apply, params, groups, keep, x)
