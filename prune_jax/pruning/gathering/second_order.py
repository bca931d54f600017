"""Second-order facts of a loss on one batch: gradients of single examples, products with the Hessian."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from prune_jax.pruning.gathering.float_leaves import float_leaves, is_float, of_floats, scaled
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.slices import coupled_slices, kernel_paths, slice_sums


class Fisher(NamedTuple):
    """Squares of what single examples say of a network, as means over the examples.

    Attributes:
      weights: pytree like the params, the mean of g ** 2 with g an example's gradient: the diagonal of the
        empirical Fisher information.
      slices: group name -> (leaf path, axis) -> (channels,), the mean of (sum of w g) ** 2 over each channel's
        part of a coupled kernel. The producer is among them.
    """

    weights: Any
    slices: Any


def parts_of(batch: Any, size: int) -> Iterator[Any]:
    """A batch in pieces of at most ``size`` examples."""
    examples = jax.tree.leaves(batch)[0].shape[0]
    for start in range(0, examples, size):
        yield jax.tree.map(lambda leaf, at=start: leaf[at : at + size], batch)


def example_squares(loss: Callable, params: Any, groups: Sequence[Group], batch: Any) -> dict[str, Any]:
    """The sums over a batch's examples of what ``Fisher`` holds the means of.

    Every example is a batch of one. The gradients of all examples of the batch are held at the same time, so a
    large batch is given in parts.
    """
    function, floats = of_floats(loss, params), float_leaves(params)
    names = [path for path, leaf in leaf_paths(params) if is_float(leaf)]
    kernels, places = kernel_paths(params), {path: k for k, path in enumerate(names)}
    wanted = {
        group.name: [one for one in coupled_slices(group, kernels) if one.path in places]
        for group in groups
        if group.frozen is None
    }
    sizes = {group.name: group.size for group in groups}

    def squares(example: Any) -> tuple[list[Any], Any]:
        alone = jax.tree.map(lambda leaf: leaf[None], example)
        grads = scaled(1, jax.grad(function)(floats, alone))
        products = {
            path: floats[k] * grads[k]
            for path, k in places.items()
            if any(one.path == path for slices in wanted.values() for one in slices)
        }
        sums = {
            name: {
                (one.path, one.axis): slice_sums(products[one.path], one, sizes[name]) ** 2 for one in slices
            }
            for name, slices in wanted.items()
        }
        return [grad * grad for grad in grads], sums

    weights, slices = jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(squares)(batch))
    return {"weights": weights, "slices": slices}


def hessian_times(loss: Callable, params: Any, batch: Any, vector: list[Any]) -> list[Any]:
    """H v of a batch's loss, for the float leaves. H is never formed."""
    function, floats = of_floats(loss, params), float_leaves(params)
    tangents = [entry.astype(leaf.dtype) for entry, leaf in zip(vector, floats, strict=True)]
    return jax.jvp(lambda at: jax.grad(function)(at, batch), (floats,), (tangents,))[1]


def hutchinson(loss: Callable, params: Any, batch: Any, key: jax.Array) -> list[Any]:
    """z * (H z) for one draw of signs z, for the float leaves."""
    floats = float_leaves(params)
    keys = jax.random.split(key, max(len(floats), 1))
    signs = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, floats, strict=False)]
    product = hessian_times(loss, params, batch, signs)
    return [sign * entry for sign, entry in zip(signs, product, strict=True)]
