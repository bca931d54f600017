"""A pruned model to a file: numbers as safetensors, the decision as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from prune_jax import __version__
from prune_jax.pruning.module.pruned import Pruned
from prune_jax.pruning.shipping import tensors
from prune_jax.pruning.shipping.fingerprint import fingerprint
from prune_jax.pruning.shipping.numbers import is_key, named, numbers

FORMAT = 1
MASK = "mask:"  # before the names of a mask's leaves


def save(path: str | Path, pruned: Pruned, variables: Any = None) -> Path:
    """Write a pruned model to one safetensors file, which ``load`` reads with the network's code.

    The file holds the variables under their paths, masks, the keep, a fingerprint of the groups and versions. It holds
    no code and no pickle. An optimiser's state is not in it: save that with Orbax, as any pytree.

    Args:
      path: the file, written whole or not at all.
      pruned: what ``prune`` or ``load`` gave.
      variables: the trained variables, where training made new ones. By default those of ``pruned.model`` as they are
        now where that is an ``nnx.Module``, else ``pruned.variables``.

    Returns:
      The path.

    Raises:
      ValueError: a leaf is missing, is of another shape than the pruned network's, or has a dtype that safetensors
        can't hold. The message names it.

    Example:
      >>> import tempfile
      >>> import jax.numpy as jnp
      >>> import prune_jax
      >>> net = {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 1))}, lambda p, x: x @ p["a"] @ p["b"]
      >>> pruned = prune_jax.prune(net[::-1], jnp.ones((1, 2)), ratio=0.5)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = save(Path(folder) / "small.safetensors", pruned)
      ...     print(path.name, prune_jax.load(path, net[::-1]).variables["a"].shape)
      small.safetensors (2, 2)
    """
    path, dense = Path(path), pruned.dense
    given = named(numbers(pruned, variables))
    _check(given, named(pruned.variables))
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in given.items() if is_key(leaf)}
    masks = named(pruned.mask) if pruned.mask is not None else {}
    arrays = {name: jax.random.key_data(leaf) if name in keys else leaf for name, leaf in given.items()}
    arrays |= {MASK + name: leaf for name, leaf in masks.items()}
    header = {
        "format": FORMAT,
        "versions": {"prune_jax": __version__, "jax": jax.__version__, "flax": flax.__version__},
        "kind": dense.kind,
        "free": list(dense.free),
        "keep": {name: np.asarray(kept).tolist() for name, kept in pruned.keep.items()},
        "groups": fingerprint(pruned.groups),
        "masked": pruned.mask is not None,
        "costs": [_plain(pruned.before), _plain(pruned.after)],
        "dense": {name: list(leaf.shape) for name, leaf in named(dense.variables).items()},
        "inputs": _inputs(pruned),
        "keys": keys,
    }
    tensors.write(path, arrays, header)
    return path


def _check(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in (*wanted, *given):
        if name not in given:
            raise ValueError(
                f"leaf {name!r} is missing in variables; pass all variables of the pruned network"
            )
        if name not in wanted:
            raise ValueError(f"variables have leaf {name!r}, which the pruned network has not")
        if given[name].shape != wanted[name].shape:
            raise ValueError(
                f"leaf {name!r} of variables has shape {given[name].shape}, in the pruned network {wanted[name].shape}"
            )


def _plain(cost: Any) -> dict[str, Any]:
    return {
        name: value if isinstance(value, (int, float)) else None for name, value in cost._asdict().items()
    }


def _inputs(pruned: Pruned) -> list[Any] | None:
    """Shapes of the inputs that were traced. None where ``load`` must be told them."""
    dense = pruned.dense
    own = dense.bind(dense.source.apply) is dense.source.apply
    if not own or any(not hasattr(x, "dtype") for x in dense.inputs):
        return None
    return [[list(x.shape), str(x.dtype)] for x in dense.inputs]
