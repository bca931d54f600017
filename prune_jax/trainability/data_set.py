"""A network and the examples of a data set, measured a batch at a time."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from prune_jax.trainability.checks import (
    broken_examples,
    check_images,
    check_independent,
    check_logits,
    check_network,
    check_whole,
    known_broken,
)
from prune_jax.trainability.jacobian import reduced
from prune_jax.trainability.operators import (
    Apply,
    Jacobian,
    Kernels,
    compiled_parts,
    jacobian_of,
)
from prune_jax.trainability.passes import Passes, passes, whole
from prune_jax.trainability.singular_values import singular_values

# The outputs' tangent space that all examples share: its leading directions, and often far fewer than K.
#
# Logits come out of a last linear layer, so every Jacobian is J = W F with the same W (K, features): of rank
# ``features`` at most, 64 for ResNet-56 whatever K. Within the column space of W the spectrum without its zeros
# takes ``features`` pull-backs where it took K, and random probes meet no null space. And a trained network's
# Jacobians share their leading directions as well.


def push_random(jacobian: Jacobian, key: jax.Array) -> jax.Array:
    """One random tangent of every example pushed forward: (batch, K), one product for each example."""
    tangents = jax.random.normal(key, (1, jacobian.batch, jacobian.inputs), jacobian.dtype)
    return jacobian.push(tangents)[0]


def output_directions(samples: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Orthonormal output directions (K, K) and the weights, descending, of the first min(K, m).

    ``samples`` (m, K) are pushed forward at random: their second moment is the mean of J Jᵀ over the examples,
    and its eigenvectors are the directions. The outputs' rank is the number of weights that stand out from
    rounding, if that is fewer than there are samples.
    """
    directions, weights, _ = jnp.linalg.svd(samples.T, full_matrices=True)
    return directions, weights


def within(apply: Apply, directions: jax.Array) -> Partial:
    """``apply`` with its outputs taken along orthonormal ``directions`` (K, m): (batch, m).

    Its Jacobians have the singular values of ``apply``'s without zeros, where the directions span all outputs
    that move.
    """
    inner = apply if isinstance(apply, Partial) else Partial(lambda x: apply(x))
    return Partial(_within, inner, directions)


def _within(apply: Partial, directions: jax.Array, x: jax.Array) -> jax.Array:
    logits = apply(x)
    return jnp.matmul(logits, directions.astype(logits.dtype), precision=jax.lax.Precision.HIGHEST)


_BYTES = 2**28


class Measured(NamedTuple):
    """``apply`` at the examples of ``x``; means go over ``values`` singular values of each.

    ``network`` has exact Jacobians, ``kernels`` single products; ``plain``: compiled for this function alone.
    """

    apply: Partial
    kernels: Kernels
    network: Passes
    plain: bool
    x: jax.Array
    batch: int
    outputs: int
    inputs: int
    values: int


def measured(apply: Apply, x: jax.Array, batch: int, check: bool) -> Measured:
    """The two together, checked.

    Raises ValueError as ``jacobian_of``, for a ``batch`` under 1, and, before any work, for weights of a
    ``Partial`` and examples that hold NaN or infinity, by name and number.
    """
    check_images(x)
    if check:
        check_independent(apply, x)
    x = jnp.asarray(x)
    if check_whole("batch", batch, " of examples") < 1:
        raise ValueError(f"batch is {batch}; at least one example goes through the network at a time")
    logits = jax.eval_shape(apply, x)
    check_logits(logits, len(x))
    check_network(apply)
    _check_values(x)
    part, kernels = compiled_parts(apply)
    outputs, inputs = logits.shape[1], x[0].size
    plain = not isinstance(apply, Partial)
    return Measured(
        part,
        kernels,
        _passes(part, plain),
        plain,
        x,
        min(int(batch), x.shape[0]),
        outputs,
        inputs,
        min(outputs, inputs),
    )


def jacobian_at(data: Measured, rows: jax.Array) -> Jacobian:
    """The Jacobians of the examples at indices ``rows``."""
    return jacobian_of(data.apply, data.x[rows], data.kernels, check=False)


def batches(data: Measured, rows: jax.Array, size: int | None = None) -> Iterator[jax.Array]:
    """``rows`` in pieces of at most ``size`` (default: the data's batch)."""
    step = size or data.batch
    for start in range(0, rows.shape[0], step):
        yield rows[start : start + step]


