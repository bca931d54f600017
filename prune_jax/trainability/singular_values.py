"""Singular values of many Jacobians at once, and how far down they can be trusted."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import factorise

# Values that are 0 in exact arithmetic (100 outputs of 64 features, ResNet-8 and ResNet-56) came out at 1 eps
# of the largest, whatever the depth and the input size, and those of small random matrices at 3.
NOISE = 10.0

Method = Literal["auto", "gram", "gram64", "svd"]


def singular_values(jacobian: jax.Array, method: Method = "auto") -> jax.Array:
    """Singular values of ``(K, batch, D)`` Jacobians: ``(batch, min(K, D))``, descending, float32 or float64.

    ``'gram'``: smaller Gram matrix and its eigenvalues in the Jacobian's own precision (float32 at least),
    at full matrix-product precision. Cheapest; it squares the condition number, so that values below
    ``resolution`` of the largest come out as noise or zero, and a mean over many of them is that far off.
    ``'gram64'``: the same in float64, also where JAX computes in float32 otherwise: as good as the float32
    Jacobian itself. ``'svd'``: QR of the Jacobian and SVD of the triangular factor, in its own precision,
    which squares nothing. ``'auto'``: ``'svd'``; on GPU, where batched QR is slow, ``'gram64'`` for a
    Jacobian of 32 bits or less. All of them are jit-able and vmap-able; none under- or overflows.
    """
    check_method(method)
    jacobian = jacobian.astype(jnp.promote_types(jacobian.dtype, jnp.float32))
    scale = jnp.max(jnp.abs(jacobian), axis=(0, 2), initial=0.0)
    scale = jnp.where(scale > 0, scale, 1)
    rows = jnp.moveaxis(jacobian / scale[None, :, None], 0, 1)  # (batch, K, D)
    solvers: dict[str, Callable[[jax.Array], jax.Array]]
    solvers = {"gram": _by_gram, "gram64": _by_gram64, "svd": _by_qr}
    solve = solvers[resolve(method, jacobian.dtype)]
    return solve(rows if rows.shape[1] <= rows.shape[2] else rows.mT) * scale[:, None]


def resolve(method: Method, dtype: np.dtype) -> Method:
    """What ``'auto'`` stands for, given the Jacobian's dtype; any other method itself."""
    if method != "auto":
        return method
    return "gram64" if jax.default_backend() == "gpu" and dtype != np.float64 else "svd"


def resolution(method: Method, dtype: np.dtype) -> float:
    """Share of an example's largest singular value below which a value counts as not resolved.

    ``NOISE`` times the ``eps`` of ``dtype``, the format that the network computes in; the root of that for
    ``'gram'``, and for ``'gram64'`` of a float64 Jacobian, where the eigenvalues, the squares, carry the noise.
    """
    check_method(method)
    noise = NOISE * float(jnp.finfo(dtype).eps)
    method = resolve(method, np.dtype(dtype))
    squared = method == "gram" or (method == "gram64" and dtype == np.float64)
    return noise**0.5 if squared else noise


def coarsest(arrays: Iterable[Any]) -> np.dtype:
    """The floating format with the largest ``eps`` among the arrays that a network computes with."""
    formats = {np.dtype(a.dtype) for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)}
    return max(formats, key=lambda dtype: float(jnp.finfo(dtype).eps))


def check_method(method: str) -> None:
    """ValueError unless ``method`` is one of those above."""
    if method not in get_args(Method):
        raise ValueError(f"method {method!r} is none of {', '.join(map(repr, get_args(Method)))}")


def _by_gram(rows: jax.Array) -> jax.Array:
    gram = jnp.einsum("bkd,bld->bkl", rows, rows, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.maximum(factorise.each(jnp.linalg.eigvalsh, gram), 0.0))[:, ::-1]


@jax.custom_batching.custom_vmap  # else a vmap outside the trace would batch these operations in float32
def _by_gram64(rows: jax.Array) -> jax.Array:
    dtype = rows.dtype
    with jax.enable_x64(True):  # for these operations alone, in a trace as well
        return _by_gram(rows.astype(jnp.float64)).astype(dtype)


@_by_gram64.def_vmap
def _by_gram64_batched(axis_size: int, in_batched: list[bool], rows: jax.Array) -> tuple[jax.Array, bool]:
    values = _by_gram64(rows.reshape(-1, *rows.shape[2:]))
    return values.reshape(axis_size, -1, *values.shape[1:]), True


def _by_qr(rows: jax.Array) -> jax.Array:
    return factorise.each(_triangle_values, rows.mT)


def _triangle_values(tall: jax.Array) -> jax.Array:
    return jnp.linalg.svd(jnp.linalg.qr(tall, mode="r"), compute_uv=False)
