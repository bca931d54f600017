"""What a mask rule is: how its mask begins, what changes it, and what pruned weights do in between."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

BETWEEN = ("held", "free", "straight")


class MaskState(NamedTuple):
    """What a rule keeps between steps. Plain pytrees, so that a checkpoint can hold it.

    Attributes:
      mask: like the params, of bools: False is pruned. Leaves that no rule touches have one True, size 1 on all axes.
      memory: what else the rule needs, such as how many weights go at each turn. A pytree of arrays.
    """

    mask: Any
    memory: Any = ()


class Turn(NamedTuple):
    """What a rule may look at when its mask changes.

    Attributes:
      params: the weights, after the optimiser's step. Where the turn takes its place, before it.
      gradients: like the params, of the whole network: of pruned weights too.
      state: mask and memory so far.
      number: which turn this is, int32, from 0 on. A traced number.
      key: a PRNG key of this turn.
    """

    params: Any
    gradients: Any
    state: MaskState
    number: jax.Array
    key: jax.Array


class MaskRule(NamedTuple):
    """A pair (init, update) and what the step has to know of it.

    Attributes:
      init: ``(params, key) -> MaskState``. Called once, outside of the compiled step.
      update: ``(Turn) -> MaskState`` of the same shapes and dtypes. Traced by JAX.
      turns: int32 ``(steps,)``: the number of the turn at each step, -1 where there is none.
      between: what pruned weights do from turn to turn. 'held': they are exactly 0. 'free': they train on from 0.
        'straight': they keep values of their own, which train on. The network sees zeros in their place.
      instead: whether a turn takes the place of the optimiser's step, as in RigL.
      decay: of 'straight' alone: what is added to the gradient of a pruned weight for each unit of its value.
      begins_sparse: whether the first mask has pruned already, so that a network can train sparse from its start.
      grows: whether pruned weights can come back under 'held'. Their optimiser state then begins at zero.
      dense_gradient: when the gradient of pruned weights is needed: 'never', at 'turns', or 'always'. It costs a dense
        backward pass through the weights.
      density: ``(params) -> {layer: float64 (steps,)}``: the fraction of each kernel's weights that the forward pass
        uses at each step. A layer that isn't named is dense, as all are without this function.
    """

    init: Callable[[Any, jax.Array], MaskState]
    update: Callable[[Turn], MaskState]
    turns: np.ndarray
    between: str = "held"
    instead: bool = False
    decay: float = 0.0
    begins_sparse: bool = False
    grows: bool = False
    dense_gradient: str = "never"
    density: Callable[[Any], Mapping[str, np.ndarray]] | None = None


def refuse_unfit(rule: MaskRule, params: Any) -> None:
    """Raise ValueError for a rule that can't be used with these params. Nothing is computed, so shapes are enough.

    What ``init`` and ``update`` raise comes as it is. A state that changes its form is refused: it couldn't be carried
    through a compiled loop, nor kept.
    """
    if rule.between not in BETWEEN:
        raise ValueError(f"the rule says between={rule.between!r}; choose one of {', '.join(BETWEEN)}")
    key: Any = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    number: Any = jax.ShapeDtypeStruct((), np.int32)
    before = jax.eval_shape(rule.init, params, key)
    wanted: Any = jax.tree.structure(params)
    if jax.tree.structure(before.mask) != wanted:
        raise ValueError(
            "the rule's mask has another structure than the params: give one array of bools a leaf"
        )
    if not (rule.turns >= 0).any():
        return
    after = jax.eval_shape(rule.update, Turn(params, params, before, number, key))
    for what in MaskState._fields:
        forms = [
            (jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)])
            for tree in (getattr(before, what), getattr(after, what))
        ]
        if forms[0] != forms[1]:
            raise ValueError(
                f"the rule's {what} has another structure, shape or type after a turn than before"
            )


def _as_it_is(turn: Turn) -> MaskState:
    return turn.state


# The rule of a given mask that never changes, or of none.
HELD = MaskRule(lambda params, key: MaskState(None), _as_it_is, np.zeros(0, np.int32))
