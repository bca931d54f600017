"""A network and the examples of a data set, measured a batch at a time."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from prune_jax.trainability.inputs import check_images, check_logits
from prune_jax.trainability.jacobian import reduced
from prune_jax.trainability.operators import (
    Apply,
    Jacobian,
    Kernels,
    compiled_parts,
    jacobian_of,
)
from prune_jax.trainability.output_space import output_directions, push_random, within
from prune_jax.trainability.passes import Passes, passes, whole
from prune_jax.trainability.singular_values import singular_values
from prune_jax.trainability.weights import check_weights

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


def measured(apply: Apply, x: jax.Array, batch: int) -> Measured:
    """The two together, checked.

    Raises ValueError as ``jacobian_of``, for a ``batch`` under 1, and for arrays of a ``Partial`` that hold NaN
    or infinity, by name.
    """
    x = jnp.asarray(x)
    check_images(x)
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least one example goes through the network at a time")
    logits = jax.eval_shape(apply, x)
    check_logits(logits, len(x))
    if isinstance(apply, Partial):
        _check_arrays(apply)
    part, kernels = compiled_parts(apply)
    outputs, inputs = logits.shape[1], x[0].size
    plain = not isinstance(apply, Partial)
    return Measured(
        part,
        kernels,
        _passes(part, plain),
        plain,
        x,
        min(batch, x.shape[0]),
        outputs,
        inputs,
        min(outputs, inputs),
    )


def jacobian_at(data: Measured, rows: jax.Array) -> Jacobian:
    """The Jacobians of the examples at indices ``rows``."""
    return jacobian_of(data.apply, data.x[rows], data.kernels)


def batches(data: Measured, rows: jax.Array, size: int | None = None) -> Iterator[jax.Array]:
    """``rows`` in pieces of at most ``size`` (default: the data's batch)."""
    step = size or data.batch
    for start in range(0, rows.shape[0], step):
        yield rows[start : start + step]


def samples_of(data: Measured, based_on: int, pushes: Sequence[int], key: jax.Array) -> jax.Array:
    """Tangents number ``pushes`` of ``based_on`` random examples pushed forward: (examples * pushes, K)."""
    rows = jax.random.permutation(key, data.x.shape[0])[:based_on]
    jacobian = jacobian_at(data, rows)
    return jnp.concatenate([push_random(jacobian, jax.random.fold_in(key, push)) for push in pushes])


def along(data: Measured, samples: jax.Array, rank: int | None) -> Measured:
    """The data with its outputs along the directions that ``samples`` show, the first ``rank`` of them."""
    directions = output_directions(samples)[0][:, : rank or data.outputs]
    apply = within(data.apply, directions)
    return data._replace(apply=apply, network=_passes(apply, data.plain), outputs=directions.shape[1])


def leading_rows(data: Measured, rows: jax.Array, count: int) -> jax.Array:
    """The first ``count`` rows of the Jacobians, (count, batch, D), or columns where D < K; as many products."""
    if data.outputs > data.inputs:
        return _columns(jacobian_at(data, rows), count)
    x, seeds = data.x[rows], _seeds(data, count)
    found = reduced(data.network, x, seeds, _examples_first, narrow=False)
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
    return list(jnp.concatenate(found).T / data.values)


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


def _check_arrays(apply: Partial) -> None:
    def if_floating(leaf: jax.Array) -> jax.Array | None:
        return leaf if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else None

    floating = jax.tree.map(if_floating, {"args": apply.args, "keywords": apply.keywords})
    if jax.tree.leaves(floating):
        with jax.ensure_compile_time_eval():  # arrays that jit closes over can be looked at
            check_weights(floating)
