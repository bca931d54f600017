"""Trainability: Jacobian singular values and trainability accuracy.

Names load on first use, so that a report reads ``trainability_accuracy`` on a machine without JAX.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "compare_trainability": "prune_jax.trainability.accuracy",
    "epochs_to": "prune_jax.trainability.accuracy",
    "equivalent_epochs": "prune_jax.trainability.accuracy",
    "jacobian_singular_values": "prune_jax.trainability.jacobian",
    "jacobians": "prune_jax.trainability.jacobian",
    "mean_jsv": "prune_jax.trainability.jacobian",
    "Spectrum": "prune_jax.trainability.spectra",
    "Statistics": "prune_jax.trainability.statistics",
    "spectrum": "prune_jax.trainability.spectra",
    "summarize": "prune_jax.trainability.spectra",
    "trainability_accuracy": "prune_jax.trainability.accuracy",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(
            f"prune_jax.trainability has no attribute {name!r}; it offers {', '.join(__all__)}"
        )
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
