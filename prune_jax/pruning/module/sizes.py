"""The attributes of NNX modules that state sizes, rewritten to those of the small arrays."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from prune_jax.pruning.keep import cuts
from prune_jax.pruning.module.layer_sizes import stated
from prune_jax.pruning.module.own_sizes import own_sizes
from prune_jax.pruning.module.remake import Cut

Sizes = Mapping[str, Any]


def rewritings(dense: nnx.Module, cut: Cut, small: Callable[[], nnx.Module]) -> Iterator[nnx.Module]:
    """Small modules, each with other attributes rewritten. The first that computes the right thing is the one.

    Attributes of Flax's own layers are read off their arrays. A class of the user's own may hold a size under any
    name, so every number is tried as the sizes that it can stand for.

    Args:
      dense: the module with its dense arrays (or shapes).
      cut: the decision.
      small: makes the module with its small arrays, and the dense module's attributes.
    """
    layers = _layer_sizes(dense, small(), cut)
    for choice in own_sizes(dense, cut):
        module = small()
        for path, found in nnx.iter_modules(module):
            for name, value in {**layers.get(path, {}), **choice.get(path, {})}.items():
                setattr(found, name, value)
        yield module


def _layer_sizes(dense: nnx.Module, small: nnx.Module, cut: Cut) -> dict[Any, Sizes]:
    """What the attributes of Flax's layers are at the small size. Those that a layer states otherwise are left."""
    alive = cuts(cut.groups, cut.keep)
    new = dict(nnx.iter_modules(small))
    out: dict[Any, Sizes] = {}
    for path, module in nnx.iter_modules(dense):
        at = "/".join(map(str, path))

        def stays(leaf: str, axis: int, at: str = at, module: Any = module) -> np.ndarray:
            shape = getattr(module, leaf).shape
            name = f"{at}/{leaf}" if at else leaf
            return alive.get(name, {}).get(axis % len(shape), np.ones(shape[axis], bool))

        before = stated(module, functools.partial(_all_stay, module))
        after = stated(new[path], stays)
        # A layer stacked along another axis than the first states other sizes than these.
        same = {name for name, value in before.items() if getattr(module, name, None) == value}
        out[path] = {name: value for name, value in after.items() if name in same}
    return out


def _all_stay(module: Any, leaf: str, axis: int) -> np.ndarray:
    return np.ones(getattr(module, leaf).shape[axis], bool)
