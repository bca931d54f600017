"""Coupling of tiny networks found without the jaxpr: by trial of shapes, and by perturbing numbers."""

import itertools

import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest
from jax import lax

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.keep import cuts
from prune_jax.pruning.masks import apply_mask, expand


def conv(x, w, **options):
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def flattened(p, x):
    h = jnp.tanh(conv(x, p["w"]) + p["b"].reshape(1, 1, 1, -1))
    return h.reshape(x.shape[0], -1) @ p["v"]


def residual(p, x):
    h = conv(x, p["w"])
    h = h + conv(jax.nn.relu(conv(h, p["u"])), p["z"])
    return h.mean((1, 2)) @ p["v"]


def branches(p, x):
    h = jnp.concatenate([conv(x, p["w"]), jnp.tanh(conv(x, p["u"]))], -1)
    a, b = jnp.split(conv(h, p["z"]), 2, -1)
    return (a * jax.nn.sigmoid(b)).mean((1, 2)) @ p["v"]


def heads(p, x):
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    q, k, v = (jnp.einsum("btc,chs->bths", x, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqhs,bkhs->bhqk", q, k))
    return jnp.einsum("bhqk,bkhs,hsd->bqd", weights, v, p["o"]).mean(1)


NETS = {
    "flattened": (flattened, {"w": (3, 3, 3, 4), "b": (4,), "v": (16, 3)}),
    "residual": (residual, {"w": (1, 1, 3, 4), "u": (1, 1, 4, 5), "z": (1, 1, 5, 4), "v": (4, 3)}),
    "branches": (branches, {"w": (1, 1, 3, 3), "u": (1, 1, 3, 4), "z": (1, 1, 7, 6), "v": (3, 3)}),
    "heads": (heads, {"q": (3, 3, 4), "k": (3, 3, 4), "v": (3, 3, 5), "o": (3, 5, 3)}),
}
# No size is 2: an axis of 1, left over from 2, would broadcast instead of failing.
INPUT = jax.ShapeDtypeStruct((1, 2, 2, 3), "float64")


def build(name):
    apply, shapes = NETS[name]
    return apply, {key: jax.ShapeDtypeStruct(shape, "float64") for key, shape in shapes.items()}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def runs(apply, shapes, less):
    """Whether the network still runs, to the same output, with some leaf axes shorter."""
    small = {
        key: jax.ShapeDtypeStruct(
            [n - less.get((key, axis), 0) for axis, n in enumerate(leaf.shape)], leaf.dtype
        )
        for key, leaf in shapes.items()
    }
    try:
        return jax.eval_shape(apply, small, INPUT).shape == (1, 3)
    except (TypeError, ValueError):
        return False


@pytest.mark.parametrize(
    "name", ["residual", pytest.param("heads", marks=pytest.mark.slow)]
)  # 793 sets of axes
def test_axes_that_must_shrink_together(name):
    """Of all sets of leaf axes, the smallest that can lose one index each are the groups' axes."""
    apply, shapes = build(name)
    axes = [(key, k) for key, leaf in shapes.items() for k, n in enumerate(leaf.shape) if n > 1]
    minimal = []
    for size in range(1, 5):  # a minimal set of five would be missing below, and the test would fail
        for chosen in itertools.combinations(axes, size):
            known = any(set(smaller) <= set(chosen) for smaller in minimal)
            if not known and runs(apply, shapes, dict.fromkeys(chosen, 1)):
                minimal.append(chosen)
    groups = find_groups(apply, shapes, INPUT)
    found = {frozenset((s.path, s.axis) for s in group.members) for group in groups if group.frozen is None}
    assert found == {frozenset(chosen) for chosen in minimal}


def only_axis_left(params, masked, kept_out, path, axis):
    """The masked params with one leaf's mask along one axis taken off."""
    leaf = params[path]
    for other, stays in kept_out[path].items():
        if other != axis:
            leaf = leaf * stays.reshape([-1 if k == other else 1 for k in range(leaf.ndim)])
    return masked | {path: leaf}


@pytest.mark.parametrize("name", NETS)
def test_positions_that_belong_to_a_channel(name):
    """Mask a channel but for one leaf axis: there exactly its own positions have no say any more."""
    apply, shapes = build(name)
    groups = find_groups(apply, shapes, INPUT)
    params, x = jax.tree.map(np.asarray, law.numbers(shapes)), law.numbers(INPUT, seed=1)
    masked_by = jax.jit(apply_mask)

    @jax.jit
    def moved(p, bumps):
        """How far each bump moves the output."""
        return jax.vmap(lambda bump: jnp.abs(apply(jax.tree.map(jnp.add, p, bump), x) - apply(p, x)).max())(
            bumps
        )

    for group in (g for g in groups if g.frozen is None):
        for channel, (path, axis, index) in itertools.product(range(group.size), group.members):
            keep = {group.name: np.delete(np.arange(group.size), channel)}
            masked = masked_by(params, expand(params, groups, keep))
            half = only_axis_left(params, masked, cuts(groups, keep), path, axis)
            bumps = {key: np.zeros((len(index), *leaf.shape)) for key, leaf in params.items()}
            np.moveaxis(bumps[path], axis + 1, 1)[np.arange(len(index)), np.arange(len(index))] = 0.5
            silent = np.asarray(moved(half, bumps)) < 1e-12
            np.testing.assert_array_equal(silent, index == channel)
