"""Which GPUs the jobs of ``--launcher=local`` see: submitit would give all of them the first ones, or none."""

from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Several jobs on one GPU, and the launcher that waits for them, may not take most of its memory at once each.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def environment(here: Mapping[str, str], gpus: int, shard: int) -> dict[str, str | None]:
    """In what the environment of job ``shard`` (from 1) of this machine differs. None takes a variable away.

    With ``gpus`` 0 a job sees what its launcher sees. Else so many GPUs, the jobs taking turns where there are fewer
    than they ask for together. Raises ValueError for more than there are.
    """
    names = here.get(VISIBLE, "").split(",") if here.get(VISIBLE) else _numbers()
    return chosen(names, gpus, shard, here.get(VISIBLE))


def chosen(names: list[str], gpus: int, shard: int, before: str | None) -> dict[str, str | None]:
    """``environment`` where ``names`` are the GPUs there are and ``before`` is what says so, if anything does."""
    if not gpus or not names:
        return {VISIBLE: before}
    if gpus > len(names):
        raise ValueError(f"cluster.gpus is {gpus}; --launcher=local finds {len(names)} on this machine")
    first = (shard - 1) * gpus
    return {VISIBLE: ",".join(names[(first + i) % len(names)] for i in range(gpus))}


def _numbers() -> list[str]:
    import jax  # a job loads this module to start its command, and needs no JAX for it

    devices = jax.local_devices() if jax.default_backend() == "gpu" else []
    return [str(i) for i in range(len(devices))]
