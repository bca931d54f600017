"""The ``dataset`` section of a config: the data set it opens, and what of it a stage's spec states."""

from typing import Any

from ml_collections import ConfigDict

from prune_jax import data
from prune_jax.experiment.config.normalization import per_channel
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import DataSpec

NAME = "dataset.name"
AnyDataset = data.Dataset | data.StreamedDataset
STREAM: dict[str, bool | str] = {"auto": "auto", "true": True, "false": False}


def open_dataset(config: ConfigDict) -> AnyDataset:
    """The data set of ``config.dataset``, whole or streamed.

    Raises ValueError for a value that isn't allowed, NotPreparedError for files that are missing.
    """
    section = config.dataset
    stream = STREAM.get(section.stream.lower())
    if stream is None:
        raise ValueError(f"dataset.stream is {section.stream!r}; allowed: 'auto', 'True', 'False'")
    data.number_of_workers(section.workers)
    if own_parts.is_own(section.name):
        if stream is True:
            raise ValueError(
                f"dataset.stream is 'True', but {section.name} gives arrays in memory; leave it at 'auto'"
            )
        arrays = open_own(section.name, section.split_seed, section.data_dir)
        return data.take_train(arrays, section.train_examples, section.split_seed)
    return data.open_dataset(
        section.name,
        split_seed=section.split_seed,
        data_dir=section.data_dir or None,
        stream=stream,
        fits_gib=section.fits_gib,
        recipe=_recipe(section) if data.varies(section.name, data_dir=section.data_dir or None) else None,
        classes_seed=section.classes_seed,
        classes_file=section.classes_file,
        sizes=data.Synthetic(**section.synthetic),
        train_examples=section.train_examples,
        window=section.window,
    )


def open_own(name: str, split_seed: int, data_dir: str | None) -> data.Dataset:
    """The arrays that a function of the user's own returns. It is given those of the arguments here that it takes.

    Raises ValueError as ``own.parts.load_own`` and ``data.from_arrays``, and for what the function raises.
    """
    source = own_parts.source_of(name, NAME)  # first: a file that has changed is read anew
    function = own_parts.load_own(name, NAME)
    offered = {"split_seed": split_seed, "data_dir": data_dir}
    given = own_parts.taken(function, offered)
    return data.from_arrays(name, own_parts.call_own(function, name, NAME, **given), source)


def spec_of(config: ConfigDict, dataset: AnyDataset) -> DataSpec:
    """What a stage states of the opened data set. Raises ValueError naming the key that doesn't fit it."""
    section = config.dataset
    if section.name in data.TEXTS:
        return _text_spec(section, dataset)
    streamed = dataset if isinstance(dataset, data.StreamedDataset) else None
    recipe = _recipe(section) if streamed and None in streamed.train.image_shape else None
    if recipe is not None and section.crop_pad:
        raise ValueError(
            f"dataset.crop_pad is {section.crop_pad}, but {dataset.name}'s images vary in size, and a random box of "
            "them is cut already: set it to 0"
        )
    if len(dataset.input_shape) != 3 and (section.crop_pad or section.flip):
        raise ValueError(
            f"dataset.crop_pad is {section.crop_pad} and dataset.flip {section.flip}, but {dataset.name} gives vectors "
            f"of shape {tuple(dataset.input_shape)}: set both to 0 and False"
        )
    channels = dataset.input_shape[-1]
    return DataSpec(
        name=section.name,
        mean=per_channel("mean", section.mean, dataset.name, channels),
        std=per_channel("std", section.std, dataset.name, channels),
        split_seed=section.split_seed,
        crop_pad=section.crop_pad,
        flip=section.flip and recipe is None,  # the recipe mirrors by itself
        recipe=recipe,
        streamed=streamed is not None,
        classes=streamed.classes if streamed else (),
        examples=section.synthetic.examples if section.name == "synthetic" else 0,
        content=dataset.content,
        train_examples=section.train_examples,
    )


def _text_spec(section: Any, dataset: AnyDataset) -> DataSpec:
    """Bytes are tokens: nothing is normalised, cropped or mirrored."""
    for key in ("mean", "std", "crop_pad", "flip"):
        if section[key]:
            raise ValueError(f"dataset.{key} is {section[key]!r}, but {dataset.name} is a text: leave it out")
    return DataSpec(
        name=section.name,
        mean=(),
        std=(),
        split_seed=section.split_seed,
        content=dataset.content,
        train_examples=section.train_examples,
        window=section.window,
    )


def dataset_name(spec: DataSpec) -> str:
    """Which images, as a record names them: 'digits/split0', of a part for training 'digits/split0/train500'.

    A text's name says its windows too: 'stdlib_text/split0/window128'.
    """
    part = f"/train{spec.train_examples}" if spec.train_examples else ""
    window = f"/window{spec.window}" if spec.window else ""
    return f"{spec.name}/split{spec.split_seed}{part}{window}"


def augmentation_of(spec: DataSpec) -> tuple[str, ...]:
    """The augmentation as a record names it, such as ``('crop4', 'flip')``.

    A recipe adds its boxes where they aren't the usual ones.
    """
    crops = (f"crop{spec.crop_pad}",) if spec.crop_pad else ()
    if spec.recipe is not None:
        usual = data.IMAGENET_RECIPE
        crops = (f"resized-crop{spec.recipe.size}",)
        for name in ("scale", "ratio"):
            low, high = getattr(spec.recipe, name)
            crops += (f"{name}{low:.4g}-{high:.4g}",) * ((low, high) != getattr(usual, name))
    return crops + ("flip",) * (spec.flip or bool(spec.recipe and spec.recipe.flip))


def _recipe(section: Any) -> data.ImageRecipe | None:
    if not section.size:
        return None
    scale, ratio = _pair("scale", section.scale), _pair("ratio", section.ratio)
    return data.ImageRecipe(section.size, scale, ratio, section.resize, section.flip)


def _pair(key: str, values: Any) -> tuple[float, float]:
    if len(values) != 2:
        raise ValueError(f"dataset.{key} is {tuple(values)}; it needs two numbers, the least and the most")
    return float(values[0]), float(values[1])
