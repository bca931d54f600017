"""Small twins: any traced function re-evaluated at the sizes that a keep leaves."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from prune_jax.pruning.coupling import Analysis, analyse
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.jaxpr.rules_control import BINDING, CUSTOM, scan_counts
from prune_jax.pruning.jaxpr.sizes import rescaled
from prune_jax.pruning.jaxpr.values import Value, is_constant
from prune_jax.pruning.jaxpr.walk import Body, Node
from prune_jax.pruning.keep import checked
from prune_jax.pruning.slimming.derivatives import small_jvp, small_vjp
from prune_jax.pruning.slimming.resize import RESIZE, bind, cut_whole
from prune_jax.pruning.survivors import (
    Cut,
    alive_by_position,
    alive_labels,
    is_cut,
    same_groups,
    small_shape,
)


def _touched(values: Sequence[Value], alive: np.ndarray) -> bool:
    return any(is_cut(labels, alive) for value in values for labels in value.axes)


def _scan(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    p, body = node.eqn.params, node.bodies[0]
    n, carried = scan_counts(node.eqn)
    m = n + carried

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        outs = _run_cut(body, [*ins[:n], *carry, *x], cut)
        return outs[:carried], outs[carried:]

    carry, ys = lax.scan(step, ins[n:m], ins[m:], p["length"], p["reverse"], p["unroll"])
    return [*carry, *ys]


def _while(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    p, (test, body) = node.eqn.params, node.bodies
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    return lax.while_loop(
        lambda carry: _run_cut(test, [*ins[:n], *carry], cut)[0],
        lambda carry: _run_cut(body, [*ins[n:m], *carry], cut),
        ins[m:],
    )


def _cond(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    branches = [lambda *args, body=body: _run_cut(body, list(args), cut) for body in node.bodies]
    return lax.switch(ins[0], branches, *ins[1:])


def _call(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    return run(node.bodies[0], ins, cut)


def _remat(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    p = node.eqn.params
    again = jax.checkpoint(
        lambda *args: run(node.bodies[0], list(args), cut), policy=p["policy"], prevent_cse=p["prevent_cse"]
    )
    return again(*ins)


def _custom_jvp(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    return small_jvp(node, cut, run)(*ins)


def _custom_vjp(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    return small_vjp(node, cut, run)(*ins)


CONTROL: dict[str, Callable[[Node, list[Any], Cut], list[Any]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "remat": _remat,
    "remat2": _remat,
    "checkpoint": _remat,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "custom_vjp_call_jaxpr": _custom_vjp,
}


def _run_cut(body: Body, args: list[Any], cut: Cut) -> list[Any]:
    """Evaluate the body of a loop or a branch: constants that it returns are cut like its other results."""
    return _cut_constants(body.outs, run(body, args, cut), cut)


def _cut_constants(values: Sequence[Value], arrays: list[Any], cut: Cut) -> list[Any]:
    """Constants are kept whole. Where they are used they lose the channels that go there."""
    return [
        cut_whole(x, value.axes, cut.alive) if is_constant(value) else x
        for value, x in zip(values, arrays, strict=True)
    ]


def _step(node: Node, ins: list[Any], cut: Cut) -> list[Any]:
    if not node.bodies or node.eqn.primitive.name in (*BINDING, *CUSTOM):  # other calls cut inside
        ins = _cut_constants(node.ins, ins, cut)
    for number in node.doubts:  # first: the summed axes are gone from the operands' shapes
        if number in cut.verdicts:
            baked = cut.verdicts[number]
            constant = rescaled(node.ins[baked.operand].known, baked, cut.alive)
            ins[baked.operand] = jnp.asarray(constant).reshape(jnp.shape(ins[baked.operand]))
    if not _touched([*node.ins, *node.outs], cut.alive):
        return bind(node.eqn, ins)
    if node.bodies:
        return CONTROL.get(node.eqn.primitive.name, _call)(node, ins, cut)
    rule = RESIZE.get(node.eqn.primitive.name)
    return rule(node, ins, cut.alive) if rule else bind(node.eqn, ins)


def run(body: Body, args: list[Any], cut: Cut) -> list[Any]:
    """Evaluate a walked jaxpr on cut arrays."""
    env: dict[Any, Any] = dict(zip(body.jaxpr.invars, args, strict=True))
    env.update(zip(body.jaxpr.constvars, body.consts, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for node in body.nodes:
        outs = _step(node, [read(atom) for atom in node.eqn.invars], cut)
        env.update(zip(node.eqn.outvars, outs, strict=False))
    return [read(atom) for atom in body.jaxpr.outvars]


def specs_of(tree: Any) -> Any:
    """The tree as shapes. A Python number counts as the array that JAX makes of it."""

    def one(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(jnp.shape(x), x.dtype if hasattr(x, "dtype") else jnp.result_type(x))

    return jax.tree.map(one, tree)


def _check_small(params: Any, analysis: Analysis, alive: np.ndarray) -> None:
    paths = [path for path, _ in leaf_paths(params)]
    values = analysis.body.ins[: len(paths)]
    for (path, leaf), value in zip(leaf_paths(params), values, strict=True):
        wanted = small_shape(value.axes, alive)
        if jnp.shape(leaf) != wanted:
            raise ValueError(
                f"leaf {path!r} has shape {jnp.shape(leaf)}, the small network needs {wanted}: shrink it"
            )


def _alive(groups: Sequence[Group], analysis: Analysis, kept: Mapping[str, Any]) -> np.ndarray:
    """Which labels live, by the groups' names, or by their positions where the function names them otherwise."""
    try:
        same_groups(groups, analysis.groups)
        return alive_labels(*analysis[:3], kept)
    except ValueError as error:
        try:
            return alive_by_position(groups, analysis.slots, analysis.classes, kept, analysis.ledger.reasons)
        except ValueError as why:
            raise ValueError(f"{error}; {why}") from error


