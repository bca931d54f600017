"""Random images of any shape: the training step without its input."""

from collections.abc import Sequence

import numpy as np

from prune_jax.data.tfds import Dataset, Split

NAME = "synthetic"


def synthetic(shape: Sequence[int], classes: int, examples: int, seed: int = 0) -> Dataset:
    """``examples`` training and as many test images uint8 of ``shape`` (h, w, c), labels uniform.

    They fit the device and stay there, so a training step on them waits for no input. Raises ValueError for
    sizes that are not positive.
    """
    shape = tuple(shape)
    if len(shape) != 3 or min((*shape, examples)) < 1 or classes < 2:
        raise ValueError(
            f"dataset.synthetic: shape {shape}, classes {classes}, examples {examples}; it needs a shape of three "
            "positive numbers (height, width, channels), at least 2 classes and 1 example"
        )
    rng = np.random.default_rng(seed)

    def split() -> Split:
        images = rng.integers(0, 256, (examples, *shape), np.uint8)
        return Split(images, rng.integers(0, classes, examples).astype(np.int32))

    return Dataset(NAME, split(), split(), classes)
