"""Custom derivative rules at the small size.

A custom_jvp or custom_vjp carries a rule for the traced shapes. Its derivative is traced at those
shapes, walked with the labels of the call, and evaluated on the cut arrays, so the small network
differentiates by the author's rule too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.jaxpr.doubts import PLAIN, relevant, without_trace
from prune_jax.pruning.jaxpr.labels import Ledger
from prune_jax.pruning.jaxpr.sizes import Baked
from prune_jax.pruning.jaxpr.values import Value
from prune_jax.pruning.jaxpr.walk import Body, walk
from prune_jax.pruning.slimming.resize import bind
from prune_jax.pruning.survivors import Cut, is_cut

Run = Callable[[Body, list[Any], Cut], list[Any]]


def _is_float(value: Value) -> bool:
    return jnp.issubdtype(value.aval.dtype, jnp.inexact)


def _spec(value: Value) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.aval.shape, value.aval.dtype)


def _spread(alive: np.ndarray, ledger: Ledger) -> np.ndarray:
    """Living labels, the new ones of ``ledger`` included: dead where tied to a dead one."""
    out = np.concatenate([alive, np.ones(ledger.count - len(alive), bool)])
    while True:
        before = out.copy()
        for a, b in ledger.edges:
            both = (a >= 0) & (b >= 0)
            living = out[a[both]] & out[b[both]]
            out[a[both]], out[b[both]] = living, living
            dead = a[(a >= 0) & (b < 0)], b[(b >= 0) & (a < 0)]
            if any((~out[d]).any() for d in dead):
                raise ValueError(
                    "a custom derivative rule ties a pruned channel to an axis that can't be cut"
                )
        if (before == out).all():
            break
    if (out[: len(alive)] != alive).any():
        raise ValueError("a custom derivative rule ties channels together that the function itself doesn't")
    return out


def _settled(ledger: Ledger, alive: np.ndarray) -> dict[int, Baked]:
    """Verdicts on constants in a derivative rule that may stand for a size that is cut."""
    out = {}
    for number, doubt in enumerate(ledger.doubts):
        narrowed = relevant(doubt, lambda axis: is_cut(axis, alive))
        verdict = without_trace(narrowed) if narrowed else PLAIN
        if verdict.open:
            raise ValueError(
                f"a custom derivative rule has a constant {doubt.constant:g} that may stand for a cut size"
            )
        if verdict.baked is not None:
            out[number] = verdict.baked
    return out


def _walked(closed: Any, values: list[Value], cut: Cut) -> tuple[Body, Cut]:
    ledger = Ledger()
    ledger.count = len(cut.alive)
    body = walk(ledger, closed, [v._replace(known=None, total=None) for v in values])
    if ledger.splits:
        raise ValueError("a custom derivative rule reshapes the channels of a pruned group")
    alive = _spread(cut.alive, ledger)
    return body, Cut(alive, _settled(ledger, alive))


def small_jvp(node: Any, cut: Cut, run: Run) -> Callable:
    """The call of a custom_jvp function on cut arrays."""
    smooth = [k for k, value in enumerate(node.ins) if _is_float(value)]

    def dense_jvp(primals: list[Any], tangents: list[Any]) -> tuple[list[Any], list[Any]]:
        def at(*floats: Any) -> list[Any]:
            full = list(primals)
            for k, x in zip(smooth, floats, strict=True):
                full[k] = x
            return bind(node.eqn, full)

        return jax.jvp(at, [primals[k] for k in smooth], tangents)

    @jax.custom_jvp
    def small(*args: Any) -> list[Any]:
        return run(node.bodies[0], list(args), cut)

    @small.defjvp
    def rule(primals: tuple, tangents: tuple) -> tuple[list[Any], list[Any]]:
        specs = [_spec(v) for v in node.ins]
        closed = jax.make_jaxpr(dense_jvp)(specs, [specs[k] for k in smooth])
        body, living = _walked(closed, [*node.ins, *(node.ins[k] for k in smooth)], cut)
        out = run(body, [*primals, *(tangents[k] for k in smooth)], living)
        return out[: len(out) // 2], out[len(out) // 2 :]

    return small


def small_vjp(node: Any, cut: Cut, run: Run) -> Callable:
    """The call of a custom_vjp function on cut arrays. Its forward pass is run again backwards."""
    smooth = [k for k, value in enumerate(node.ins) if _is_float(value)]

    def dense_vjp(primals: list[Any], cotangents: list[Any]) -> tuple:
        def at(*floats: Any) -> list[Any]:
            full = list(primals)
            for k, x in zip(smooth, floats, strict=True):
                full[k] = x
            return bind(node.eqn, full)

        return jax.vjp(at, *(primals[k] for k in smooth))[1](cotangents)

    @jax.custom_vjp
    def small(*args: Any) -> list[Any]:
        return run(node.bodies[0], list(args), cut)

    def forward(*args: Any) -> tuple[list[Any], tuple]:
        return small(*args), args

    def backward(args: tuple, cotangents: list[Any]) -> tuple:
        closed = jax.make_jaxpr(dense_vjp)([_spec(v) for v in node.ins], [_spec(v) for v in node.outs])
        body, living = _walked(closed, [*node.ins, *node.outs], cut)
        grads = dict(zip(smooth, run(body, [*args, *cotangents], living), strict=True))
        return tuple(grads.get(k) for k in range(len(args)))

    small.defvjp(forward, backward)
    return small