def _dense_inputs(specs: Any, inputs: tuple) -> Any:
    """Specs of a call's inputs at the dense number of channels. Only free inputs have lost any."""

    def one(spec: Any, dense: Any) -> Any:
        known = jnp.shape(dense)
        if len(known) != len(spec.shape) or len(known) < 2:
            return spec
        return jax.ShapeDtypeStruct((*spec.shape[:-1], known[-1]), spec.dtype)

    return jax.tree.map(one, specs, inputs) if len(specs) == len(inputs) else specs


def slim(
    apply: Callable,
    params: Any,
    groups: Sequence[Group],
    keep: Mapping[str, Any],
    *inputs: Any,
    analysis: Analysis | None = None,
    free: Sequence[str] = (),
) -> Callable:
    """The small twin of a function: ``apply`` at the sizes that ``keep`` leaves.

    The jaxpr is evaluated anew on ``shrink(params, groups, keep)``. Sizes of reshapes, broadcasts and iotas, group
    counts, constant indices and baked-in sizes are rewritten. So a network that checks shapes (Linen) needs no
    change. Code that addresses channels by position (a slice, a roll) would mean other channels if it were traced at
    another size. The twin keeps to those that the dense network meant. Inputs of another batch size are traced anew,
    once per shape.

    Args:
      apply: the dense network's function.
      params: the dense params, or their shapes.
      groups: what ``find_groups`` found for them.
      keep: group name -> indices of the channels that stay.
      *inputs: the dense network's inputs, or their shapes.
      analysis: that of ``analyse(apply, params, *inputs)`` where the caller has it already. It saves a trace.
      free: that of ``find_groups``. With 'inputs' the twin takes inputs without the channels that went.

    Returns:
      ``small_apply(small_params, *inputs)``. It is compiled, and can be traced and differentiated as
      ``apply`` can.

    Raises:
      KeyError: ``keep`` names no group.
      ValueError: indices are wrong or of a frozen group, or the groups are another network's. In ``small_apply``,
        where the params aren't the small ones.

    Example:
      >>> from prune_jax import find_groups, shrink
      >>> def apply(p, x):
      ...     return (x @ p["a"]).reshape(-1, 4) @ p["b"]  # the code states the size
      >>> params, x = {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 1))}, jnp.ones((3, 2))
      >>> groups, keep = find_groups(apply, params, x), {"a": [0, 1, 3]}
      >>> slim(apply, params, groups, keep, x)(shrink(params, groups, keep), x).tolist()
      [[6.0], [6.0], [6.0]]
    """
    dense, kept = specs_of(params), checked(groups, keep)
    treedef: Any = jax.tree.structure(dense)
    known: dict[Any, tuple[Analysis, Cut]] = {}

    def analysed(xs: tuple) -> tuple[Analysis, Cut]:
        specs = specs_of(xs)
        leaves, treedef = jax.tree.flatten(specs)
        key = (treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        if key not in known:
            whole = _dense_inputs(specs, inputs) if "inputs" in free else specs
            found = given.pop() if given else analyse(apply, dense, *whole, free=free)
            known[key] = found, Cut(_alive(groups, found, kept), found.ledger.verdicts)
        return known[key]

    given = [] if analysis is None else [analysis]
    analysed(inputs)

    @partial(jax.jit, inline=True)  # one program where no caller compiles it, and traced once per shape
    def small_apply(small_params: Any, *xs: Any) -> Any:
        analysis, cut = analysed(xs)
        if jax.tree.structure(small_params) != treedef:
            raise ValueError("small params have another tree structure than the params that were traced")
        _check_small(small_params, analysis, cut.alive)
        leaves = [*jax.tree.leaves(small_params), *jax.tree.leaves(xs)]
        return jax.tree.unflatten(analysis.out_tree, run(analysis.body, leaves, cut))

    return small_apply
