"""A decoder from a checkpoint on disk, no more of it in memory than is asked for."""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open

from prune_jax.models.checkpoints.layout import Tensor, check_names, tensors
from prune_jax.models.checkpoints.sizes import options_of
from prune_jax.models.decoder import Decoder

Sharding = jax.sharding.Sharding
INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"


def load_checkpoint(
    folder: str | Path,
    *,
    scan: bool = False,
    dtype: Any = None,
    sharding: Callable[[str, tuple[int, ...]], Sharding] | None = None,
) -> Decoder:
    """Read a language model that Hugging Face's ``transformers`` wrote, or ``save_checkpoint``.

    Known are the model types 'llama', 'mistral', 'qwen2' and 'phi3', whose tensors are fused. Nothing is unpickled.

    Args:
        folder: it holds config.json and model.safetensors, or parts with an index.
        scan: whether blocks are stacked.
        dtype: of the numbers. By default that of the file.
        sharding: ``sharding(leaf path, shape)``, where each leaf is to lie. Then a device is given its part of a tensor
            straight from the file, and no host reads more than its devices need.

    Returns:
        The decoder.

    Raises:
        OSError: a file can't be read.
        ValueError: config.json describes another network, tensors have other names, or one has another shape. The
            message names it.

    Example: ``net = load_checkpoint("llama", scan=True)``.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    options = options_of(config_at(folder), str(config_file))
    net: Any = nnx.eval_shape(lambda: Decoder(input_shape=(1,), scan=scan, rngs=nnx.Rngs(0), **options))
    leaves = leaf_shapes(net)
    model_type = json.loads(config_file.read_text())["model_type"]
    wanted = {t.name: t for t in tensors(model_type, leaves, options["depth"], scan)}
    with contextlib.ExitStack() as stack:
        found = _opened(folder, stack)
        check_names(found, wanted, str(folder))
        parts = _parts(wanted, leaves, found, folder)
        state = {
            path: _placed(
                path, leaf, _whole(parts[path], scan and path.startswith("blocks/"), dtype), sharding
            )
            for path, leaf in leaves.items()
        }
    pure = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    nnx.update(net, jax.tree_util.tree_map_with_path(lambda path, _: state[_joined(path)], pure))
    return net


def config_at(folder: Path) -> dict[str, Any]:
    """The content of a folder's config.json."""
    file = folder / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{folder} holds no config.json; name the folder of a checkpoint")
    return json.loads(file.read_text())


def leaf_shapes(net: nnx.Module) -> dict[str, Any]:
    """The leaves of a decoder by path: arrays, or shapes."""
    flat, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    return {_joined(path): leaf for path, leaf in flat}


def _joined(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _opened(folder: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    """Tensor name -> a slice that reads from the file when it is indexed."""
    index = folder / INDEX
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else [WHOLE]
    found: dict[str, Any] = {}
    for name in names:
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder} holds no {name}; weights are read from {WHOLE}, or from the files that {INDEX} names"
            )
        try:
            file = stack.enter_context(safe_open(folder / name, "np"))
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is no readable safetensors file: {error}") from error
        found |= {tensor: file.get_slice(tensor) for tensor in file.keys()}  # noqa: SIM118
    return found


def _parts(
    wanted: Mapping[str, Tensor], leaves: Mapping[str, Any], found: Mapping[str, Any], folder: Path
) -> dict[str, list[Callable[[Any], np.ndarray]]]:
    """Leaf path -> what reads a part of it, one function for each block where blocks are stacked."""
    parts: dict[str, list[Callable[[Any], np.ndarray]]] = {path: [] for path in leaves}
    for name, tensor in wanted.items():
        shapes = [leaves[path].shape[tensor.layer is not None :] for path in tensor.leaves]
        shapes = [shape[::-1] if tensor.transposed else shape for shape in shapes]
        shape = (sum(each[0] for each in shapes), *shapes[0][1:])
        if tuple(found[name].get_shape()) != shape:
            raise ValueError(
                f"tensor {name!r} of {folder} has shape {tuple(found[name].get_shape())}, of the sizes in config.json "
                f"follows {shape}; correct the one or the other"
            )
        start = 0
        for path, mine in zip(tensor.leaves, shapes, strict=True):
            parts[path].append(_reader(found[name], start, mine, tensor.transposed))
            start += mine[0]
    return parts


def _reader(source: Any, start: int, shape: tuple[int, ...], transposed: bool) -> Callable[[Any], np.ndarray]:
    def read(index: tuple[slice, ...]) -> np.ndarray:
        index = index[::-1] if transposed else index
        first, *rest = (slice(*each.indices(n)[:2]) for each, n in zip(index, shape, strict=True))
        rows = source[(slice(start + first.start, start + first.stop), *rest)]
        return rows.T if transposed else rows

    return read


def _whole(
    readers: list[Callable[[Any], np.ndarray]], stacked: bool, dtype: Any
) -> Callable[[Any], np.ndarray]:
    """What reads a part of a leaf, of so many blocks where they are stacked."""

    def read(index: tuple[slice, ...]) -> np.ndarray:
        rows = np.stack([one(index[1:]) for one in readers[index[0]]]) if stacked else readers[0](index)
        return rows if dtype is None else rows.astype(dtype)

    return read


def _placed(
    path: str,
    leaf: Any,
    read: Callable[[Any], np.ndarray],
    sharding: Callable[[str, tuple[int, ...]], Sharding] | None,
) -> jax.Array:
    if sharding is None:
        return jax.device_put(read((slice(None),) * leaf.ndim))
    return jax.make_array_from_callback(leaf.shape, sharding(path, leaf.shape), read)
