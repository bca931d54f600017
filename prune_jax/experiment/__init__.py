"""Experiments: from a config to a record. ``run`` does it from Python. It loads, with JAX, on first use (PEP 562)."""

from importlib import import_module
from typing import Any

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(
            f"prune_jax.experiment has no attribute {name!r}; it offers run, and its modules"
        )
    return import_module("prune_jax.experiment.running").run


def __dir__() -> list[str]:
    return list(__all__)
