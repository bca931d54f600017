"""Several processes, one program: JAX's runtime started, and what only one of them may do or decide.

Every process runs the whole launch on its part of the devices. Process 0 alone writes records, reports and
``stage.json``, and reads what the others then hear from it, so that none of them takes another branch.
"""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import rich.console
from jax.experimental import multihost_utils

from prune_jax.experiment.processes import rendezvous, slurm
from prune_jax.experiment.processes.rendezvous import LostWorkerError

T = TypeVar("T")
LEAST_TEXT = 1024  # bytes that a text is filled up to at least: every length compiles its own broadcast


class Cluster(NamedTuple):
    """How the processes of a run meet. What is None is found out from Slurm, GKE, a TPU pod or Open MPI."""

    coordinator: str | None = None  # host:port of process 0
    processes: int | None = None
    process: int | None = None
    initialization_timeout: int = 300  # seconds until a process that doesn't come is given up
    heartbeat_timeout: int = 100  # seconds of silence after which a process is held to be lost


def start(cluster: Cluster) -> None:
    """``jax.distributed.initialize``, to be called before JAX's first use. On CPUs collectives go through gloo.

    Raises LostWorkerError where processes don't meet within ``initialization_timeout``, ValueError where there is
    no cluster to be found and none is described, or where a node's GPUs would be idle (``slurm``). Where a cluster
    says who is who, and where one is lost later on, JAX itself ends the others, in its own words and with exit code
    134, within ``heartbeat_timeout`` of the loss. The same command goes on from the last checkpoint.
    """
    if cluster.coordinator and cluster.processes is not None and cluster.process is not None:
        rendezvous.meet(
            cluster.coordinator, cluster.processes, cluster.process, cluster.initialization_timeout
        )
    if jax.config.jax_cpu_collectives_implementation is None:  # type: ignore[attr-defined]
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.process,
            initialization_timeout=cluster.initialization_timeout,
            heartbeat_timeout_seconds=cluster.heartbeat_timeout,
            # How long a process that failed waits for the others before all are ended.
            shutdown_timeout_seconds=cluster.heartbeat_timeout,
        )
        jax.device_count()  # the processes tell one another their devices, for which JAX gives them two minutes
    except ValueError as error:
        raise ValueError(
            f"--distributed finds no cluster ({error}); start it under Slurm (srun), GKE or on a TPU pod, or "
            "give --coordinator=HOST:PORT, --num_processes and --process_id"
        ) from error
    except RuntimeError as error:
        raise LostWorkerError(
            f"the processes of this run did not meet ({str(error).splitlines()[0][:160]}); what was finished is "
            "kept, run the same command again"
        ) from error
    agreed(lambda: slurm.refuse_idle_gpus(os.environ, jax.default_backend(), jax.local_device_count()))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def console() -> rich.console.Console | None:
    """The console of this process: None for the usual one, a silent one where another process speaks."""
    return None if is_main() else rich.console.Console(quiet=True)


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
    """Whether ``flag`` is true in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def from_main(read: Callable[[], Any]) -> Any:
    """What ``read()`` gives, as JSON holds it, or raises in process 0, in every process."""
    if jax.process_count() == 1:
        return read()
    failure: Exception | None = None
    text = ""
    if is_main():
        try:
            text = json.dumps({"value": read()})
        except Exception as error:  # told to the others before it is raised here
            failure, text = error, json.dumps({"error": str(error)})
    told = json.loads(_broadcast(text))
    if failure is not None:
        raise failure
    if "error" in told:
        raise LostWorkerError(f"process 0 failed: {told['error']}")
    return told["value"]


def agreed(make: Callable[[], T]) -> T:
    """``make()`` in every process. What it raises in one is raised there, and in all others as LostWorkerError.

    Without this the others wait for the one that is gone until its heartbeats are missed. Before JAX's runtime is
    started there are no others.
    """
    if not jax.distributed.is_initialized():
        return make()
    try:
        made, failure = make(), None
    except Exception as error:  # told to the others before it is raised here
        failure = error
    told = _told_by_all(str(failure) or type(failure).__name__ if failure else "")
    if failure is not None:
        raise failure
    for process, text in enumerate(told):
        if text:
            raise LostWorkerError(f"process {process} failed: {text}")
    return made


def main_first(make: Callable[[], T]) -> T:
    """``make()`` in every process, in process 0 before the others, such as what prepares a file they all read.

    Raises in every process what it raises in one of them, as ``from_main`` and ``agreed`` do.
    """
    made: list[Any] = []

    def first() -> None:
        made.append(make())

    from_main(first)
    return agreed(lambda: made[0] if made else make())


def fetch(tree: Any) -> Any:
    """The whole of every leaf as a NumPy array in every process, wherever its parts are."""
    return jax.tree.map(_fetch, tree)


def _fetch(leaf: Any) -> np.ndarray:
    spread = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True) if spread else leaf)


def _told_by_all(text: str) -> list[str]:
    """Every process's text, cut at ``LEAST_TEXT`` bytes, in every process."""
    data = np.frombuffer(text.encode()[:LEAST_TEXT], np.uint8)
    room = np.zeros(LEAST_TEXT, np.uint8)
    room[: len(data)] = data
    gathered = np.asarray(multihost_utils.process_allgather(room)).reshape(-1, LEAST_TEXT)
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in gathered]


def _broadcast(text: str) -> str:
    """Process 0's text, of whatever length, in every process."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.asarray(len(data), np.int32)))
    room = np.zeros(max(LEAST_TEXT, 1 << (size - 1).bit_length()), np.uint8)
    room[: min(len(data), size)] = data[:size]
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(room))[:size]).decode()
