"""Trainability recovery after the sparsifying action."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def is_kernel(path: str, leaf: jax.Array) -> bool:
    """Whether a leaf is a weight matrix or convolution kernel: rank two or more."""
    del path
    return leaf.ndim >= 2


def as_matrix(kernel: jax.Array, *, output_axis: int = -1) -> jax.Array:
    """The kernel flattened to (inputs x height x width, outputs), as OrthP sees it."""
    moved = jnp.moveaxis(kernel, output_axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def orthogonalize(kernel: jax.Array, *, gain: float, output_axis: int = -1) -> jax.Array:
    """The orthogonal matrix nearest in spirit to ``kernel``'s own directions, times ``gain``; same shape.

    The kernel is flattened to (outputs, inputs), its taller orientation M is factored M = QR, and Q with
    the signs of R's diagonal replaces M. Existing directions are kept, nothing is drawn anew. ``gain`` is
    that of the activation: 1 for linear, sqrt 2 for ReLU. Source: OrthP, arXiv 2301.05219 §5 and the
    companion repositories (facts: weights orthogonalised after pruning, before retraining).
    """
    moved = jnp.moveaxis(kernel, output_axis, -1)
    matrix = as_matrix(moved)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = jnp.linalg.qr(matrix.T if wide else matrix)
    signs = jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0).astype(q.dtype)
    q = q * signs[None, :]
    return gain * jnp.moveaxis((q.T if wide else q).reshape(moved.shape), -1, output_axis)


def orthp(
    params: Any,
    *,
    gain: float,
    output_axis: int = -1,
    where: Callable[[str, jax.Array], bool] = is_kernel,
) -> Any:
    """OrthP: every kernel that ``where(path, leaf)`` picks, orthogonalised; other leaves as they are.

    ``params`` is any pytree of arrays; paths read like ``layers/0/kernel``. Flax kernels have their
    outputs on the last axis; pass ``output_axis=0`` for the PyTorch layout. Definition: ``orthogonalize``.
    """

    def recover(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return orthogonalize(leaf, gain=gain, output_axis=output_axis) if where(name, leaf) else leaf

    return jax.tree_util.tree_map_with_path(recover, params)
