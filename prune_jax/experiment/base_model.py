"""A base model from a PyTorch file (``config.base.checkpoint``): checked before any work, loaded when due."""

import functools
from pathlib import Path
from typing import Any

from prune_jax import models
from prune_jax.experiment.networks import abstract_model
from prune_jax.experiment.specs import DataSpec, Imported, ModelSpec
from prune_jax.models import torch_weights


def spec_of(path: str, model: ModelSpec, images: DataSpec) -> Imported:
    """The stage that a file stands for, named by its content.

    Raises ValueError when the file is missing or unreadable, or its weights don't fit the network.
    """
    try:
        file = Path(path).stat()
    except OSError as error:
        raise ValueError(
            f"base.checkpoint is {path!r}: {error.strerror}; give a .safetensors file"
        ) from error
    return Imported(_checked(path, file.st_size, file.st_mtime_ns, model), model, images)


def load(path: str, spec: Imported) -> Any:
    """The variables in the file. Raises ValueError when it is no longer the one that the run was planned with."""
    if torch_weights.content_id(path) != spec.content:
        raise ValueError(f"base.checkpoint={path} has changed since the run was planned; start it again")
    return _variables(path, spec.model)


@functools.cache  # a memo: the runs of a sweep share a file, whose size and time stand for its content
def _checked(path: str, size: int, changed: int, model: ModelSpec) -> str:
    del size, changed
    try:
        _variables(path, model)
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"base.checkpoint: {error}") from error
    return torch_weights.content_id(path)


def _variables(path: str, model: ModelSpec) -> Any:
    return torch_weights.load(path, model.name, models.functional(abstract_model(model)).variables)
