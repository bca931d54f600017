"""Replicas of one program: under vmap, apart on the devices at hand or on a mesh's axis, or one alone."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from prune_jax.experiment.devices.mesh import Placement, spmd_axis
from prune_jax.experiment.devices.strategy import Execution

AXIS = "replica"
Axes = tuple[int | None, ...]


class Spread(NamedTuple):
    """``devices`` in use, ``each`` of them with so many replicas. ``devices * each`` may exceed the replicas."""

    devices: int
    each: int


def spread(replicas: int, devices: int) -> Spread:
    """Spread replicas over the fewest devices on which none has more of them than it must.

    Five replicas take three of four devices, two on each (one place stays a copy whose result is dropped).
    """
    each = -(-replicas // devices)
    return Spread(-(-replicas // each), each)


def over(place: Placement, execution: Execution) -> Callable[[Callable[..., Any], Axes], Callable[..., Any]]:
    """What lifts a function of one replica to all: ``together``, ``alone``, or ``vmap`` on the mesh of ``place``.

    Apart, replicas need no division of a batch. On a mesh that splits batches or parameters too, XLA splits the whole
    program.
    """
    if execution.replicas != "vmap":
        return alone
    if not place.shape.replicas:
        return together
    axis = spmd_axis(place)
    return lambda function, axes: jax.vmap(function, in_axes=axes, spmd_axis_name=axis)


def together(function: Callable[..., Any], axes: Axes) -> Callable[..., Any]:
    """``function`` over replicas, the leading axis of every argument whose entry in ``axes`` is 0.

    ``jax.vmap`` on each device. Several devices share the replicas and don't talk to one another, so that
    two CPU cores (see ``one_device_per_core``) or eight GPUs each run their own. To be called inside jit.
    """
    batched = jax.vmap(function, in_axes=axes)

    def run(*arguments: Any) -> Any:
        replicas = _replicas(arguments, axes)
        plan = spread(replicas, jax.local_device_count())
        if plan.devices == 1:
            return batched(*arguments)
        mesh = Mesh(np.asarray(jax.local_devices()[: plan.devices]), (AXIS,))
        specs = tuple(PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in axes)
        apart = jax.shard_map(
            batched, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
        )
        missing = plan.devices * plan.each - replicas
        padded = [
            argument if axis is None else jax.tree.map(lambda leaf: _repeat_last(leaf, missing), argument)
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[:replicas], apart(*padded))

    return run


def alone(function: Callable[..., Any], axes: Axes) -> Callable[..., Any]:
    """Run a function of one replica without vmap: its leading axis of length one is taken off and put back."""

    def run(*arguments: Any) -> Any:
        bare = [
            jax.tree.map(lambda leaf: leaf[0], argument) if axis == 0 else argument
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*bare))

    return run


def stacked(trees: Iterable[Any]) -> Any:
    """One tree of replicas: every leaf is the trees' leaves along a new leading axis.

    On the host where the numbers lie there, as stacking on a device compiles a program for every shape.
    """
    return jax.tree.map(lambda *leaves: _stack(leaves), *trees)


def split(tree: Any) -> Iterator[Any]:
    """The replicas of a tree, one after another, without the leading axis. None is cut out before it is asked for."""
    for i in range(len(jax.tree.leaves(tree)[0])):
        yield jax.tree.map(lambda leaf, i=i: leaf[i], tree)


def _stack(leaves: tuple[Any, ...]) -> Any:
    return np.stack(leaves) if all(map(_is_on_host, leaves)) else jnp.stack(leaves)


def _is_on_host(leaf: Any) -> bool:
    """Whether this process has all numbers of the leaf in its own memory, and it is no tracer and holds no keys."""
    if not isinstance(leaf, jax.Array):
        return isinstance(leaf, np.ndarray)
    if isinstance(leaf, jax.core.Tracer) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return False
    return leaf.is_fully_addressable and all(device.platform == "cpu" for device in leaf.devices())


def one_device_per_core() -> None:
    """Let JAX see every CPU core of this process as a device. To be called before JAX's first use.

    Nothing changes on accelerators, where somebody set the number of CPU devices, or once JAX is in use.
    """
    chosen = (
        jax.config.jax_num_cpu_devices > 0  # type: ignore[attr-defined]
        or "device_count" in os.environ.get("XLA_FLAGS", "")
    )
    if chosen:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # JAX is in use: the devices that it has are the devices there are
        return


def _replicas(arguments: tuple[Any, ...], axes: Axes) -> int:
    stacked = next(argument for argument, axis in zip(arguments, axes, strict=True) if axis == 0)
    return jax.tree.leaves(stacked)[0].shape[0]


def _repeat_last(leaf: jax.Array, times: int) -> jax.Array:
    return leaf if times == 0 else jnp.concatenate([leaf, *([leaf[-1:]] * times)])
