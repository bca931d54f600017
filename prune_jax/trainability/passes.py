"""One forward pass and many backward ones, as compiled pieces.

The pull-backs run from a Python loop over one compiled program, never inside ``lax.map`` or ``scan``: there
XLA:CPU computes the gradient of a convolution about 19 times slower.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from prune_jax.trainability import cpu, linear_ends, memory
from prune_jax.trainability.singular_values import Method, singular_values

Apply = Callable[[jax.Array], jax.Array]
# Of the chunks' gradients, (seeds, batch, ...) each, and ``entry``, to (batch, ...): a jitted function, or a
# ``partial`` of one with its static arguments.
Finish = Callable[[list[jax.Array], jax.Array | None], jax.Array]
Rows = Any  # an array (c, K), or a pair of it and a matrix, see ``Passes``


class Forward(NamedTuple):
    """What a forward pass leaves for the backward ones.

    pull_back: a pytree of what they need. seeds ``(c, ...)``: the cotangents whose pull-backs are wanted, rows
    of the logits or of what the last linear map leaves of them. entry: a triangular factor of the first linear
    map, None where gradients are pulled back to the input itself. See ``linear_ends``.
    """

    pull_back: Any
    seeds: jax.Array
    entry: jax.Array | None


class Shapes(NamedTuple):
    """Shapes and dtypes alone: of ``Forward``, and of what gradients are pulled back to, ``(batch, ...)``.

    ``need``: the memory that measuring them takes.
    """

    made: Forward
    entered: Any
    need: memory.Need


class Passes(NamedTuple):
    """The compiled pieces of one network; arguments by keyword are static.

    logits(x) -> abstract logits, without any work.
    forward(x, rows, narrow=) -> ``Forward``; ``rows`` (c, K) are combinations of outputs. ``narrow`` leaves out
    the linear maps at the ends: the Jacobians are others then, with the same singular values. A pair of ``rows``
    and a matrix asks for that matrix's combinations of the seeds that the rows alone would have.
    pull(pull_back, seeds, start, step=, batch=) -> (step, batch, ...): every example's gradients of the seeds
    from ``start``.
    values(x, rows, method=) -> singular values from one program, where one chunk holds all seeds.
    """

    logits: Callable[[jax.Array], Any]
    forward: Callable[..., Forward]
    pull: Callable[..., jax.Array]
    values: Callable[..., jax.Array]


def passes(apply: Apply) -> Passes:
    """Forward and backward pass of ``apply``; a ``jax.tree_util.Partial`` shares its compiled programs.

    Of ``Partial(f, variables)`` the variables are arguments of the programs, so that new weights compile
    nothing. Any other function is compiled anew by each call of ``passes``, its weights being constants.
    Matrix products run at the highest precision unless ``apply`` sets its own: where a device rounds to
    TF32 or bfloat16 by default, that noise would pass for singular values.
    """
    if isinstance(apply, jax.tree_util.Partial):
        given = functools.partial
        return Passes(given(_logits.eval_shape, apply), given(_forward, apply), _pull, given(_values, apply))
    forward = jax.jit(lambda x, rows, narrow: _begin(apply, x, rows, narrow), static_argnames="narrow")
    values = jax.jit(lambda x, rows, method: _at_once(apply, x, rows, method), static_argnames="method")
    return Passes(jax.jit(apply).eval_shape, forward, jax.jit(_pulled, static_argnames=_STATIC), values)


def seeds_of(network: Passes, x: Any, rows: Rows) -> Any:
    """The seeds that ``rows`` come down to behind the linear ends: as many pull-backs as exact spectra take."""
    target, given = cpu.bare(network.forward)
    return jax.eval_shape(functools.partial(target, narrow=True), *given, x, rows).seeds


def abstract(network: Passes, x: Any, rows: Any, *, narrow: bool) -> Shapes:
    """What a pass over a batch such as ``x`` will give, and the memory that it takes, without any work."""
    target, given = cpu.bare(network.forward)
    forward = target.trace(*given, x, rows, narrow=narrow)
    made = forward.out_info
    pull = network.pull.trace(made.pull_back, made.seeds, 0, step=1, batch=len(x))  # type: ignore[attr-defined]
    row, held = pull.out_info, memory.size_of(jax.tree.leaves(made.pull_back))
    gradients, width = memory.size_of([row]), max(row.dtype.itemsize, 4)
    jacobian, (copies, at_once) = len(made.seeds) * row.size * width, memory.live(pull, [-2])
    need = memory.Need(
        fixed=held + copies + jacobian,
        per_cotangent=max(1, at_once - gradients),  # which ``jacobian`` holds
        activation=width * _growing(target, given, x, rows, narrow, made),
        batch=len(x),
        least=max(sum(memory.live(forward, [-2])), held + memory.COPIES * jacobian),
    )
    return Shapes(made, jax.ShapeDtypeStruct(row.shape[1:], row.dtype), need)


def _growing(target: Any, given: Any, x: Any, rows: Any, narrow: bool, made: Forward) -> int:
    """Values of the largest array of ``made.pull_back`` that grows with the batch, folded into its axis or not."""
    leaves = jax.tree.leaves(made.pull_back)
    held = largest(leaves, len(x))
    if largest(leaves, len(x), folded=True) > held:  # weights, or is it folded? Another batch size tells
        other = jax.ShapeDtypeStruct((len(x) + 1, *x.shape[1:]), x.dtype)
        # A network that holds values of this one batch, as a part of a module does, raises whatever it likes.
        try:
            more = target.eval_shape(*given, other, rows, narrow=narrow).pull_back
        except Exception:
            more = made.pull_back
        pairs = zip(leaves, jax.tree.leaves(more), strict=False)
        held = max([leaf.size for leaf, then in pairs if leaf.shape != then.shape], default=held)
    return held


def largest(leaves: Iterable[Any], batch: int, *, folded: bool = False) -> int:
    """Values of the largest array whose leading axis is the batch, or if ``folded`` a multiple of it; at least 1."""
    leading = [leaf for leaf in leaves if leaf.shape]
    sizes = [
        leaf.size for leaf in leading if leaf.shape[0] == batch or (folded and leaf.shape[0] % batch == 0)
    ]
    return max(sizes, default=1)


def chunks(seeds: int, step: int) -> list[tuple[int, int]]:
    """Where each chunk of at most ``step`` seeds starts, and how many it holds."""
    return [(start, min(step, seeds - start)) for start in range(0, seeds, step)]


def _begin(apply: Apply, x: jax.Array, rows: Rows, narrow: bool) -> Forward:
    rows, mix = rows if isinstance(rows, tuple) else (rows, None)
    with jax.default_matmul_precision("highest"):
        if not narrow:
            return Forward(jax.vjp(apply, x)[1], rows, None)
        ends = linear_ends.split(apply, x, len(rows))
        pull_back = jax.vjp(ends.core, ends.entered)[1]
        seeds = rows if ends.last is None else _triangle(jnp.matmul(rows, ends.last.T))
        seeds = seeds if mix is None else jnp.matmul(mix.astype(seeds.dtype), seeds)
        return Forward(pull_back, seeds, None if ends.first is None else _triangle(ends.first))


@jax.custom_jvp
def _triangle(tall: jax.Array) -> jax.Array:
    """R (n, n) of ``tall`` = Q R, (m, n): what is multiplied by either gets the same singular values.

    So any dR with the right d(RᵀR) will do for derivatives. Qᵀ dW is one, and finite where R has no inverse.
    """
    return jnp.linalg.qr(tall, mode="r")


@_triangle.defjvp
def _triangle_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    q, r = jnp.linalg.qr(primals[0])
    return r, jnp.matmul(q.T, tangents[0], precision=jax.lax.Precision.HIGHEST)


def _pulled(pull_back: Any, seeds: jax.Array, start: Any, step: int, batch: int) -> jax.Array:
    chosen = jax.lax.dynamic_slice_in_dim(seeds, start, step)
    cotangents = jnp.broadcast_to(chosen[:, None], (step, batch, *seeds.shape[1:]))
    return jax.vmap(pull_back)(cotangents)[0]


def _solved(parts: list[jax.Array], entry: jax.Array | None, count: int, method: Method) -> jax.Array:
    """``count`` singular values of each example. Those that the linear ends rule out are 0."""
    found = singular_values(whole(parts, entry), method)
    return jnp.pad(found, ((0, 0), (0, count - found.shape[1])))


def whole(parts: list[jax.Array], entry: jax.Array | None) -> jax.Array:
    """The Jacobians of a batch from their chunks, ``(seeds, batch, D)``; fewer columns behind an ``entry``."""
    jacobian = jnp.concatenate(parts).reshape(-1, *parts[0].shape[1:2], parts[0][0, 0].size)
    if entry is None:
        return jacobian
    return jnp.einsum("kbf,gf->kbg", jacobian, entry, precision=jax.lax.Precision.HIGHEST)


def _at_once(apply: Apply, x: jax.Array, rows: jax.Array, method: Method) -> jax.Array:
    made = _begin(apply, x, rows, narrow=True)
    pulled = _pulled(made.pull_back, made.seeds, 0, len(made.seeds), len(x))
    return _solved([pulled], made.entry, min(len(rows), x[0].size), method)


_STATIC = ("step", "batch")
_logits = jax.jit(lambda apply, x: apply(x))  # for its shapes: JAX remembers what it traced
_forward = jax.jit(_begin, static_argnames="narrow")
_pull = jax.jit(_pulled, static_argnames=_STATIC)
_values = jax.jit(_at_once, static_argnames="method")
solve = jax.jit(_solved, static_argnames=("count", "method"))
