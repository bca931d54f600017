"""Networks whose widths are constructor arguments."""

from prune_jax.models.catalog import ModelInfo, abstract, create, info, names
from prune_jax.models.checkpoints import load_checkpoint, save_checkpoint
from prune_jax.models.functional import Network, functional

__all__ = [
    "ModelInfo",
    "Network",
    "abstract",
    "create",
    "functional",
    "info",
    "load_checkpoint",
    "names",
    "save_checkpoint",
]
