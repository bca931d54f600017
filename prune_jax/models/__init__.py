"""Networks whose widths are constructor arguments."""

from prune_jax.models.catalog import ModelInfo, abstract, create, info, names
from prune_jax.models.functional import Network, functional

__all__ = ["ModelInfo", "Network", "abstract", "create", "functional", "info", "names"]
