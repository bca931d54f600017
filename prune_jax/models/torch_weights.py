"""Pretrained PyTorch weights as variables of ours."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from prune_jax.models.functional import Variables
from prune_jax.models.torch_names import namer, vgg_position

StateDict = dict[str, np.ndarray]

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_PICKLED = (".pth", ".pt", ".tar", ".bin")
_SHOWN = 5


def load(path: str | Path, name: str, variables: Variables) -> Variables:
    """`read` and `convert` in one: the variables of network `name` with the file's numbers."""
    return convert(read(path), name, variables)


def content_id(path: str | Path) -> str:
    """SHA-256 of the file's bytes in hexadecimal: a base model is its content, not its name."""
    with _existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path) -> StateDict:
    """The state dict in a `.safetensors` file, or in a `.pth` one where PyTorch is installed.

    A pickle is read with `weights_only=True`, so that nothing in it can run. A training
    checkpoint that keeps its weights under 'state_dict' or 'model' will do, and the 'module.'
    of DataParallel is dropped. Raises FileNotFoundError, ImportError (a `.pth` without PyTorch)
    or ValueError (unreadable, or more than tensors).
    """
    file = _existing(path)
    if file.suffix == ".safetensors":
        try:
            state = load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is no readable safetensors file: {error}") from error
    elif file.suffix in _PICKLED:
        state = _unpickled(file)
    else:
        raise ValueError(
            f"{file}: weights come as .safetensors or {', '.join(_PICKLED)}, not {file.suffix!r}"
        )
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def convert(state: Mapping[str, np.ndarray], name: str, variables: Variables) -> Variables:
    """The variables of network `name`, filled from a torchvision or timm state dict.

    `variables` give structure, shapes and dtypes (ShapeDtypeStructs will do). So a checkpoint with other widths fits
    the network that was created with those. Every key is used exactly once, but for `num_batches_tracked`, a counter
    that no one reads as long as the momentum is a number. A convolution's bias in front of a norm is subtracted from
    the running mean, which is exact. Raises ValueError that lists what is missing, left over or of another shape.
    """
    given = {key: value for key, value in state.items() if not key.endswith(".num_batches_tracked")}
    if name.startswith("vgg"):
        given = _without_conv_biases(given)
    module = namer(name, given)
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
    paths = ["/".join(str(entry.key) for entry in path[1:]) for path, _ in leaves]
    keys = [_torch_key(path, module) for path in paths]
    _check_keys(name, keys, given)
    wanted = [(path, key, leaf) for path, key, (_, leaf) in zip(paths, keys, leaves, strict=True)]
    _check_shapes(name, wanted, given)
    filled = [_arranged(path, given[key], leaf, variables) for path, key, leaf in wanted]
    return jax.tree.unflatten(structure, filled)


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if not file.is_file():
        wrong = "is a folder" if file.is_dir() else "is no file"
        raise FileNotFoundError(f"{file} {wrong}; weights come as .safetensors or {', '.join(_PICKLED)}")
    return file


def _unpickled(file: Path) -> StateDict:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{file}: reading a {file.suffix} file needs torch; a .safetensors does not"
        ) from error
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip, runtime and end-of-file errors alike
        raise ValueError(f"{file} can't be read as plain weights (weights_only=True): {error}") from error
    for wrapper in ("state_dict", "model"):
        loaded = loaded.get(wrapper, loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError(f"{file} holds no state dict, a mapping from names to tensors")
    wide = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in loaded.items()}
    return {key: value.detach().numpy() for key, value in wide.items()}


def _without_conv_biases(state: StateDict) -> StateDict:
    state = dict(state)
    for k in (vgg_position(i) for i in range(16)):
        bias, mean = f"features.{k}.bias", f"features.{k + 1}.running_mean"
        if bias in state and mean in state:
            state[mean] = state[mean] - state.pop(bias)
    return state


def _torch_key(path: str, module: Any) -> str:
    layer, leaf = path.rsplit("/", 1)
    return f"{module(layer)}.{_LEAVES[leaf]}"


def _check_keys(name: str, keys: Iterable[str], state: StateDict) -> None:
    keys = list(keys)
    missing = [key for key in keys if key not in state]
    left = sorted(state.keys() - set(keys))
    if missing or left:
        problems = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        problems += [f"{len(left)} left over ({_some(left)})"] if left else []
        raise ValueError(f"the state dict doesn't fit {name}: keys {' and '.join(problems)}")


def _check_shapes(name: str, wanted: Iterable[tuple[str, str, Any]], state: StateDict) -> None:
    wrong = []
    for path, key, leaf in wanted:
        want, got = _torch_shape(leaf.shape), state[key].shape
        # timm keeps dense layers as convolutions: the same numbers, two more axes.
        flat = (got[0], int(np.prod(got[1:]))) if len(want) == 2 and len(got) == 4 else got
        if flat != want:
            wrong.append(f"{key} is {got}, {path} takes {want}")
    if wrong:
        raise ValueError(
            f"the state dict doesn't fit {name}: {_some(wrong, '; ')}; "
            "num_classes, input_shape and widths must be those of the checkpoint"
        )


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 4:
        height, width, channels, filters = shape
        return (filters, channels, height, width)
    return shape[::-1]


def _arranged(path: str, value: np.ndarray, leaf: Any, variables: Variables) -> jax.Array:
    if len(leaf.shape) == 4:
        value = value.transpose(2, 3, 1, 0)
    elif len(leaf.shape) == 2:
        # A flatten in front: PyTorch counts channels first, we count them last.
        convs = variables["params"].get("convs")
        channels = convs[max(convs)]["kernel"].shape[-1] if path == "dense/0/kernel" else leaf.shape[0]
        value = value.reshape(len(value), channels, -1).transpose(2, 1, 0).reshape(leaf.shape)
    return jax.device_put(np.asarray(value).astype(leaf.dtype))


def _some(items: list[str], separator: str = ", ") -> str:
    more = f"{separator}..." if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more
