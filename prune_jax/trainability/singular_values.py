"""Singular values of many Jacobians at once, and how far down they can be trusted."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import cpu

# Values that are 0 in exact arithmetic (100 outputs of 64 features, ResNet-8 and ResNet-56) came out at 1 eps
# of the largest, whatever the depth and the input size, and those of small random matrices at 3.
NOISE = 10.0

Method = Literal["auto", "gram", "gram64", "svd"]


@partial(jax.jit, static_argnames="method")
def singular_values(jacobian: jax.Array, method: Method = "auto") -> jax.Array:
    """Singular values of ``(K, batch, D)`` Jacobians: ``(batch, min(K, D))``, descending, float32 or float64.

    ``'gram'``: smaller Gram matrix and its eigenvalues in the Jacobian's own precision (float32 at least),
    at full matrix-product precision. Cheapest. It squares the condition number, so that values below
    ``resolution`` of the largest come out as noise or zero, and a mean over many of them is that far off.
    ``'gram64'``: the same in float64, also where JAX computes in float32 otherwise: as good as the float32
    Jacobian itself. ``'svd'``: QR of the Jacobian and SVD of the triangular factor, in its own precision,
    which squares nothing. ``'auto'``: ``'svd'``, but on GPU, where batched QR is slow, ``'gram64'`` for a
    Jacobian of 32 bits or less. All of them are jit-able and vmap-able. None under- or overflows.

    All have first derivatives, forward and reverse: ds = uᵀ dJ v. A sum over equal values is right whatever basis
    of their space the solver found. Single ones among them have none. A value that isn't resolved counts as zero and
    adds nothing: of a sum of singular values, which has many subgradients there, this is the one of least norm.
    """
    check_method(method)
    jacobian = jacobian.astype(jnp.promote_types(jacobian.dtype, jnp.float32))
    scale = jnp.max(jnp.abs(jacobian), axis=(0, 2), initial=0.0)
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1))  # it cancels
    rows = jnp.moveaxis(jacobian / scale[None, :, None], 0, 1)  # (batch, K, D)
    flat = rows if rows.shape[1] <= rows.shape[2] else rows.mT
    return _values(flat, resolve(method, jacobian.dtype)) * scale[:, None]


def resolve(method: Method, dtype: np.dtype) -> Method:
    """What ``'auto'`` stands for, given the Jacobian's dtype."""
    if method != "auto":
        return method
    return "gram64" if jax.default_backend() == "gpu" and dtype != np.float64 else "svd"


def resolution(method: Method, dtype: np.dtype) -> float:
    """Share of an example's largest singular value below which a value counts as not resolved.

    ``NOISE`` times the ``eps`` of ``dtype``, the format that the network computes in. The root of that for
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


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _values(rows: jax.Array, method: str) -> jax.Array:
    """Of ``(batch, m, n)``, m <= n: (batch, m)."""
    return _SOLVERS[method][0](rows)


@_values.defjvp
def _values_jvp(method: str, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (rows,), (moved,) = primals, tangents
    values, left = _values(rows, method), _SOLVERS[method][1](rows)
    resolved = values > resolution(method, rows.dtype) * values[:, :1]  # type: ignore[arg-type]
    per_value = jnp.where(resolved, 1 / jnp.where(resolved, values, 1), 0)
    highest = jax.lax.Precision.HIGHEST
    right = jnp.einsum("bkd,bki->bid", rows, left, precision=highest) * per_value[..., None]
    return values, jnp.einsum("bki,bkd,bid->bi", left, moved, right, precision=highest)


def _gram(rows: jax.Array) -> jax.Array:
    return jnp.einsum("bkd,bld->bkl", rows, rows, precision=jax.lax.Precision.HIGHEST)


def _gram_values(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(cpu.each(jnp.linalg.eigvalsh, _gram(rows)), 0.0))[:, ::-1]


def _gram_vectors(rows: jax.Array) -> jax.Array:
    """Left singular vectors (batch, m, m) as columns, in the order of the values."""
    return cpu.each(jnp.linalg.eigh, _gram(rows))[1][..., ::-1]


def _in_float64(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """``function`` of (batch, m, n) computed in float64, also where JAX computes in float32 otherwise."""

    @jax.custom_batching.custom_vmap  # else a vmap outside the trace would batch these operations in float32
    def wide(rows: jax.Array) -> jax.Array:
        dtype = rows.dtype
        with jax.enable_x64(True):  # for these operations alone, in a trace as well
            return function(rows.astype(jnp.float64)).astype(dtype)

    @wide.def_vmap
    def batched(axis_size: int, in_batched: list[bool], rows: jax.Array) -> tuple[jax.Array, bool]:
        values = wide(rows.reshape(-1, *rows.shape[2:]))
        return values.reshape(axis_size, -1, *values.shape[1:]), True

    return wide


def _triangle_values(rows: jax.Array) -> jax.Array:
    return cpu.each(lambda tall: jnp.linalg.svd(jnp.linalg.qr(tall, mode="r"), compute_uv=False), rows.mT)


def _triangle_vectors(rows: jax.Array) -> jax.Array:
    return cpu.each(lambda tall: jnp.linalg.svd(jnp.linalg.qr(tall, mode="r"))[2].mT, rows.mT)


# Of each method: the values of rows, and their left singular vectors.
_SOLVERS = {
    "gram": (_gram_values, _gram_vectors),
    "gram64": (_in_float64(_gram_values), _in_float64(_gram_vectors)),
    "svd": (_triangle_values, _triangle_vectors),
}
