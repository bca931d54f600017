"""The linear maps that a network begins and ends with, which need no pass of their own.

A network whose K logits are a linear layer on F features has Jacobians J = W F of rank F at most: for K > F (64
features behind 100 or 1,000 logits of a ResNet-56), F pull-backs tell what K would. One whose D inputs meet a
linear layer of F outputs first has J = G Vᵀ, and pulling back to those F outputs is enough. What is left of W and
V is a triangular factor each, so that no singular value changes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, Var

from prune_jax.pruning.slimming.resize import bind

_CALLS = ("jit", "pjit", "closed_call")
_FORMATS = ("float32", "float64")


class Ends(NamedTuple):
    """A network as first map, core, last map, at one batch.

    entered: what enters the core, ``(batch, ...)``. core: it -> what leaves, ``(batch, ...)``. First ``(D, F)``
    and last ``(F, K)``: the matrices before and behind it, None where there is no such narrowing map and the
    core begins at the input, or ends at the logits, itself.
    """

    entered: jax.Array
    core: Callable[[jax.Array], jax.Array]
    first: jax.Array | None
    last: jax.Array | None


class _Flat(NamedTuple):
    eqns: list[Any]
    known: dict[Var, Any]
    x: Var
    out: Any
    moves: set[Var]  # what depends on x


class _Map(NamedTuple):
    source: Var
    target: Var
    matrix: Any  # the operand that holds it
    transposed: bool


def split(apply: Callable[[jax.Array], jax.Array], x: jax.Array, outputs: int) -> Ends:
    """``apply`` at ``x`` in parts, a last map only where fewer features than the ``outputs`` wanted are behind it.

    Read off the jaxpr: a matrix product of ``(batch, D)`` with what doesn't depend on ``x``, in float32 or
    float64, right behind the input, or before the logits but for a bias. Where none is found, the whole of
    ``apply`` is the core. To be called inside a trace: the parts of the network that don't depend on ``x`` are
    computed at once.
    """
    flat = _flat(apply, x)
    first, last = _first(flat, len(x) * outputs), _last(flat, outputs)
    if (first is None and last is None) or isinstance(flat.out, Literal) or flat.out not in flat.moves:
        return Ends(x, apply, None, None)
    begin = flat.x if first is None else first.target
    end = flat.out if last is None else last.source
    env = {**flat.known, flat.x: x}
    still = [eqn for eqn in flat.eqns if not flat.moves.intersection(eqn.outvars)]
    leading = _needed([eqn for eqn in flat.eqns if eqn not in still], begin)
    _run([*still, *leading], env)
    rest = _needed([eqn for eqn in flat.eqns if eqn not in still and eqn not in leading], end)

    def core(entered: jax.Array) -> jax.Array:
        inner = {**env, begin: entered}
        _run(rest, inner)
        return inner[end]

    return Ends(env[begin], core, _matrix(first, env), _matrix(last, env))


def _flat(apply: Callable, x: jax.Array) -> _Flat:
    closed = jax.make_jaxpr(apply)(x)
    jaxpr, at, out = closed.jaxpr, closed.jaxpr.invars[0], closed.jaxpr.outvars[0]
    known: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    while len(jaxpr.eqns) == 1 and jaxpr.eqns[0].primitive.name in _CALLS:  # jit around the whole
        (eqn,) = jaxpr.eqns
        inner = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
        entering = [var for var, arg in zip(inner.jaxpr.invars, eqn.invars, strict=True) if arg is at]
        if len(entering) != 1 or out not in eqn.outvars:
            break
        given = zip(inner.jaxpr.invars, eqn.invars, strict=True)
        known = {var: _value(arg, known) for var, arg in given if arg is not at}
        known |= dict(zip(inner.jaxpr.constvars, inner.consts, strict=True))
        out = inner.jaxpr.outvars[eqn.outvars.index(out)]
        jaxpr, at = inner.jaxpr, entering[0]
    moves = {at}
    for eqn in jaxpr.eqns:
        if moves.intersection(_vars(eqn)):
            moves.update(eqn.outvars)
    return _Flat(list(jaxpr.eqns), known, at, out, moves)


def _first(flat: _Flat, gradients: int) -> _Map | None:
    """The product that all of x enters, through reshapes, before anything else.

    Its triangular factor costs as much as pulling F gradients back through it: not worth it for fewer ``gradients``.
    """
    at = flat.x
    while True:
        users = [eqn for eqn in flat.eqns if at in _vars(eqn)]
        if len(users) != 1 or at is flat.out:
            return None
        (eqn,) = users
        if eqn.primitive.name == "reshape" and _shape(eqn.outvars[0])[:1] == _shape(at)[:1]:
            at = eqn.outvars[0]
            continue
        found = _product(flat, eqn, at)
        narrow = found is not None and _shape(found.target)[1] < min(_shape(found.source)[1], gradients)
        return found if narrow else None


def _last(flat: _Flat, outputs: int) -> _Map | None:
    """The product that the logits come out of, but for what is added to them."""
    made = {var: eqn for eqn in flat.eqns for var in eqn.outvars}
    at = flat.out
    while at in made:
        eqn = made[at]
        moving = [var for var in eqn.invars if not isinstance(var, Literal) and var in flat.moves]
        if len(moving) != 1 or _shape(moving[0])[:1] != _shape(at)[:1]:
            return None
        if eqn.primitive.name == "add" and _shape(moving[0]) == _shape(at):
            at = moving[0]
            continue
        found = _product(flat, eqn, moving[0])
        return found if found is not None and _shape(moving[0])[1] < outputs else None
    return None


def _product(flat: _Flat, eqn: Any, source: Var) -> _Map | None:
    if eqn.primitive.name != "dot_general" or eqn.invars[0] is not source:
        return None
    matrix, target = eqn.invars[1], eqn.outvars[0]
    (left, right), batch = eqn.params["dimension_numbers"]
    plain = len(_shape(source)) == len(_shape(matrix)) == 2 and tuple(left) == (1,) and not any(batch)
    known = isinstance(matrix, Literal) or matrix not in flat.moves
    formats = {str(getattr(v.aval, "dtype", None)) for v in (source, matrix, target)}
    if not (plain and known and len(formats) == 1 and formats <= set(_FORMATS)):
        return None
    return _Map(source, target, matrix, tuple(right) == (1,))


def _matrix(found: _Map | None, env: dict[Var, Any]) -> jax.Array | None:
    if found is None:
        return None
    matrix = _value(found.matrix, env)
    return jnp.asarray(matrix.T if found.transposed else matrix)


def _needed(eqns: list[Any], end: Any) -> list[Any]:
    """Of ``eqns``, those that ``end`` is made from."""
    wanted, found = {end}, []
    for eqn in reversed(eqns):
        if wanted.intersection(eqn.outvars):
            wanted.update(_vars(eqn))
            found.append(eqn)
    return found[::-1]


def _run(eqns: list[Any], env: dict[Var, Any]) -> None:
    for eqn in eqns:
        env.update(zip(eqn.outvars, bind(eqn, [_value(var, env) for var in eqn.invars]), strict=True))


def _value(var: Any, env: dict[Var, Any]) -> Any:
    return var.val if isinstance(var, Literal) else env[var]


def _vars(eqn: Any) -> list[Var]:
    return [var for var in eqn.invars if not isinstance(var, Literal)]


def _shape(var: Any) -> tuple[int, ...]:
    return tuple(getattr(var.aval, "shape", ()))
