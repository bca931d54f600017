"""The Jacobians of a batch as linear maps, one for each example: pushed forward and pulled back, never formed.

Why not ``matfree`` (PyPI, 0.6.3), the JAX library for this: its Lanczos routines apply the operator inside
``fori_loop``, where XLA:CPU runs the gradient of a convolution many times slower. They divide by zero where
the Krylov space is exhausted, so that an orthogonal network, the very case of interest, gives NaN; its error
bars know probe noise only, neither the quadrature's truncation nor the sampling of examples; and it stores
Krylov bases on the input side.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from prune_jax.trainability import memory
from prune_jax.trainability.checks import (
    check_images,
    check_independent,
    check_logits,
    check_measured,
    check_whole,
)
from prune_jax.trainability.singular_values import coarsest

Apply = Callable[[jax.Array], jax.Array]


class Estimate(NamedTuple):
    """An estimate with its standard error, and what it cost.

    Attributes:
      value: the estimate.
      error: its standard error, of the same shape.
      pull_backs: Jacobian products spent. A push-forward counts as a pull-back, the forward pass isn't counted.
        Functions of a batch count for each of its examples (exact spectra cost K). Functions of a data set count
        over all examples (exact spectra of n cost n K).

    Example:
      >>> Estimate(value=2.0, error=0.1, pull_backs=40).pull_backs
      40
    """

    value: jax.Array
    error: jax.Array
    pull_backs: int


class Kernels(NamedTuple):
    """Jitted parts: ``linearise(apply, x)``, then many ``push`` and ``pull`` of its tangent map."""

    linearise: Any
    push: Any
    pull: Any


class Jacobian(NamedTuple):
    """The Jacobians (K, D) of the examples of a batch, as maps between flat vectors.

    push: (..., batch, D) -> (..., batch, K), J v for every example; pull: (..., batch, K) -> (..., batch, D),
    Jᵀ u. ``there`` and ``back`` are the two seen from the smaller side, r = min(K, D): back(there(u)) is the
    Gram operator, J Jᵀ u for K <= D. All of them give at least float32, whatever the network computes in:
    ``network_dtype`` is the coarsest format. ``step``: vectors that go through together, so that they fit.
    """

    push: Callable[[jax.Array], jax.Array]
    pull: Callable[[jax.Array], jax.Array]
    batch: int
    outputs: int
    inputs: int
    dtype: jnp.dtype
    network_dtype: jnp.dtype = jnp.dtype("float32")
    step: int = 2**62

    @property
    def small(self) -> int:
        """The number r of singular values."""
        return min(self.outputs, self.inputs)

    @property
    def there(self) -> Callable[[jax.Array], jax.Array]:
        """From r values to max(K, D): pull-backs where K <= D."""
        return self.pull if self.outputs <= self.inputs else self.push

    @property
    def back(self) -> Callable[[jax.Array], jax.Array]:
        """The adjoint of ``there``."""
        return self.push if self.outputs <= self.inputs else self.pull


def make_kernels() -> Kernels:
    """Kernels with a compilation cache of their own."""

    def linearise(apply: Apply, x: jax.Array) -> tuple[jax.Array, Callable]:
        return jax.linearize(apply, x)

    def push(tangent_map: Callable, tangents: jax.Array) -> jax.Array:
        return jax.vmap(tangent_map)(tangents)

    def pull(tangent_map: Callable, x: jax.Array, cotangents: jax.Array) -> jax.Array:
        transposed = jax.linear_transpose(tangent_map, x)
        return jax.vmap(lambda cotangent: transposed(cotangent)[0])(cotangents)

    return Kernels(jax.jit(linearise), jax.jit(push), jax.jit(pull))


# For ``Partial`` alone: its arrays are arguments, so what was compiled holds for the next variables too.
_SHARED = make_kernels()


def compiled_parts(apply: Apply) -> tuple[Partial, Kernels]:
    """``apply`` as a ``Partial``, and the kernels to call with it.

    Nothing tells whether what a plain function closes over has changed since the last call, so it gets
    kernels of its own and is compiled anew.
    """
    if isinstance(apply, Partial):
        return apply, _SHARED
    return Partial(lambda v: apply(v)), make_kernels()


def jacobian_of(apply: Apply, x: jax.Array, *, check: bool = True) -> Jacobian:
    """The Jacobians of ``apply`` at the examples of ``x``, after one forward pass.

    ``apply`` maps (batch, ...) to (batch, K) and treats examples independently, as a network in evaluation
    mode does. The forward pass and the two products are compiled apart and called from Python by whoever
    iterates: compile time doesn't grow with the steps, and no loop holds the gradient of a convolution.
    Under an outer ``jit`` all is inlined. A plain function is compiled anew in each call.
    ``jax.tree_util.Partial(network.apply, variables)`` is compiled once for all variables. As many vectors go
    through together as memory takes. Raises ValueError for an empty batch, an input that is not floating,
    outputs that are not rank 2, memory that doesn't take one vector for each example, or, with ``check``, examples
    that depend on one another.
    """
    check_images(x)
    if check:
        check_independent(apply, x)
    x = jnp.asarray(x)
    apply, kernels = compiled_parts(apply)
    check_logits(jax.eval_shape(apply, x), len(x))
    logits, tangent_map = kernels.linearise(apply, x)
    batch, outputs = logits.shape
    step = memory.vectors_at_once(product_need(kernels, tangent_map, x, logits))
    inputs = x.size // batch
    dtype = jnp.promote_types(jnp.promote_types(logits.dtype, x.dtype), jnp.float32)

    def push(v: jax.Array) -> jax.Array:
        tangents = v.reshape(-1, *x.shape).astype(x.dtype)
        pushed = _in_pieces(lambda piece: kernels.push(tangent_map, piece), tangents, step)
        return pushed.reshape(*v.shape[:-1], outputs).astype(dtype)

    def pull(u: jax.Array) -> jax.Array:
        cotangents = u.reshape(-1, batch, outputs).astype(logits.dtype)
        pulled = _in_pieces(lambda piece: kernels.pull(tangent_map, x, piece), cotangents, step)
        return pulled.reshape(*u.shape[:-1], inputs).astype(dtype)

    computed = coarsest([x, logits, *jax.tree.leaves(tangent_map)])
    return Jacobian(push, pull, batch, outputs, inputs, dtype, computed, step)


def product_need(kernels: Kernels, tangent_map: Any, x: jax.Array, logits: jax.Array) -> memory.Need:
    """The memory that products with one vector for each example take, over what the forward pass left."""
    held, moved, given = jax.tree.map(_shape, (tangent_map, x, logits))
    tangents, cotangents = (jax.ShapeDtypeStruct((1, *a.shape), a.dtype) for a in (moved, given))
    both = [
        memory.live(kernels.push.trace(held, tangents), [-1]),
        memory.live(kernels.pull.trace(held, moved, cotangents), [-1]),
    ]
    fixed = memory.size_of(jax.tree.leaves(held)) + max(kept for kept, _ in both)
    return memory.Need(fixed, max(moving for _, moving in both), 0, len(x))


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


def _in_pieces(function: Callable[[jax.Array], jax.Array], vectors: jax.Array, step: int) -> jax.Array:
    pieces = [function(vectors[start : start + step]) for start in range(0, len(vectors), step)]
    return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)


def check_budget(budget: int, minimum: int, why: str) -> int:
    """The budget in Jacobian products; ValueError where it is no whole number or under ``minimum``."""
    budget = check_whole("budget", budget, " of pull-backs")
    if budget < minimum:
        raise ValueError(f"budget {budget} is under the minimum of {minimum} pull-backs: {why}")
    return budget


# Mean squared Jacobian singular value from pull-backs of random cotangents alone.


def mean_squared_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """Mean of s² over the r = min(K, D) singular values of each example, estimated without bias.

    ``budget`` random sign vectors z are pulled back (pushed forward where D < K). ‖Jᵀz‖²/r has that mean.

    Args:
        apply: as for ``jacobian_singular_values``.
        x: ``(batch, ...)``.
        budget: probes for each example, two at least.
        key: of the signs.
        check: look for examples that depend on one another.

    Returns:
        An ``Estimate``; value and error are ``(batch,)``, float64 on the host, so that no square leaves its range.
        Inside a trace they are float32, for s from 1e-18 to 1e18. With few probes the error is itself rough
        (Student t with ``budget`` - 1 degrees of freedom).

    Raises:
        ValueError: for bad input, a budget under 2, and, outside a ``jit``, weights or values that aren't finite.

    Example:
        >>> stretch = Partial(jnp.multiply, jnp.array([[1.0, 2.0]]))
        >>> mean_squared_jsv(stretch, jnp.ones((1, 2)), budget=2, key=jax.random.key(0)).value.tolist()
        [2.5]

    Source: Hutchinson 1990.
    """
    budget = check_budget(budget, 2, "an error bar needs two probes, of one pull-back each")
    jacobian = jacobian_of(apply, x, check=check)
    probes = jax.random.rademacher(key, (budget, jacobian.batch, jacobian.small), jacobian.dtype)
    # as many at once as memory takes: what comes back is as large as the input, and only its norm is kept
    pieces = [probes[start : start + jacobian.step] for start in range(0, budget, jacobian.step)]
    found = [scaled_squares([jacobian.there(piece)], (-1,)) for piece in pieces]
    squares, scales = (jnp.concatenate(part) for part in zip(*found, strict=True))
    value, error = mean_of_scaled(squares / jacobian.small, scales)
    check_measured(value, apply, "mean squared singular value")
    return Estimate(value, error, budget)


def scaled_squares(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array]:
    """``(squares, scale)`` with ``squares * scale**2`` the sum of the arrays' squares over ``axes``."""
    largest = [jnp.max(jnp.abs(array), axes, keepdims=True, initial=0.0) for array in arrays]
    scale = functools.reduce(jnp.maximum, [jnp.max(found, axes) for found in largest])
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))  # it cancels
    by = scale if axes is None else jnp.expand_dims(scale, axes)
    return sum((jnp.sum(jnp.square(a / by), axes) for a in arrays), start=jnp.zeros(())), scale


def mean_of_scaled(squares: jax.Array, scales: jax.Array) -> tuple[Any, Any]:
    """Mean over axis 0 of ``squares * scales**2`` and its standard error; NumPy float64 where no trace hides them."""
    top = jnp.max(scales, 0, keepdims=True)
    samples = squares * jnp.square(scales / top)
    found = jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) / len(samples) ** 0.5
    top = top[0]
    if any(isinstance(array, jax.core.Tracer) for array in (*found, top)):
        return found[0] * top * top, found[1] * top * top
    wide = np.asarray(top, np.float64)
    return np.asarray(found[0], np.float64) * wide**2, np.asarray(found[1], np.float64) * wide**2
