"""The test examples that a finished stage's network is measured on, of its own data set or of another."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp

from prune_jax import data
from prune_jax.experiment.config.dataset import AnyDataset, open_own
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import ModelSpec

EXAMPLES = 512


def images(network: StageNetwork, name: str, data_dir: str | None, asked: int | None) -> jax.Array:
    """The images of ``examples``."""
    return examples(network, name, data_dir, asked)[0]


def examples(
    network: StageNetwork, name: str, data_dir: str | None, asked: int | None
) -> tuple[jax.Array, jax.Array]:
    """The first ``asked`` test images of ``name`` as the stage's network takes them: normalised ``(n, h, w, c)``.

    And their labels ``(n,)``. Of a stage that reads a text the first windows of bytes, and the bytes that follow each.

    None asks for ``EXAMPLES``, or all if fewer. Images that vary in size go through the stage's recipe, ImageNet100
    is of the stage's classes, and 'synthetic' has the network's shape. Raises ValueError for a set of another shape,
    with fewer examples, or of images that vary in size where the stage has no recipe.
    """
    own, model = network.data, network.model
    if own.window:
        return _windows(network, name, data_dir, asked)
    if own_parts.is_own(name):
        arrays = open_own(name, own.split_seed, data_dir)
        _refuse_other_shape(model, arrays)
        count = _count(asked, arrays)
        pixels, labels = arrays.test.images[:count], arrays.test.labels[:count]
        return data.normalize(jnp.asarray(pixels), own.mean, own.std), jnp.asarray(labels)
    varies = data.varies(name, data_dir=data_dir)
    if varies and own.recipe is None:
        raise ValueError(
            f"--dataset={name} has images of varying size; the stage's {own.name} says no recipe for them"
        )
    recipe = own.recipe if varies else None
    with _listed(own.classes if name == own.name else ()) as classes_file:
        dataset = data.open_dataset(
            name,
            split_seed=own.split_seed,
            data_dir=data_dir,
            recipe=recipe,
            classes_file=classes_file,
            sizes=data.Synthetic(model.input_shape, model.num_classes, own.examples or EXAMPLES),
        )
    _refuse_other_shape(model, dataset)
    count = _count(asked, dataset)
    if isinstance(dataset, data.StreamedDataset):
        first = data.open_stream(dataset, batch_size=count, seed=0, train=False, recipe=recipe)
        with contextlib.closing(first):
            pixels, labels, *_ = next(first)
    else:
        pixels, labels = dataset.test.images[:count], dataset.test.labels[:count]
    return data.normalize(jnp.asarray(pixels), own.mean, own.std), jnp.asarray(labels)


def _windows(
    network: StageNetwork, name: str, data_dir: str | None, asked: int | None
) -> tuple[jax.Array, jax.Array]:
    own = network.data
    if name not in data.TEXTS:
        raise ValueError(
            f"--dataset={name} is no text, and the stage's {network.model.name} reads windows of {own.window} bytes; "
            f"choose one of {', '.join(data.TEXTS)}"
        )
    text = data.open_dataset(name, split_seed=own.split_seed, data_dir=data_dir, window=own.window)
    count = _count(asked, text)
    assert isinstance(text, data.Dataset)  # a text isn't streamed
    return jnp.asarray(text.test.images[:count]), jnp.asarray(text.test.labels[:count])


@contextlib.contextmanager
def _listed(classes: Sequence[int]) -> Iterator[str]:
    """A file that lists these classes, one a line, while the context lasts. '' for none."""
    if not classes:
        yield ""
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(map(str, classes)))
        file.flush()
        yield file.name


def _count(asked: int | None, dataset: AnyDataset) -> int:
    available = dataset.test_size
    if asked is not None and asked > available:
        raise ValueError(f"--examples={asked}: {dataset.name} has {available} test examples")
    return min(EXAMPLES, available) if asked is None else asked


def _refuse_other_shape(model: ModelSpec, dataset: AnyDataset) -> None:
    if tuple(dataset.input_shape) != tuple(model.input_shape):
        raise ValueError(
            f"--dataset={dataset.name} has inputs {tuple(dataset.input_shape)}, but the stage's {model.name} takes "
            f"{tuple(model.input_shape)}"
        )
