"""The numbers of a pruned model as they are now, and their names."""

from typing import Any

from flax import nnx
from jax import dtypes

from prune_jax.pruning.jaxpr.reading import leaf_paths


def numbers(pruned: Any, variables: Any = None) -> Any:
    """The variables given, else those in ``pruned.model`` where training changed it in place, else ``variables``.

    Modules and states of NNX become pure dicts, as ``pruned.variables`` is one.
    """
    if variables is None:
        model = getattr(pruned, "model", None)
        variables = model if isinstance(model, nnx.Module) else pruned.variables
    if isinstance(variables, nnx.Module):
        variables = nnx.state(variables)
    return nnx.to_pure_dict(variables) if isinstance(variables, nnx.State) else variables


def named(tree: Any) -> dict[str, Any]:
    """Leaf path -> array. What is no array (an activation function in a callable pytree) is code."""
    return {path: leaf for path, leaf in leaf_paths(tree) if hasattr(leaf, "dtype")}


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed PRNG key, which has no bytes of its own."""
    return dtypes.issubdtype(leaf.dtype, dtypes.prng_key)
