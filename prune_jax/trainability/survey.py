"""Means over a population of examples from a sample of it, and their standard errors; knows no network.

``population`` is the number of examples that the mean is about: the n examples given, or more, of which these
are a random sample (``math.inf``: all that the distribution can give).
"""

import jax
import jax.numpy as jnp

Found = tuple[jax.Array, jax.Array]


def sample_mean(values: jax.Array, population: float) -> Found:
    """Mean and standard error of a simple random sample (n,); NaN for one of many, which has no spread.

    Cochran 1977, Sampling Techniques, 2.5: a sample of the whole population has error 0.
    """
    mean, left = jnp.mean(values), max(1 / values.shape[0] - 1 / population, 0.0)
    return mean, jnp.sqrt(_variance(values) * left) if left else jnp.zeros_like(mean)


def regression_mean(values: jax.Array, easy: jax.Array, easy_rest: jax.Array, population: float) -> Found:
    """Mean of ``values``, known for a random sample, by way of ``easy`` ones that are known for all examples.

    ``values`` and ``easy``: (n,), of the sample; ``easy_rest``: (N - n,), of the other examples. A line is
    fitted on the sample and read at the mean of all N; its bias is of order 1/n (Cochran 1977, 7.1 to 7.3).
    The error weighs each residual as the estimate does and divides it by 1 - leverage, as a jackknife does
    (HC3: MacKinnon and White 1985), since residuals grow with the Jacobian and a few examples lead the fit.
    Raises ValueError for n < 3: a line through two points leaves no residuals to judge it by.
    """
    n, examples = values.shape[0], easy.shape[0] + easy_rest.shape[0]
    if n < 3:
        raise ValueError(f"a regression on {n} examples has no error bar; it needs at least 3")
    centred = easy - jnp.mean(easy)
    spread = jnp.sum(centred**2)
    per_spread = jnp.where(spread > 0, 1 / jnp.where(spread > 0, spread, 1.0), 0.0)
    slope = jnp.sum(centred * values) * per_spread
    step = (jnp.sum(easy) + jnp.sum(easy_rest)) / examples - jnp.mean(easy)
    leverage = jnp.minimum(1 / n + centred**2 * per_spread, 1 - 1e-3)
    residuals = (values - jnp.mean(values) - slope * centred) / (1 - leverage)
    weights = 1 / n + centred * step * per_spread
    variance = max(1 - n / examples, 0.0) * jnp.sum((weights * residuals) ** 2)
    beyond = jnp.sum(residuals**2) / n + slope**2 * _variance(jnp.concatenate([easy, easy_rest]))
    variance = variance + beyond * max(1 / examples - 1 / population, 0.0)
    return jnp.mean(values) + slope * step, jnp.sqrt(variance)


def repeated_mean(measured: jax.Array, examples: int, population: float) -> Found:
    """Mean over ``examples`` that were each measured with noise, measurement j being of example j mod examples.

    The measurements' spread within an example is the noise; the rest of the spread between examples alone
    shrinks with the finite population. The error is NaN for one example of many, which has no spread.
    Raises ValueError where no example was measured twice.
    """
    if measured.shape[0] <= examples:
        raise ValueError(
            f"{measured.shape[0]} measurements of {examples} examples don't show their noise; it takes one more"
        )
    which = jnp.arange(measured.shape[0]) % examples
    times = jnp.zeros(examples, measured.dtype).at[which].add(1)
    each = jnp.zeros(examples, measured.dtype).at[which].add(measured) / times
    noise = jnp.sum((measured - each[which]) ** 2) / (measured.shape[0] - examples)
    if examples == population == 1:
        return jnp.mean(each), jnp.sqrt(noise / times[0])
    total = _variance(each)
    between = jnp.maximum(total - noise * jnp.mean(1 / times), 0.0)
    return jnp.mean(each), jnp.sqrt(jnp.maximum(total / examples - between / population, 0.0))


def _variance(values: jax.Array) -> jax.Array:
    return jnp.var(values, ddof=1) if values.shape[0] > 1 else jnp.full((), jnp.nan, values.dtype)