def samples_of(data: Measured, based_on: int, pushes: Sequence[int], key: jax.Array) -> jax.Array:
    """Tangents number ``pushes`` of ``based_on`` random examples pushed forward: (examples * pushes, K)."""
    rows = jax.random.permutation(key, data.x.shape[0])[:based_on]
    jacobian = jacobian_at(data, rows)
    samples = [push_random(jacobian, jax.random.fold_in(key, push)) for push in pushes]
    for sample in samples:
        refuse_not_finite(sample, rows)
    return jnp.concatenate(samples)


def along(data: Measured, samples: jax.Array, rank: int | None) -> Measured:
    """The data with its outputs along the directions that ``samples`` show, the first ``rank`` of them."""
    directions = output_directions(samples)[0][:, : rank or data.outputs]
    apply = within(data.apply, directions)
    return data._replace(apply=apply, network=_passes(apply, data.plain), outputs=directions.shape[1])


def leading_rows(data: Measured, rows: jax.Array, count: int) -> jax.Array:
    """The first ``count`` rows of the Jacobians, (count, batch, D), or columns where D < K; as many products."""
    if data.outputs > data.inputs:
        found = jnp.moveaxis(_columns(jacobian_at(data, rows), count), 1, 0)
    else:
        x, seeds = data.x[rows], _seeds(data, count)
        found = reduced(data.network, x, seeds, _examples_first, narrow=False)
    refuse_not_finite(found, rows)
    return jnp.moveaxis(found, 0, 1)


def means(data: Measured, rows: jax.Array, counts: Sequence[int]) -> list[jax.Array]:
    """Sum of the singular values along the first ``count`` outputs over ``values``, for each count: (rows,).

    Takes the largest count's products for each example, or fewer where a last linear map tells the rest.
    """
    most = max(counts)
    if data.outputs > data.inputs:
        size = max(1, min(data.batch, _BYTES // (4 * most * data.outputs)))
        found = [
            _sums([_columns(jacobian_at(data, piece), most)], None, tuple(counts))
            for piece in batches(data, rows, size)
        ]
    else:
        finish = partial(_sums, counts=tuple(counts))
        seeds, narrow = _seeds(data, most), len(counts) == 1
        found = [
            reduced(data.network, data.x[piece], seeds, finish, narrow=narrow)
            for piece in batches(data, rows)
        ]
    sums = jnp.concatenate(found)
    refuse_not_finite(sums, rows)
    return list(sums.T / data.values)


def refuse_not_finite(found: jax.Array, rows: jax.Array) -> None:
    """ValueError where what was ``found`` ``(n, ...)`` of the examples ``rows`` isn't finite; tracers are passed over.

    The weights of a ``Partial`` were looked at before; a plain function's are hidden, and a product may overflow.
    """
    if known_broken(found):
        measured_rows = np.asarray(rows)
        wrong = np.unique(measured_rows[broken_examples(found)])
        raise ValueError(
            f"the Jacobian of {len(wrong)} of the {len(np.unique(measured_rows))} examples measured is not finite, "
            f"first that of example {wrong[0]}: check the weights with check_finite(params), and the images"
        )


def _columns(jacobian: Jacobian, count: int) -> jax.Array:
    units = jnp.eye(jacobian.small, dtype=jacobian.dtype)[:count, None]
    return jacobian.there(jnp.broadcast_to(units, (count, jacobian.batch, jacobian.small)))


def _seeds(data: Measured, count: int) -> np.ndarray:
    return np.eye(data.outputs, dtype=data.network.logits(data.x[:1]).dtype)[:count]


def _passes(apply: Partial, plain: bool) -> Passes:
    return passes((lambda v: apply(v)) if plain else apply)


@partial(jax.jit, static_argnames="counts")
def _sums(parts: list[jax.Array], entry: jax.Array | None, counts: tuple[int, ...]) -> jax.Array:
    """Sums of singular values, (batch, counts)."""
    jacobian = whole(parts, entry)
    return jnp.stack([jnp.sum(singular_values(jacobian[:count]), -1) for count in counts], 1)


@jax.jit
def _examples_first(parts: list[jax.Array], entry: jax.Array | None) -> jax.Array:
    return jnp.moveaxis(whole(parts, entry), 0, 1)


def _check_values(x: jax.Array) -> None:
    if known_broken(x):
        broken = broken_examples(x)
        raise ValueError(
            f"{len(broken)} of {len(x)} examples of x hold NaN or infinity, first example {broken[0]}: "
            "leave them out, or check how they were normalised"
        )
