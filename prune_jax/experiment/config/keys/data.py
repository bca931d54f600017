"""The sections of what is trained on and of what is trained: ``dataset`` and ``model``."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys.any_type import any_type


def dataset() -> ConfigDict:
    """Which images or text, how they are read, how they are augmented."""
    return ConfigDict(
        {
            # The data set: a name of docs/data.md, or a function of your own, 'module:function'.
            "name": "mnist5k",
            # The seed of the split. It says which images a packaged set holds out for testing.
            # It also says which images `train_examples` takes.
            "split_seed": 0,
            # The folder of the data set: four IDX files, or what TFDS has prepared.
            # Empty: Debian's folder for Fashion-MNIST, else the folder of TFDS
            # (the variable TFDS_DATA_DIR, or ~/tensorflow_datasets).
            "data_dir": "",
            # Training examples that are used. Every class keeps its share. 0: all.
            "train_examples": 0,
            # Whether images are read from disk while training runs. 'True', 'False' or 'auto'.
            # 'auto' streams a set that takes more memory than `fits_gib`, and images that vary in size.
            "stream": "auto",
            # The most memory, in GiB, that a set may take before 'auto' streams it.
            "fits_gib": 8.0,
            # Processes that read and decode images ahead of a stream. No result depends on it.
            # A number: so many. 0: a thread of this process. A pair: the least and the most.
            # With a pair, one process is started for each CPU but one. With two CPUs or fewer the least is taken.
            "workers": any_type((0, 16)),
            # Pixels on a side of an image as the network sees it. Of sets whose images vary in size.
            "size": 224,
            # The least and the most of an image's area that a random training crop takes, as fractions.
            "scale": (0.08, 1.0),
            # The least and the most aspect (width over height) of a random training crop.
            "ratio": (3 / 4, 4 / 3),
            # Pixels of the shorter side in evaluation, before the centre of `size` is cut.
            "resize": 256,
            # Of 'imagenet100': a file with the ids of its classes, one a line. Empty: classes are drawn at random.
            "classes_file": "",
            # Of 'imagenet100': the seed that draws the classes.
            "classes_seed": 0,
            # Of 'synthetic', random images that measure a training step without its input.
            "synthetic": {
                # Height, width and channels of an image.
                "shape": (224, 224, 3),
                # Number of classes.
                "classes": 1000,
                # Number of images.
                "examples": 1024,
            },
            # Bytes of a text that make one example. Of 'stdlib_text', and of 'text_folder' under `data_dir`.
            "window": 128,
            # Each channel's mean, of pixels in 0..1. It is subtracted. Empty: the usual one.
            # Arrays of your own have 0.
            "mean": (),
            # Each channel's standard deviation, of pixels in 0..1. It divides. Empty: the usual one.
            # Arrays of your own have 1.
            "std": (),
            # Pixels of padding on each side before a random crop in training. 0: no crop.
            "crop_pad": 0,
            # Whether training images are mirrored from left to right, half of the time.
            "flip": False,
        }
    )


def model() -> ConfigDict:
    """Which network."""
    return ConfigDict(
        {
            # A network of the catalog, or a class or function of your own, 'module:name'.
            "name": "mlp7_linear",
            # Further arguments of the network, such as its width. A dict of names and values.
            "options": ConfigDict(),
        }
    )
