"""Data sets: packaged ones and TensorFlow Datasets by name, whole or streamed, and image recipes."""

from prune_jax.data.arrays import from_arrays
from prune_jax.data.augment import augment, normalize, random_crop, random_flip
from prune_jax.data.images import IMAGENET_RECIPE, ImageRecipe
from prune_jax.data.opening import Synthetic, input_of, open_dataset, varies
from prune_jax.data.preparing import NotPreparedError
from prune_jax.data.stream import Stream, open_stream, prefetch_to_device
from prune_jax.data.streamed import StreamedDataset
from prune_jax.data.subset import stratified_subset, take_train
from prune_jax.data.synthetic import synthetic
from prune_jax.data.text import load_text, text_builder
from prune_jax.data.tfds import TEXTS, Dataset, Split, load
from prune_jax.data.workers import ReaderLostError, number_of_workers

__all__ = [
    "IMAGENET_RECIPE",
    "TEXTS",
    "Dataset",
    "ImageRecipe",
    "NotPreparedError",
    "ReaderLostError",
    "Split",
    "Stream",
    "StreamedDataset",
    "Synthetic",
    "augment",
    "from_arrays",
    "input_of",
    "load",
    "load_text",
    "normalize",
    "number_of_workers",
    "open_dataset",
    "open_stream",
    "prefetch_to_device",
    "random_crop",
    "random_flip",
    "stratified_subset",
    "synthetic",
    "take_train",
    "text_builder",
    "varies",
]
