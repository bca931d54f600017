"""Data sets: packaged ones and TensorFlow Datasets by name."""

from prune_jax.data.augment import augment, normalize, random_crop, random_flip
from prune_jax.data.tfds import Dataset, NotPreparedError, Split, input_of, load

__all__ = [
    "Dataset",
    "NotPreparedError",
    "Split",
    "augment",
    "input_of",
    "load",
    "normalize",
    "random_crop",
    "random_flip",
]
