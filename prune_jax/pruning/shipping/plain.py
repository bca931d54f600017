"""A function as plain operations of ``lax``, for converters that know those and meet nobody's layers."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

from prune_jax.pruning.jaxpr.walk import live
from prune_jax.pruning.slimming.resize import bind

INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr",
           "custom_vjp_call": "call_jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr"}  # fmt: skip


def by_example(network: Callable[..., Any], inputs: tuple[Any, ...]) -> Callable[..., Any]:
    """``network``, traced for one example and mapped over a batch of any size.

    What is returned calls neither the network's code nor its layers: it replays the traced operations.
    """

    def one(*rows: Any) -> Any:
        return jax.tree.map(lambda out: jnp.squeeze(out, 0), network(*(row[None] for row in rows)))

    specs = [jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.result_type(x)) for x in inputs]
    closed, shape = jax.make_jaxpr(one, return_shape=True)(*specs)
    treedef = jax.tree.structure(shape)

    def replayed(*rows: Any) -> Any:
        return jax.tree.unflatten(treedef, _run(closed.jaxpr, closed.consts, list(rows)))

    return jax.vmap(replayed)


def _run(jaxpr: Any, consts: Any, args: list[Any]) -> list[Any]:
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in live(jaxpr):  # nobody replays a random key that is never drawn from
        outs = _step(eqn, [read(atom) for atom in eqn.invars])
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _step(eqn: Any, ins: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name in INLINED:
        body = eqn.params[INLINED[name]]
        consts = body.consts if isinstance(body, ClosedJaxpr) else ()
        return _run(getattr(body, "jaxpr", body), consts, ins)
    if name == "pad" and all(
        low >= 0 <= high and not inside for low, high, inside in eqn.params["padding_config"]
    ):
        return [_padded(ins[0], ins[1], [ends[:2] for ends in eqn.params["padding_config"]])]
    if name == "select_n" and len(ins) == 3 and jnp.issubdtype(jnp.result_type(ins[1]), jnp.bool_):
        which, off, on = ins  # onnxruntime has no choice between truths
        return [(which & on) | (~which & off)]
    if name == "reduce_window_max" and all(n == 1 for n in eqn.params["base_dilation"]):
        return [_window_max(ins[0], **eqn.params)]
    return bind(eqn, ins)


def _window_max(
    x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, window_dilation: Any, **_: Any
) -> Any:
    """The largest of the window's places, one strided slice for each: not every converter pools channels last."""
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    x = _padded(x, jnp.asarray(lowest, x.dtype), padding)
    spans = [(size - 1) * step + 1 for size, step in zip(window_dimensions, window_dilation, strict=True)]
    out = None
    for place in itertools.product(*map(range, window_dimensions)):
        start = [at * step for at, step in zip(place, window_dilation, strict=True)]
        limit = [at + n - span + 1 for at, n, span in zip(start, x.shape, spans, strict=True)]
        part = lax.slice(x, start, limit, window_strides)
        out = part if out is None else jnp.maximum(out, part)
    return out


def _padded(x: Any, value: Any, padding: Any) -> Any:
    """Concatenated: jax2onnx 0.17 can't pad beside a batch of any size."""
    for axis, widths in enumerate(padding):
        ends = [jnp.broadcast_to(value, (*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in widths]
        parts = [ends[0], x, ends[1]]
        x = jnp.concatenate([part for part in parts if part.shape[axis]], axis) if any(widths) else x
    return x
