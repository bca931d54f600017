"""The one table: primitive name -> rule."""

from collections.abc import Callable

from prune_jax.pruning.jaxpr import (
    rules_elementwise,
    rules_index,
    rules_linear,
    rules_opaque,
    rules_reduce,
    rules_reshape,
    rules_shape,
)

# A rule reads (ledger, equation, operands), writes couplings to the ledger, returns the results.
RULES: dict[str, Callable] = {
    **rules_elementwise.RULES,
    **rules_shape.RULES,
    **rules_reshape.RULES,
    **rules_linear.RULES,
    **rules_reduce.RULES,
    **rules_index.RULES,
    **rules_opaque.RULES,
}
