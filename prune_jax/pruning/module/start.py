"""The network that ``prune`` begins with: a fresh one, or what an earlier call left."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prune_jax.pruning.coupling import Analysis, analyse
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep, shrunk_groups
from prune_jax.pruning.module.adapters import source_of
from prune_jax.pruning.module.pruned import Dense, Pruned
from prune_jax.pruning.module.remake import Cut
from prune_jax.pruning.module.static_inputs import bound
from prune_jax.pruning.slimming.twin import specs_of
from prune_jax.pruning.surgery import shrink, slim
from prune_jax.pruning.survivors import alive_labels, axis_moves, is_cut, stays


class Start(NamedTuple):
    """A network, and what went of it before.

    Attributes:
      dense: the network before anything was cut.
      groups: the dense network's groups.
      keep: what earlier calls left, in the dense network's numbers.
      mask: the mask of an earlier call, or None.
      whole: variables of the dense sizes, where nothing was cut or only masked. Else None.
      variables: variables of the network as it is, earlier masks carried out.
      called: the model as the user's loss takes it, from variables.
    """

    dense: Dense
    groups: tuple[Group, ...]
    keep: Keep
    mask: Any
    whole: Any
    variables: Any
    called: Callable[[Any], Any]

    @property
    def now(self) -> tuple[Group, ...]:
        """The groups of the network as it is."""
        return shrunk_groups(self.groups, self.keep) if self.keep else self.groups

    def twin(self, keep: Keep) -> Callable[..., Any]:
        """``apply(variables, *inputs)`` at the sizes that a keep of the dense network leaves."""
        dense = self.dense
        if not keep:
            return dense.apply
        return slim(
            dense.apply,
            dense.variables,
            self.groups,
            keep,
            *dense.inputs,
            analysis=dense.analysis,
            free=dense.free,
        )


def start_of(target: Any, inputs: tuple[Any, ...], free: tuple[str, ...] = ()) -> Start:
    """Take a target apart and find its groups, or go on from an earlier call.

    Raises:
      TypeError: the target is no model, or can't be traced.
      ValueError: there are no inputs, or an earlier call had other ends free.
    """
    earlier = target[0] if isinstance(target, tuple) and target else target
    if isinstance(earlier, Pruned) and free and free != earlier.dense.free:
        raise ValueError(f"free is {free}, but the target was pruned with {earlier.dense.free}; leave it out")
    if isinstance(target, Pruned):
        return _again(target, target.variables if target.model is None else None)
    if isinstance(target, tuple) and len(target) == 2 and isinstance(target[0], Pruned):
        return _again(*target)
    source = source_of(target)
    arrays, bind = bound(inputs)
    if not arrays:
        raise ValueError("no inputs are given; call prune(target, x, ...) with what the model is called with")
    apply, shapes = bind(source.apply), specs_of(source.variables)
    specs = specs_of(arrays)
    analysis = analyse(apply, shapes, *specs, free=free)
    dense = Dense(apply, shapes, specs, source.kind, source._replace(variables=None), bind, analysis, free)
    return Start(dense, analysis.groups, {}, None, source.variables, source.variables, source.called)


def _again(before: Pruned, variables: Any) -> Start:
    dense, called = before.dense, before.dense.source.called
    if isinstance(before.model, nnx.Module):
        variables = nnx.to_pure_dict(nnx.state(before.model)) if variables is None else variables
        definition = nnx.graphdef(before.model)
        called = lambda v: nnx.merge(definition, v)  # noqa: E731
    elif variables is None:
        variables = before.variables
    if before.mask is None:
        return Start(dense, before.groups, before.keep, None, None, variables, called)
    small = shrink(variables, before.groups, before.keep)
    return Start(dense, before.groups, before.keep, before.mask, variables, small, called)


def inputs_given(start: Start, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays among the inputs, or the shapes of an earlier call where none are given."""
    return bound(inputs)[0] if inputs else start.dense.inputs


def cut_of(start: Start, total: Keep, small: Any, inputs: tuple[Any, ...]) -> Cut:
    """A decision, carried out on variables, with what proves a rebuilt model."""
    dense, twin, analysis = start.dense, start.twin(total), start.dense.analysis
    alive = alive_labels(start.groups, analysis.slots, analysis.classes, total)
    inputs = _cut_inputs(inputs, analysis, alive)
    wanted = jax.eval_shape(twin, small, *inputs)
    moves = frozenset(axis_moves(analysis.body, alive))
    return Cut(start.groups, total, dense.variables, small, inputs, twin, dense.bind, wanted, moves, dense)


def _cut_inputs(inputs: tuple[Any, ...], analysis: Analysis, alive: np.ndarray) -> tuple[Any, ...]:
    """The inputs without the channels that went of free ones. Those that an earlier call cut are as they are."""
    leaves, treedef = jax.tree.flatten(inputs)
    values = analysis.body.ins[len(analysis.body.ins) - len(leaves) :]
    return jax.tree.unflatten(treedef, [_cut_input(x, v, alive) for x, v in zip(leaves, values, strict=True)])


def _cut_input(x: Any, value: Any, alive: np.ndarray) -> Any:
    for axis, labels in enumerate(value.axes):
        if not is_cut(labels, alive):
            continue
        keeps = stays(labels, alive)
        if isinstance(x, jax.ShapeDtypeStruct):
            shape = (*x.shape[:axis], int(keeps.sum()), *x.shape[axis + 1 :])
            x = jax.ShapeDtypeStruct(shape, x.dtype)
        elif jnp.shape(x)[axis] == len(keeps):
            x = jnp.asarray(np.asarray(x).compress(keeps, axis))
    return x
