"""Kernel orthogonality: every layer is pulled to an isometry while it trains.

Sources: KernOrth, Xie et al., CVPR 2017, arXiv 1703.01827. OrthConv, Wang et al., Orthogonal Convolutional Neural
Networks, CVPR 2020, arXiv 1911.12207.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.layouts.unstructured import is_kernel
from prune_jax.pruning.recovery import as_matrix, stated_axes
from prune_jax.pruning.regularizers.channels import wide
from prune_jax.pruning.regularizers.growth import refuse_below
from prune_jax.pruning.regularizers.penalty import Leaves, Penalty


def kernel_orthogonality(
    groups: Sequence[Group] = (), *, strength: float = 0.1, output_axis: int = -1
) -> Penalty:
    """KernOrth: strength times the sum over all kernels of ||M^T M - I||_F, M the kernel in its taller orientation.

    Args:
      groups: only name the leaves. Every kernel of the params counts.
      strength: what the sum is multiplied by.
      output_axis: of a kernel, as in ``recovery.as_matrix``: -1 for Flax, 0 for PyTorch.

    Returns:
      The penalty. It ends by its budget alone.

    Raises:
      ValueError: a negative strength.
    """
    return _of_kernels(groups, strength, lambda leaves, path: _distance(leaves, path, output_axis))


def orthogonal_convolution(
    groups: Sequence[Group] = (),
    *,
    strength: float = 0.1,
    stride: int = 2,
    padding: int = 1,
    output_axis: int = -1,
) -> Penalty:
    """OrthConv: of convolutions wider than 1 the distance of the kernel's self-convolution from a delta.

    The kernel's filters are convolved with all filters. A filter with itself, unshifted, is to give 1, and all else 0.
    Other kernels, 1x1 and dense ones, count as in ``kernel_orthogonality``.

    Args:
      groups: only name the leaves. Every kernel of the params counts.
      strength: what the sum of distances is multiplied by.
      stride: of the self-convolution. 2 in the companion code of TPP.
      padding: of the self-convolution on each side. 1 there.
      output_axis: -1 for kernels (height, width, inputs, outputs), 0 for (outputs, inputs, height, width).

    Returns:
      The penalty. It ends by its budget alone.

    Raises:
      ValueError: a negative strength, a stride below 1, a negative padding.
    """
    refuse_below(1, stride=stride)
    refuse_below(0, padding=padding)

    def distance(leaves: Leaves, path: str) -> jax.Array:
        filters = _filters(leaves, path, output_axis)
        if filters is None:
            return _distance(leaves, path, output_axis)
        return self_convolution_error(filters, stride, padding)

    return _of_kernels(groups, strength, distance)


def self_convolution_error(filters: jax.Array, stride: int, padding: int) -> jax.Array:
    """||conv(K, K) - delta||_F of filters (outputs, inputs, height, width); the delta is at the middle.

    >>> float(self_convolution_error(2 * jnp.ones((1, 1, 1, 1)), 1, 0))
    3.0
    """
    found = jax.lax.conv_general_dilated(filters, filters, (stride, stride), [(padding, padding)] * 2)
    middle = found.shape[-2] // 2, found.shape[-1] // 2
    return _frobenius(found.at[:, :, middle[0], middle[1]].add(-jnp.eye(len(filters), dtype=found.dtype)))


def _of_kernels(
    groups: Sequence[Group], strength: float, distance: Callable[[Leaves, str], jax.Array]
) -> Penalty:
    refuse_below(0, strength=strength)

    def init(leaves: Leaves) -> tuple[()]:
        if not any(map(is_kernel, leaves.values())):
            raise ValueError(
                f"there is no kernel to make orthogonal among {', '.join(leaves) or 'no leaves'}"
            )
        return ()

    def value(_: tuple[()], leaves: Leaves) -> jax.Array:
        kernels = [path for path, leaf in leaves.items() if is_kernel(leaf)]
        return strength * sum((distance(leaves, path) for path in kernels), jnp.zeros(()))

    def gradient(state: tuple[()], leaves: Leaves) -> dict[str, jax.Array]:
        kernels = {path: wide(leaf) for path, leaf in leaves.items() if is_kernel(leaf)}
        return jax.grad(lambda mine: value(state, {**leaves, **mine}))(kernels)

    return Penalty(groups, init, lambda state, leaves, count: state, value, gradient)


def _distance(leaves: Leaves, path: str, output_axis: int) -> jax.Array:
    matrix = as_matrix(
        wide(leaves[path]), output_axis=output_axis, input_axes=stated_axes(leaves, path, leaves[path])
    )
    tall = matrix.T if matrix.shape[0] < matrix.shape[1] else matrix
    return _frobenius(tall.T @ tall - jnp.eye(tall.shape[1], dtype=tall.dtype))


def _filters(leaves: Mapping[str, jax.Array], path: str, output_axis: int) -> jax.Array | None:
    """The kernel as (outputs, inputs, height, width). None of one that isn't a convolution wider than 1."""
    kernel = wide(leaves[path])
    if kernel.ndim != 4:
        return None
    filters = kernel.transpose(3, 2, 0, 1) if output_axis in (-1, 3) else kernel
    return filters if max(filters.shape[2:]) > 1 else None


def _frobenius(array: jax.Array) -> jax.Array:
    """The Frobenius norm, whose gradient at 0 is 0."""
    square = jnp.square(array).sum()
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
