"""A pruned model from a file and the dense network's code: made abstract, cut, filled."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from prune_jax.pruning.cost import Cost
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import checked
from prune_jax.pruning.module.prune import carried_out, held
from prune_jax.pruning.module.pruned import Pruned
from prune_jax.pruning.module.start import inputs_given, start_of
from prune_jax.pruning.shipping import tensors
from prune_jax.pruning.shipping.fingerprint import check_same
from prune_jax.pruning.shipping.numbers import named
from prune_jax.pruning.shipping.saving import FORMAT, MASK


def load(path: str | Path, net: Any, *inputs: Any) -> Pruned:
    """Read what ``save`` wrote, with the code of the dense network.

    The dense network is never filled with numbers: its shapes are cut by the file's keep, then the file's numbers are
    put in.

    Args:
      path: the file.
      net: the dense network, as ``prune`` took it. Its numbers aren't looked at, so shapes do. Also a function without
        arguments that makes the ``nnx.Module``, or a Linen module alone, whose ``init`` then tells its shapes. A module
        comes back in the mode, training or evaluation, that this one is in.
      *inputs: as ``prune`` got them. By default arrays of the shapes that ``prune`` got. They are needed where an
        input was no array.

    Returns:
      A model as ``prune`` returned it, without an optimiser.

    Raises:
      OSError: the file can't be read.
      ValueError: it is no such file, the network is of another architecture, or a leaf is missing or has a wrong shape.
        The message names it.

    Example:
      >>> import tempfile
      >>> import prune_jax
      >>> def net():
      ...     return nnx.Sequential(nnx.Linear(2, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(1)))
      >>> pruned = prune_jax.prune(net(), jnp.ones((1, 2)), ratio=0.5)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = prune_jax.save(Path(folder) / "small.safetensors", pruned)
      ...     print(load(path, net).model.layers[0].out_features)
      2
    """
    path = Path(path)
    arrays, header = tensors.read(path)
    if header["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {header['format']}, this version reads up to {FORMAT}: install prune_jax "
            f"{header['versions']['prune_jax']} or newer"
        )
    inputs = inputs or _inputs(path, header)
    target = _abstract(net, inputs)
    free = tuple(header["free"])
    start = start_of(target, inputs, free)
    _check_architecture(header["dense"], named(start.dense.variables))
    check_same(header["groups"], start.groups, header["keep"])
    keep = {name: np.asarray(kept, int) for name, kept in header["keep"].items()}
    costs = [Cost(**cost) for cost in header["costs"]]
    if not header["masked"]:
        keep = checked(start.groups, keep)
        cut = carried_out(start, keep, inputs_given(start, inputs), None, *costs)
        return _filled(cut, _values(path, arrays, header["keys"], cut.variables))
    values = _values(path, arrays, header["keys"], start.dense.variables)
    masks = {name.removeprefix(MASK): a for name, a in arrays.items() if name.startswith(MASK)}
    mask = _values(path, masks, {}, start.dense.variables, check=_mask_fits)
    return held(start, values, mask, keep, None, *costs)


def _inputs(path: Path, header: Mapping[str, Any]) -> tuple[Any, ...]:
    if header["inputs"] is None:
        raise ValueError(f"{path} doesn't say what the network is called with: load(path, net, *inputs)")
    return tuple(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape, dtype in header["inputs"])


def _shapes(tree: Any) -> Any:
    def one(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf

    return jax.tree.map(one, tree)


def _abstract(net: Any, inputs: tuple[Any, ...]) -> Any:
    """The network without its numbers."""
    if isinstance(net, nnx.Module):
        definition, state = nnx.split(net)
        return nnx.merge(definition, _shapes(state))
    if isinstance(net, linen.Module):
        return net, jax.eval_shape(lambda *xs: net.init(jax.random.key(0), *xs), *inputs)
    if isinstance(net, tuple) and len(net) == 2:
        return net[0], _shapes(net[1])
    if callable(net) and not any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(net)):
        return nnx.eval_shape(net)
    return net if hasattr(net, "stateless_call") else _shapes(net)


def _check_architecture(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for name in (*saved, *here):
        if name not in here:
            raise ValueError(f"leaf {name!r} of the file isn't in this network: it is another architecture")
        if name not in saved:
            raise ValueError(f"leaf {name!r} of this network isn't in the file: it is another architecture")
        if tuple(saved[name]) != here[name].shape:
            raise ValueError(
                f"leaf {name!r} has shape {here[name].shape} in this network and {tuple(saved[name])} in the one that "
                "was pruned: it is another architecture"
            )


def _same_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return found == wanted


def _mask_fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(a in (1, b) for a, b in zip(found, wanted, strict=True))


def _values(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    keys: Mapping[str, str],
    shapes: Any,
    check: Callable[[tuple[int, ...], tuple[int, ...]], bool] = _same_shape,
) -> Any:
    """A tree like ``shapes`` of the file's arrays."""
    out = []
    for name, spec in leaf_paths(shapes):
        if name not in arrays:
            raise ValueError(f"leaf {name!r} is missing in {path}; write it again with prune_jax.save")
        leaf = tensors.on_device(name, arrays[name])
        leaf = jax.random.wrap_key_data(leaf, impl=keys[name]) if name in keys else leaf
        if not check(leaf.shape, spec.shape):
            raise ValueError(
                f"leaf {name!r} has shape {leaf.shape} in {path}, the network needs {spec.shape}"
            )
        out.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


def _filled(cut: Pruned, variables: Any) -> Pruned:
    model = cut.model
    if isinstance(model, nnx.Module):
        nnx.update(model, variables)
    elif model is not None:
        numbers = iter(jax.tree.leaves(variables))
        model = jax.tree.map(lambda leaf: next(numbers) if hasattr(leaf, "dtype") else leaf, model)
    return dataclasses.replace(cut, model=model, variables=variables)
