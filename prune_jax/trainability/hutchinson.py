"""Mean squared Jacobian singular value from pull-backs of random cotangents alone."""

import jax
import jax.numpy as jnp

from prune_jax.trainability.operators import Apply, Estimate, check_budget, jacobian_of
from prune_jax.trainability.weights import check_measured


def mean_squared_jsv(
    apply: Apply, x: jax.Array, *, budget: int, key: jax.Array, check: bool = True
) -> Estimate:
    """Mean of s² over the r = min(K, D) singular values of each example: (batch,), with standard errors.

    Unbiased: ``budget`` random sign vectors z are pulled back (pushed forward where D < K), and ‖Jᵀz‖²/r has
    that mean (Hutchinson 1990). The error is the standard error over the probes; with few of them it is
    itself rough (Student t with ``budget`` - 1 degrees of freedom). ``apply`` as for ``jacobian_of``.
    Raises ValueError for bad input, a budget under 2, and, outside a ``jit``, weights or values that aren't finite.
    """
    budget = check_budget(budget, 2, "an error bar needs two probes, of one pull-back each")
    jacobian = jacobian_of(apply, x, check=check)
    probes = jax.random.rademacher(key, (budget, jacobian.batch, jacobian.small), jacobian.dtype)
    # as many at once as memory takes: what comes back is as large as the input, and only its norm is kept
    pieces = [probes[start : start + jacobian.step] for start in range(0, budget, jacobian.step)]
    squares = jnp.concatenate([jnp.sum(jacobian.there(piece) ** 2, -1) for piece in pieces]) / jacobian.small
    check_measured(jnp.mean(squares, 0), apply, "mean squared singular value")
    return Estimate(jnp.mean(squares, 0), jnp.std(squares, 0, ddof=1) / budget**0.5, budget)
