"""Surgery: ``shrink`` makes leaves physically smaller, ``slim`` the function that runs on them."""

from prune_jax.pruning.cutting import shrink
from prune_jax.pruning.slimming.twin import slim

__all__ = ["shrink", "slim"]
