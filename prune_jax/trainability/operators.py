"""The Jacobians of a batch as linear maps, one for each example: pushed forward and pulled back, never formed.

Why not ``matfree`` (PyPI, 0.6.3): its Lanczos routines apply the operator inside ``fori_loop``, where XLA:CPU runs the
gradient of a convolution many times slower. They divide by zero where the Krylov space is exhausted, so that an
orthogonal network, the very case of interest, gives NaN. Its error bars know probe noise only.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import checks, memory, passes
from prune_jax.trainability.passes import Apply
from prune_jax.trainability.singular_values import coarsest


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


class Jacobian(NamedTuple):
    """The Jacobians (K, D) of the examples of a batch, as maps between flat vectors.

    push: (..., batch, D) -> (..., batch, K), J v for every example. pull: (..., batch, K) -> (..., batch, D), Jᵀ u.
    ``there`` and ``back`` are the two seen from the smaller side, r = min(K, D): back(there(u)) is the Gram operator,
    J Jᵀ u for K <= D. All give at least float32, whatever the network computes in: ``network_dtype`` is the coarsest
    format. ``step``: vectors that go through together, so that they fit.
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


def jacobian_of(apply: Apply, x: jax.Array, *, check: bool = True) -> Jacobian:
    """The Jacobians of ``apply`` at the examples of ``x``, after one forward pass.

    Raises ValueError for bad input as ``jacobians`` does, and where memory doesn't take one vector for each example.
    """
    checks.check_images(x)
    if check:
        checks.check_independent(apply, x)
    x, network = jnp.asarray(x), passes.passes(apply)
    like = network.logits(x)
    checks.check_logits(like, len(x))
    pull_back = network.forward(x, None, narrow=False).pull_back
    step = memory.vectors_at_once(product_need(network, pull_back, x, like))
    (batch, outputs), inputs = like.shape, x.size // len(x)
    dtype = jnp.promote_types(jnp.promote_types(like.dtype, x.dtype), jnp.float32)
    like = jax.ShapeDtypeStruct(like.shape, like.dtype)

    def push(v: jax.Array) -> jax.Array:
        tangents = v.reshape(-1, *x.shape).astype(x.dtype)
        pieces = passes.chunks(len(tangents), step)
        found = [network.push(pull_back, tangents[start : start + n], like=like) for start, n in pieces]
        return jnp.concatenate(found).reshape(*v.shape[:-1], outputs).astype(dtype)

    def pull(u: jax.Array) -> jax.Array:
        seeds = u.reshape(-1, *like.shape).astype(like.dtype)
        found = passes.pulled(network, passes.Forward(pull_back, seeds, None), step, None)
        return jnp.concatenate(found).reshape(*u.shape[:-1], inputs).astype(dtype)

    computed = coarsest([x, like, *jax.tree.leaves(pull_back)])
    return Jacobian(push, pull, batch, outputs, inputs, dtype, computed, step)


def product_need(network: passes.Passes, pull_back: Any, x: jax.Array, like: Any) -> memory.Need:
    """The memory that products with one vector for each example take, over what the forward pass left."""
    held, out = jax.eval_shape(lambda: (pull_back, jnp.zeros(like.shape, like.dtype)))
    tangents, cotangents = (jax.ShapeDtypeStruct((1, *a.shape), a.dtype) for a in (x, like))
    both = [
        memory.live(network.push.trace(held, tangents, like=out), [-1]),
        memory.live(network.pull.trace(held, cotangents, 0, step=1, batch=None), [-2]),
    ]
    fixed = memory.size_of(jax.tree.leaves(held)) + max(kept for kept, _ in both)
    return memory.Need(fixed, max(moving for _, moving in both), 0, len(x))


def check_budget(budget: int | None, minimum: int, why: str) -> int:
    """The budget in Jacobian products. ValueError where it is no whole number or under ``minimum``."""
    budget = checks.check_whole("budget", budget, " of pull-backs")
    if budget < minimum:
        raise ValueError(f"budget {budget} is under the minimum of {minimum} pull-backs: {why}")
    return budget


def mean_squared_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """Mean of s² over the r = min(K, D) singular values of each example, estimated without bias.

    ``budget`` random sign vectors z are pulled back (pushed forward where D < K). ‖Jᵀz‖²/r has that mean.

    Args:
        apply, x, check: as for ``jacobians``.
        budget: probes for each example, two at least.
        key: of the signs.

    Returns:
        An ``Estimate`` of ``(batch,)``, float64 on the host, so that no square leaves its range.
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
    pieces = [probes[start : start + n] for start, n in passes.chunks(budget, jacobian.step)]
    found = [scaled_squares([jacobian.there(piece)], (-1,)) for piece in pieces]
    squares, scales = (jnp.concatenate(part) for part in zip(*found, strict=True))
    value, error = mean_of_scaled(squares / jacobian.small, scales)
    checks.check_measured(value, apply, "mean squared singular value")
    return Estimate(value, error, budget)


def over_examples(estimate: Estimate) -> Estimate:
    """Mean over the examples of a batch, with the standard error of an n-sample of examples.

    The spread of the per-example values holds both the differences between examples and the probes' noise, so that one
    error covers the two.

    Args:
        estimate: per example, ``(n, ...)``.

    Returns:
        An ``Estimate`` of means, its cost over all examples.

    Raises:
        ValueError: for fewer than two examples.

    Example:
        >>> found = over_examples(Estimate(jnp.array([1.0, 3.0]), jnp.zeros(2), 10))
        >>> float(found.value), float(found.error), found.pull_backs
        (2.0, 1.0, 20)
    """
    examples = estimate.value.shape[0]
    if examples < 2:
        raise ValueError("over_examples needs two examples: one has no spread to take an error from")
    error = jnp.std(estimate.value, 0, ddof=1) / examples**0.5
    return Estimate(jnp.mean(estimate.value, 0), error, estimate.pull_backs * examples)


@functools.partial(jax.jit, static_argnames="axes")
def scaled_squares(arrays: Sequence[jax.Array], axes: tuple[int, ...] | None) -> tuple[jax.Array, jax.Array]:
    """``(squares, scale)`` with ``squares * scale**2`` the sum of the arrays' squares over ``axes``."""
    largest = [jnp.max(jnp.abs(array), axes, keepdims=True, initial=0.0) for array in arrays]
    scale = functools.reduce(jnp.maximum, [jnp.max(found, axes) for found in largest])
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))  # it cancels
    by = scale if axes is None else jnp.expand_dims(scale, axes)
    return sum((jnp.sum(jnp.square(a / by), axes) for a in arrays), start=jnp.zeros(())), scale


def mean_of_scaled(squares: jax.Array, scales: jax.Array) -> tuple[Any, Any]:
    """Mean over axis 0 of ``squares * scales**2`` and its standard error, NumPy float64 where no trace hides them."""
    *found, top = _mean_and_error(squares, scales)
    if any(isinstance(array, jax.core.Tracer) for array in (*found, top)):
        return found[0] * top * top, found[1] * top * top
    mean, error, wide = (np.asarray(array, np.float64) for array in (*found, top))
    return mean * wide**2, error * wide**2


@jax.jit
def _mean_and_error(squares: jax.Array, scales: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean and standard error over axis 0, in units of the largest scale, squared, which comes third."""
    top = jnp.max(scales, 0, keepdims=True)
    samples = squares * jnp.square(scales / top)
    return jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) / len(samples) ** 0.5, top[0]
