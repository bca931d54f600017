"""Neural network pruning in JAX.

The public surface is the table below. Names load on first use (PEP 562), so that
``prune_jax.fairness`` and ``prune_jax.report`` work on a machine without JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    # pruning: pure transforms on any params pytree
    "Slice": "prune_jax.pruning.coupling",
    "Group": "prune_jax.pruning.coupling",
    "find_groups": "prune_jax.pruning.coupling",
    "expand": "prune_jax.pruning.masks",
    "apply_mask": "prune_jax.pruning.masks",
    "hold": "prune_jax.pruning.masks",
    "shrink": "prune_jax.pruning.surgery",
    "slim": "prune_jax.pruning.surgery",
    "count": "prune_jax.pruning.cost",
    "Cost": "prune_jax.pruning.cost",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"prune_jax has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
