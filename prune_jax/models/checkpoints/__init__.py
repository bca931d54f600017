"""Language models in Hugging Face's layout: config.json beside safetensors files."""

from prune_jax.models.checkpoints.reading import load_checkpoint
from prune_jax.models.checkpoints.writing import save_checkpoint

__all__ = ["load_checkpoint", "save_checkpoint"]
