"""The law: a masked network and the shrunk one give the same output and the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.surgery import shrink, slim

# XLA's effort is spent on code that runs once; these nets are tiny.
CHEAP = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def numbers(shapes, seed=0):
    """Random leaves: positive where a variance may be meant, else of both signs, never near 0."""
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        low = 0.2 if "var" in jax.tree_util.keystr(path) else -1.0
        return jax.device_put(rng.uniform(low, 1.0, leaf.shape).astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(one, shapes)


def some_keep(groups, rng, *, maskable=None):
    """A random part of every group that isn't frozen (and is maskable or not, if asked)."""
    keep = {}
    for group in groups:
        if group.frozen is None and group.size > 1 and maskable in (None, group.maskable):
            kept = rng.permutation(group.size)[: rng.integers(1, group.size)]
            keep[group.name] = np.sort(kept)
    return keep


def both(apply, params, groups, keep, x, gradients=True, analysis=None):
    """(output, gradients at kept weights) of the masked and of the small network.

    ``analysis`` is that of the network where the caller has it: then it is traced once less.
    """
    mask, small = expand(params, groups, keep), shrink(params, groups, keep)
    small_apply = slim(apply, params, groups, keep, x, analysis=analysis)

    def probed(function):
        def loss(p):
            out = function(p, x)
            return jnp.sum(out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)), out

        return jax.grad(loss, has_aux=True) if gradients else lambda p: (p, function(p, x))

    def run(params, mask, small):  # compiled once for both
        return probed(apply)(apply_mask(params, mask)), probed(small_apply)(small)

    (grads, out), (small_grads, small_out) = cheap(run, params, mask, small)
    return (out, shrink(grads, groups, keep)), (small_out, small_grads)


def assert_equal(masked, small):
    """1e-5 relative, in float64: exact structure, not luck."""

    def close(path, a, b):
        scale = np.abs(b).max(initial=0)
        np.testing.assert_allclose(
            a, b, rtol=1e-5, atol=max(1e-9 * scale, 1e-13), err_msg=jax.tree_util.keystr(path)
        )

    jax.tree_util.tree_map_with_path(close, masked, small)


def cheap(function, *args):
    """The function's result, compiled without costly passes."""
    return jax.jit(function).lower(*args).compile(CHEAP)(*args)


def check(apply, params, groups, keep, x, gradients=True, analysis=None):
    masked, small = both(apply, params, groups, keep, x, gradients, analysis)
    assert np.isfinite(masked[0]).all()
    assert_equal(masked, small)
