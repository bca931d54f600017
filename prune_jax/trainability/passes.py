"""One pull-back engine: a network is linearised once, then pulled back and pushed forward, by compiled pieces.

The pieces are called from Python, never inside ``lax.map`` or ``scan``: there XLA:CPU computes the gradient of a
convolution about 19 times slower.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.trainability import checks, cpu, linear_ends, memory
from prune_jax.trainability.singular_values import Method, singular_values

Apply = Callable[[jax.Array], jax.Array]
# Of the chunks' gradients, (seeds, batch, ...) each, and ``entry``, to (batch, ...): a jitted function, or a
# ``partial`` of one with its static arguments.
Finish = Callable[[list[jax.Array], jax.Array | None], jax.Array]
Rows = Any  # an array (c, K), or a pair of it and a matrix, see ``Passes``


class Forward(NamedTuple):
    """What a forward pass leaves for the backward ones.

    pull_back: a pytree of what they need. seeds ``(c, ...)``: the cotangents to pull back, rows of the logits or of
    what the last linear map leaves of them. entry: a triangular factor of the first linear map, None where gradients
    go to the input itself. See ``linear_ends``.
    """

    pull_back: Any
    seeds: jax.Array
    entry: jax.Array | None


class Shapes(NamedTuple):
    """Of ``Forward``, and of what is pulled back to, ``(batch, ...)``. ``need``: the memory that measuring takes."""

    made: Forward
    entered: Any
    need: memory.Need


class Passes(NamedTuple):
    """The compiled pieces of one network. Arguments by keyword are static.

    logits(x) -> abstract logits, without any work.
    forward(x, rows, narrow=) -> ``Forward``. ``rows`` (c, K) are combinations of outputs. ``narrow`` leaves out the
    linear maps at the ends: other Jacobians with the same singular values. A pair of ``rows`` and a matrix asks for
    that matrix's combinations of the seeds that the rows alone would have.
    pull(pull_back, seeds, start, step=, batch=) -> (step, batch, ...): gradients of the seeds from ``start``. They are
    the same for all examples, or with ``batch=None`` (c, batch, ...), one for each.
    push(pull_back, tangents, like=) -> (n, ...) outputs ``like`` those of the network, of (n, ...) tangents.
    values(x, rows, method=) -> singular values from one program, where one chunk holds all seeds.
    """

    logits: Callable[[jax.Array], Any]
    forward: Callable[..., Forward]
    pull: Any
    push: Any
    values: Callable[..., jax.Array]


def passes(apply: Apply) -> Passes:
    """The pieces of ``apply``. Those of a ``Partial`` take what it binds, so that new weights compile nothing.

    Nothing tells whether what another function closes over has changed: it is compiled anew by each call. Matrix
    products run at the highest precision unless ``apply`` sets its own: where a device rounds to TF32 or bfloat16
    by default, that noise would pass for singular values.
    """
    if isinstance(apply, jax.tree_util.Partial):
        logits, begun, at_once = (
            functools.partial(f, apply) for f in (_logits.eval_shape, _forward, _values)
        )
        return Passes(logits, begun, _pull, _push, at_once)
    forward = jax.jit(lambda x, rows, narrow: _begin(apply, x, rows, narrow), static_argnames="narrow")
    values = jax.jit(lambda x, rows, method: _at_once(apply, x, rows, method), static_argnames="method")
    return Passes(jax.jit(lambda x: apply(x)).eval_shape, forward, _pull, _push, values)


def wanted(network: Passes, x: jax.Array, outputs: Sequence[int] | None) -> np.ndarray:
    """The rows of the identity, ``(c, K)``, that pick the ``outputs``. ValueError for bad input."""
    checks.check_images(x)
    logits = network.logits(x)
    checks.check_logits(logits, len(x))
    chosen = checks.chosen_outputs(outputs, logits.shape[1])
    return np.eye(logits.shape[1], dtype=logits.dtype)[chosen]


def seeds_of(network: Passes, x: Any, rows: Rows) -> Any:
    """The seeds that ``rows`` come down to behind the linear ends: as many pull-backs as exact spectra take."""
    target, given = cpu.bare(network.forward)
    return jax.eval_shape(functools.partial(target, narrow=True), *given, x, rows).seeds


def abstract(network: Passes, x: Any, rows: Any, *, narrow: bool) -> Shapes:
    """What a pass over a batch such as ``x`` will give, and the memory that it takes, without any work."""
    target, given = cpu.bare(network.forward)
    forward = target.trace(*given, x, rows, narrow=narrow)
    made = forward.out_info
    pull = network.pull.trace(made.pull_back, made.seeds, 0, step=1, batch=len(x))
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


def plan(shapes: Shapes, chunk: int | None, available: int | None, threads: int = 1) -> int:
    """How many seeds to pull back at once, where ``threads`` do so side by side. May raise ValueError."""
    if chunk is not None and checks.check_whole("chunk", chunk, " of cotangents") < 1:
        raise ValueError(f"chunk is {chunk}; at least one cotangent is pulled back at once")
    seeds, cost = len(shapes.made.seeds), shapes.need
    little = cost.of(seeds) <= memory.LITTLE and seeds * cost.activation <= memory.CACHED
    if chunk is None and available is None and little:
        return seeds
    room = memory.available() if available is None else available
    cached = not isinstance(jnp.zeros(()), jax.core.Tracer)  # inside jit, a constant is a tracer too
    return memory.fitting_chunk(chunk, seeds, cost, room // threads, cached)


def reduced(
    network: Passes,
    x: jax.Array,
    rows: Rows,
    finish: Finish,
    *,
    chunk: int | None = None,
    available: int | None = None,
    at_once: Callable[[], jax.Array] | None = None,
) -> jax.Array:
    """What ``finish`` makes of the Jacobians of ``rows``, ``(batch, ...)``, of parts side by side where that pays.

    The linear ends are left out, see ``Passes``. ``at_once``: one program for the same, where one chunk holds all.
    """
    shapes = abstract(network, x, rows, narrow=True)
    size, threads = cpu.share(x, shapes)
    if size < len(x):
        part = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
        shapes = abstract(network, part, rows, narrow=True)
    step = plan(shapes, chunk, available, threads)
    if size < len(x):
        return cpu.reduced(network, x, rows, shapes, chunks(len(shapes.made.seeds), step), finish)
    columns = len(shapes.made.seeds), 0 if shapes.made.entry is None else len(shapes.made.entry)
    if at_once is not None and step == len(shapes.made.seeds):
        return cpu.alone(at_once, *columns)
    made = network.forward(x, rows, narrow=True)
    gradients = pulled(network, made, step, len(x))
    return cpu.alone(lambda: finish(gradients, made.entry), *columns)


def chunks(seeds: int, step: int) -> list[tuple[int, int]]:
    """Where each chunk of at most ``step`` seeds starts, and how many it holds."""
    return [(start, min(step, seeds - start)) for start in range(0, seeds, step)]


def pulled(network: Passes, made: Forward, step: int, batch: int | None) -> list[Any]:
    """The gradients of all seeds in chunks of ``step``, ``(step, batch, ...)`` each."""
    pieces = chunks(len(made.seeds), step)
    return [network.pull(made.pull_back, made.seeds, start, step=n, batch=batch) for start, n in pieces]


def whole(parts: list[jax.Array], entry: jax.Array | None) -> jax.Array:
    """The Jacobians of a batch from their chunks, ``(seeds, batch, D)``. Behind an ``entry`` D is smaller."""
    jacobian = jnp.concatenate(parts).reshape(-1, *parts[0].shape[1:2], parts[0][0, 0].size)
    if entry is None:
        return jacobian
    return jnp.einsum("kbf,gf->kbg", jacobian, entry, precision=jax.lax.Precision.HIGHEST)


def _growing(target: Any, given: Any, x: Any, rows: Any, narrow: bool, made: Forward) -> int:
    """Values of the largest array of ``made.pull_back`` that grows with the batch, folded into its axis or not."""
    leaves = jax.tree.leaves(made.pull_back)
    led = [leaf for leaf in leaves if leaf.shape]
    held = max([leaf.size for leaf in led if leaf.shape[0] == len(x)], default=1)
    # Larger with a multiple of the batch in front: weights, or is it folded? Another batch size tells.
    if any(leaf.size > held for leaf in led if leaf.shape[0] % len(x) == 0):
        other = jax.ShapeDtypeStruct((len(x) + 1, *x.shape[1:]), x.dtype)
        # A network that holds values of this one batch, as a part of a module does, raises whatever it likes.
        try:
            more = target.eval_shape(*given, other, rows, narrow=narrow).pull_back
        except Exception:
            more = made.pull_back
        pairs = zip(leaves, jax.tree.leaves(more), strict=False)
        held = max([leaf.size for leaf, then in pairs if leaf.shape != then.shape], default=held)
    return held


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


def _pulled(pull_back: Any, seeds: jax.Array, start: Any, step: int, batch: int | None) -> Any:
    chosen = jax.lax.dynamic_slice_in_dim(seeds, start, step)
    if batch is not None:
        chosen = jnp.broadcast_to(chosen[:, None], (step, batch, *seeds.shape[1:]))
    return jax.vmap(pull_back)(chosen)[0]


def _pushed(pull_back: Any, tangents: Any, like: jax.ShapeDtypeStruct) -> jax.Array:
    push = jax.linear_transpose(lambda cotangents: pull_back(cotangents)[0], like)
    return jax.vmap(push)(tangents)[0]


def _solved(parts: list[jax.Array], entry: jax.Array | None, count: int, method: Method) -> jax.Array:
    """``count`` singular values of each example. Those that the linear ends rule out are 0."""
    found = singular_values(whole(parts, entry), method)
    return jnp.pad(found, ((0, 0), (0, count - found.shape[1])))


def _at_once(apply: Apply, x: jax.Array, rows: jax.Array, method: Method) -> jax.Array:
    made = _begin(apply, x, rows, narrow=True)
    gradients = _pulled(made.pull_back, made.seeds, 0, len(made.seeds), len(x))
    return _solved([gradients], made.entry, min(len(rows), x[0].size), method)


_logits = jax.jit(lambda apply, x: apply(x))  # for its shapes: JAX remembers what it traced
_forward = jax.jit(_begin, static_argnames="narrow")
_pull = jax.jit(_pulled, static_argnames=("step", "batch"))
_push = jax.jit(_pushed, static_argnames="like")
_values = jax.jit(_at_once, static_argnames="method")
solve = jax.jit(_solved, static_argnames=("count", "method"))
