"""What a trainer is fed from: a data set on the device, or one that is read while it is used."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import jax
import numpy as np

from prune_jax import data
from prune_jax.experiment.devices import mesh as devices_mesh
from prune_jax.experiment.devices.mesh import APART, MeshShape, Placement
from prune_jax.experiment.specs import DataSpec

# images, labels, and each example's weight: 1, or 0 where it only fills a batch up. None: all are 1.
TestBatch = tuple[jax.Array, jax.Array, jax.Array | None]
Workers = int | Sequence[int]  # as ``dataset.workers``: a number, or the least and the most


class DeviceData(NamedTuple):
    """The data set on the device: uint8 images ``(n, h, w, c)``, int32 labels ``(n,)``."""

    train_images: jax.Array
    train_labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return len(self.test_labels)


class StreamData(NamedTuple):
    """A data set read while it is used, by so many ``workers``. ``test_images``: the first ones, for Jacobians."""

    source: data.StreamedDataset
    workers: int
    test_images: jax.Array

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return self.source.train_size

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return self.source.test_size


Inputs = DeviceData | StreamData


def to_device(dataset: data.Dataset, mesh: MeshShape = APART) -> DeviceData:
    """Both splits, copied once to every device of a mesh."""
    place = devices_mesh.placement(mesh)
    return DeviceData(*devices_mesh.put_whole(place, (*dataset.train, *dataset.test)))


def on_stream(
    dataset: data.StreamedDataset, spec: DataSpec, workers: Workers, measured: int, mesh: MeshShape = APART
) -> StreamData:
    """A streamed set, read by ``workers`` (see ``data.number_of_workers``), and its first ``measured`` test images
    on every device of a mesh.
    """
    images: np.ndarray = np.zeros((0, *dataset.input_shape), np.uint8)
    if measured:
        first = data.open_stream(dataset, batch_size=measured, seed=0, train=False, recipe=spec.recipe)
        images = next(first)[0]
        first.close()
    number = data.number_of_workers(workers)
    return StreamData(dataset, number, devices_mesh.put_whole(devices_mesh.placement(mesh), images))


def prepared(
    dataset: data.Dataset | data.StreamedDataset,
    spec: DataSpec,
    meshes: Iterable[MeshShape],
    workers: Workers,
    measured: int,
) -> dict[int, Inputs]:
    """The data set for every mesh, by its number of devices. ``workers`` and ``measured`` are as in ``on_stream``."""
    by_size = {mesh.devices: mesh for mesh in meshes}
    if isinstance(dataset, data.StreamedDataset):
        return {n: on_stream(dataset, spec, workers, measured, mesh) for n, mesh in by_size.items()}
    return {n: to_device(dataset, mesh) for n, mesh in by_size.items()}


def test_batches(on: Inputs, spec: DataSpec, place: Placement, size: int) -> Iterator[TestBatch]:
    """Every test example once, in order, ``size`` at a time (of a whole set the last ones may be fewer)."""
    if isinstance(on, DeviceData):
        for start in range(0, on.test_size, size):
            part = slice(start, start + size)
            yield on.test_images[part], on.test_labels[part], None
        return
    stream = open_part(on, spec, size, seed=0, train=False)
    try:
        batches = data.prefetch_to_device(stream, devices_mesh.batch_sharding(place))
        yield from cast(Iterator[TestBatch], batches)
    finally:
        stream.close()


def open_part(
    on: StreamData, spec: DataSpec, batch_size: int, *, seed: int, train: bool, whole: bool = False
) -> data.Stream:
    """This process's part of every batch. ``whole``: every process gets all of it."""
    return data.open_stream(
        on.source,
        batch_size=batch_size,
        seed=seed,
        train=train,
        recipe=spec.recipe,
        process_index=0 if whole else jax.process_index(),
        process_count=1 if whole else jax.process_count(),
        workers=on.workers,
    )
