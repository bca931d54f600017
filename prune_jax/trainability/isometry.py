"""How far weights and Jacobians are from isometries, before and after pruning and recovery."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from prune_jax.pruning.recovery import as_matrix, is_kernel, stated_axes
from prune_jax.trainability.checks import at_least_float32, known_broken, named
from prune_jax.trainability.jacobian import Apply, jacobian_singular_values
from prune_jax.trainability.singular_values import singular_values

Where = Callable[[str, jax.Array], bool]


def isometry_gap(
    kernel: jax.Array, *, gain: float = 1.0, output_axis: int = -1, input_axes: int | None = None
) -> jax.Array:
    """Mean of (s / gain - 1)^2 over the singular values s of one kernel. It is 0 for an isometry.

    The kernel is flattened as OrthP flattens it, so for a convolution this is not the spectrum of the map on images.
    Channels that a mask holds at zero count as s = 0.

    Args:
        kernel: of rank 2 or more, floating.
        gain: what ``orthp`` got: 1 for linear layers, sqrt 2 before a ReLU.
        output_axis: -1 for Flax's layout, 0 for PyTorch's.
        input_axes: how many leading axes are inputs, as for ``orthp``.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: for a kernel of rank below 2, without entries, not floating or not finite, or a gain not positive.

    Example:
        >>> float(isometry_gap(0.5 * jnp.eye(3)))
        0.25

    Source: the distance of arXiv 2301.05219's companion code, there of Jacobians. Of weights it is ours.
    """
    # these have derivatives at an isometry, where all values are equal
    values = singular_values(_matrix(kernel, gain, output_axis, input_axes)[:, None], "svd")
    return jnp.mean(jnp.square(values[0] / gain - 1.0))


def orthogonality_error(kernel: jax.Array, *, gain: float = 1.0, output_axis: int = -1) -> jax.Array:
    """||M^T M / gain^2 - I||_F of the flattened kernel M in its taller orientation.

    Args:
        kernel, gain, output_axis: as for ``isometry_gap``.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: as ``isometry_gap``.

    Example:
        >>> float(orthogonality_error(2.0 * jnp.eye(1)))
        3.0

    Source: the penalty of kernel orthogonality (Xie et al., CVPR 2017, arXiv 1703.01827), measured.
    """
    matrix = _matrix(kernel, gain, output_axis)
    tall = matrix.T if matrix.shape[0] < matrix.shape[1] else matrix
    gram = jnp.matmul(tall.T, tall, precision=jax.lax.Precision.HIGHEST) / gain**2
    return jnp.linalg.norm(gram - jnp.eye(len(gram), dtype=gram.dtype))


def isometry_gaps(
    params: Any, *, gain: float = 1.0, output_axis: int = -1, where: Where = is_kernel
) -> dict[str, jax.Array]:
    """``isometry_gap`` of every kernel in a pytree.

    Args:
        params: any pytree. Paths read like ``layers/0/kernel``.
        gain, output_axis: as for ``orthp``.
        where: ``where(path, leaf)`` picks leaves, by default kernels.

    Returns:
        ``{path: gap}``, scalars.

    Raises:
        ValueError: when no leaf is picked, and as ``isometry_gap``, naming the leaf.

    Example:
        >>> {path: float(gap) for path, gap in isometry_gaps({"a": {"kernel": jnp.eye(2)}}).items()}
        {'a/kernel': 0.0}
    """
    leaves, found = dict(named(params)), {}
    for name, leaf in leaves.items():
        if where(name, leaf):
            axes = stated_axes(leaves, name, leaf)
            try:
                found[name] = isometry_gap(leaf, gain=gain, output_axis=output_axis, input_axes=axes)
            except ValueError as error:
                raise ValueError(f"leaf {name!r}: {error}") from None
    if not found:
        raise ValueError(f"no leaf to measure among {', '.join(leaves) or 'no leaves'}")
    return found


def isometry_table(
    states: Mapping[str, Any], *, gain: float = 1.0, output_axis: int = -1, where: Where = is_kernel
) -> dict[str, dict[str, jax.Array]]:
    """The isometry gaps of several params side by side, one row a kernel.

    Args:
        states: names of params, such as ``{'dense': ..., 'pruned': ..., 'recovered': ...}``. Sizes may differ.
        gain, output_axis, where: as for ``isometry_gaps``.

    Returns:
        ``{path: {state: gap}}``, scalars.

    Raises:
        ValueError: for no states, and when their kernels have different paths.

    Example:
        >>> table = isometry_table({"dense": {"k": jnp.eye(2)}, "pruned": {"k": 0.5 * jnp.eye(2)}})
        >>> {state: float(gap) for state, gap in table["k"].items()}
        {'dense': 0.0, 'pruned': 0.25}
    """
    if not states:
        raise ValueError("states names no params; give some, such as {'dense': params}")
    how: Any = {"gain": gain, "output_axis": output_axis, "where": where}
    columns = {name: isometry_gaps(params, **how) for name, params in states.items()}
    first, rows = next(iter(columns.items()))
    for name, column in columns.items():
        if list(column) != list(rows):
            odd = sorted(set(column) ^ set(rows))
            raise ValueError(f"{name!r} holds other kernels than {first!r}: {', '.join(odd)}")
    return {path: {name: column[path] for name, column in columns.items()} for path in rows}


def jacobian_isometry_gap(
    apply: Apply, x: jax.Array, *, chunk: int | None = None, check: bool = True
) -> jax.Array:
    """Mean of (s - 1)^2 over Jacobian singular values and examples. 0 is dynamical isometry.

    Args:
        apply, x, chunk, check: as for ``jacobians``. It costs K pull-backs.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: as ``jacobian_singular_values``.

    Example:
        >>> round(float(jacobian_isometry_gap(Partial(jnp.multiply, 0.5), jnp.ones((1, 2)))), 4)
        0.25

    Source: Saxe et al., 2014 (arXiv 1312.6120) for dynamical isometry, arXiv 2301.05219's companion code for the
        distance.
    """
    return jnp.mean(jnp.square(jacobian_singular_values(apply, x, chunk=chunk, check=check) - 1.0))


def _matrix(kernel: jax.Array, gain: float, output_axis: int, input_axes: int | None = None) -> jax.Array:
    kernel = jnp.asarray(kernel)
    if kernel.ndim < 2 or kernel.size == 0:
        raise ValueError(f"a kernel has rank 2 or more and entries, this one has shape {kernel.shape}")
    if not jnp.issubdtype(kernel.dtype, jnp.floating):
        raise ValueError(f"a kernel is floating, this one has dtype {kernel.dtype}")
    if not isinstance(gain, jax.core.Tracer) and not gain > 0:
        raise ValueError(f"gain must be positive, got {gain}: 1 for linear layers, sqrt 2 before a ReLU")
    if known_broken(kernel):
        raise ValueError("the kernel holds NaN or infinity")
    return at_least_float32(as_matrix(kernel, output_axis=output_axis, input_axes=input_axes))
