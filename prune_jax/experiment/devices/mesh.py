"""Where arrays live: one mesh of replicas, batch and parameter shards, whatever the number of devices.

The program is written for one device and the whole batch. Shardings say how XLA splits it (GSPMD), so batch
norm sees the global batch and every number is the unsharded program's to float tolerance. On one device no
sharding is stated at all: the compiled program is the plain one.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXES = ("replicas", "data", "fsdp")
BATCH = ("data", "fsdp")  # the devices that share a parameter each take a part of the batch too


class MeshShape(NamedTuple):
    """Devices along each axis: replicas of a cohort, parts of a batch, parts of a parameter.

    ``replicas`` 0: no mesh. Then replicas run apart, each on one device (``replicas.together``). ``spread`` says
    whether the first axis divides the replicas, or each of its devices computes all.
    """

    replicas: int = 0
    data: int = 1
    fsdp: int = 1
    spread: bool = True

    @property
    def devices(self) -> int:
        """Devices of the mesh."""
        return max(self.replicas, 1) * self.data * self.fsdp

    @property
    def batch_parts(self) -> int:
        """Parts that a batch is split into."""
        return self.data * self.fsdp

    def for_cohort(self, replicas: int) -> "MeshShape":
        """The same mesh for a cohort of so many replicas, which its first axis may not divide."""
        return self._replace(spread=replicas % max(self.replicas, 1) == 0)


APART = MeshShape()


def choose(
    asked: MeshShape, *, devices: int, replicas: int, backend: str, processes: int = 1, alone: bool = False
) -> MeshShape:
    """The mesh for ``asked``, whose zeros are filled in. ``replicas`` is how many train under one ``vmap``.

    Several replicas in one process take a device each before a batch is split. A single one's batch is split
    over every accelerator. Over CPU devices, which share their cores and memory, only where it is asked for.
    Several processes always take all devices. Raises ValueError for more devices than there are and, where the
    replicas train ``alone``, without those of other runs, for a ``mesh.replicas`` that doesn't divide them.
    """
    for name, size in zip(AXES, asked[:3], strict=True):
        if size < (name == "fsdp"):
            raise ValueError(f"mesh.{name} is {size}; it counts devices{', 0: chosen' * (name != 'fsdp')}")
    if alone and replicas % max(asked.replicas, 1):
        fits = ", ".join(str(n) for n in range(1, replicas + 1) if replicas % n == 0)
        raise ValueError(
            f"mesh.replicas is {asked.replicas}, but {replicas} train as one program: its devices would compute the "
            f"same; allowed: {fits}, 0: chosen"
        )
    data, fsdp = asked.data, asked.fsdp
    if not data and processes == 1 and (backend == "cpu" or (replicas > 1 and fsdp == 1)):
        data = 1
    if data == fsdp == 1 and not asked.replicas and processes == 1:
        return APART
    first = asked.replicas or math.gcd(replicas, max(devices // (fsdp * max(data, 1)), 1))
    chosen = MeshShape(first, data or max(devices // (first * fsdp), 1), fsdp)
    if chosen.devices > devices:
        raise ValueError(f"mesh asks for {chosen.devices} devices ({_named(chosen)}); there are {devices}")
    if chosen.devices < devices and processes > 1:
        raise ValueError(
            f"mesh takes {chosen.devices} of {devices} devices ({_named(chosen)}), but {processes} processes "
            "must take all: leave mesh.data and mesh.replicas at 0"
        )
    return chosen


def refuse_uneven(shape: MeshShape, batch_size: int, accumulate: int = 1) -> None:
    """ValueError for a batch that the mesh (and ``accumulate`` microbatches) can't split evenly."""
    parts = shape.batch_parts * accumulate
    if batch_size % parts == 0:
        return
    near = sorted({max(batch_size // parts, 1) * parts, -(-batch_size // parts) * parts})
    fits = [n for n in range(1, shape.batch_parts) if batch_size % (n * accumulate) == 0]
    way_out = f", or --config.mesh.data={fits[-1]} with --config.mesh.fsdp=1" if fits else ""
    raise ValueError(
        f"optimizer.batch_size is {batch_size}, but the mesh splits a batch into {shape.batch_parts} parts "
        f"({_named(shape)})"
        + (f" times optimizer.accumulate={accumulate}" if accumulate > 1 else "")
        + f": allowed are multiples of {parts}, such as {' or '.join(map(str, near))}{way_out}"
    )


class Placement(NamedTuple):
    """A mesh in use. ``mesh`` is None on one device, where nothing is stated."""

    shape: MeshShape
    mesh: Mesh | None


def placement(shape: MeshShape) -> Placement:
    """The first ``shape.devices`` devices as a mesh with automatic axes.

    Devices keep their order in every mesh, so that data placed once serve meshes of every shape.
    """
    if shape.devices == 1 and jax.process_count() == 1:
        return Placement(shape, None)
    devices = np.asarray(jax.devices()[: shape.devices]).reshape(shape[:3])
    return Placement(shape, Mesh(devices, AXES))


def spmd_axis(place: Placement) -> str | None:
    """The mesh axis that a ``vmap`` over replicas runs along."""
    return "replicas" if place.mesh is not None and place.shape.spread else None


def whole(place: Placement, tree: Any) -> Any:
    """Give every device the whole of every leaf. To be called inside jit."""
    return _constrain(place, tree, lambda leaf: PartitionSpec())


def batch(place: Placement, tree: Any) -> Any:
    """Split every leaf along its leading axis, or leave it whole where its length doesn't divide. Inside jit."""
    return _constrain(place, tree, lambda leaf: _batch_spec(place.shape, leaf.shape))


def parameters(place: Placement, tree: Any) -> Any:
    """Inside jit: every leaf of one replica's state split along its largest axis that the parts divide."""
    return _constrain(place, tree, lambda leaf: PartitionSpec(*_fsdp_spec(place.shape, leaf.shape)))


def put_state(place: Placement, tree: Any) -> Any:
    """A cohort's state, replicas in front, from host or device arrays to where ``parameters`` keeps it."""
    first = "replicas" if place.shape.spread else None
    return _put(place, tree, lambda leaf: PartitionSpec(first, *_fsdp_spec(place.shape, leaf.shape[1:])))


def put_whole(place: Placement, tree: Any) -> Any:
    """Host or local arrays, equal in every process, to all devices of the mesh."""
    return _put(place, tree, lambda leaf: PartitionSpec())


def batch_sharding(place: Placement) -> NamedSharding | None:
    """Where a batch's rows go from the host. None on one device."""
    return None if place.mesh is None else NamedSharding(place.mesh, PartitionSpec(BATCH))


def _named(shape: MeshShape) -> str:
    return " x ".join(f"mesh.{name}={size}" for name, size in zip(AXES, shape[:3], strict=True))


def _batch_spec(shape: MeshShape, sizes: Sequence[int]) -> PartitionSpec:
    return PartitionSpec(BATCH) if sizes and sizes[0] % shape.batch_parts == 0 else PartitionSpec()


def _fsdp_spec(shape: MeshShape, sizes: Sequence[int]) -> list[str | None]:
    fitting = [axis for axis, size in enumerate(sizes) if size and size % shape.fsdp == 0]
    largest = max(fitting, key=lambda axis: sizes[axis], default=None)
    return [("fsdp" if axis == largest and shape.fsdp > 1 else None) for axis in range(len(sizes))]


def _constrain(place: Placement, tree: Any, spec_of: Any) -> Any:
    if place.mesh is None:
        return tree
    mesh = place.mesh
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec_of(leaf))), tree
    )


def _put(place: Placement, tree: Any, spec_of: Any) -> Any:
    if place.mesh is None:
        return jax.device_put(tree)
    mesh = place.mesh
    return jax.tree.map(lambda leaf: _put_leaf(leaf, NamedSharding(mesh, spec_of(leaf))), tree)


def _put_leaf(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put_leaf(jax.random.key_data(leaf), sharding))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
