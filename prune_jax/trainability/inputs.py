"""What is refused before a Jacobian is measured."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def check_images(x: Any) -> None:
    """ValueError unless ``x`` is a batch of at least one example of floating values."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise ValueError(f"x is a {type(x).__name__}; it needs an array (batch, ...) of floating values")
    if len(x.shape) < 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; it needs at least one example along axis 0 and one more axis"
        )
    if 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; an example without values has no Jacobian")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}; a Jacobian needs floating inputs: normalise the images first"
        )


def check_logits(logits: Any, batch: int) -> None:
    """ValueError unless ``apply`` gave floating ``(batch, K)``, K > 0; says how to reduce other shapes."""
    shape = getattr(logits, "shape", None)
    if shape is None:
        raise ValueError(
            f"apply returned a {type(logits).__name__}; Jacobian singular values need one array "
            "(batch, outputs): pick it inside apply"
        )
    if len(shape) != 2:
        raise ValueError(
            f"apply returned shape {shape}; Jacobian singular values need (batch, outputs): reduce the "
            "other axes inside apply, as y.mean((1, 2)) or y.reshape(len(y), -1)"
        )
    if shape[0] != batch or not shape[1]:
        raise ValueError(f"apply returned shape {shape} for {batch} examples; it needs ({batch}, outputs)")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"apply returned dtype {logits.dtype}; a Jacobian needs floating outputs")


def chosen_outputs(outputs: Sequence[int] | None, count: int) -> np.ndarray:
    """Indices of the outputs wanted, default all ``count``; ValueError for wrong or repeated ones."""
    if outputs is None:
        return np.arange(count)
    chosen = np.asarray(outputs)
    if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"outputs is {outputs!r}; it needs a non-empty list of output indices")
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if wrong.size:
        raise ValueError(f"output {wrong[0]} is not among the {count} outputs 0 to {count - 1} of apply")
    if len(set(chosen.tolist())) < chosen.size:
        raise ValueError(f"outputs {outputs!r} names an output twice")
    return chosen


def check_whole(name: str, value: Any, of: str = "") -> int:
    """``value`` as an int; ValueError naming the argument where it is no whole number."""
    try:
        whole = int(value)
        if not isinstance(value, bool) and whole == value:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} {value!r} is not a whole number{of}")
