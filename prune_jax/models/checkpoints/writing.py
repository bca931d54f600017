"""A decoder to a checkpoint that Hugging Face's ``transformers`` reads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from prune_jax import atomic
from prune_jax.models.checkpoints.layout import MODEL_TYPES, Tensor, tensors
from prune_jax.models.checkpoints.reading import INDEX, WHOLE, config_at, leaf_shapes
from prune_jax.models.checkpoints.sizes import config_of, depth_of
from prune_jax.models.decoder import Decoder
from prune_jax.nearest import unknown

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


def save_checkpoint(
    folder: str | Path,
    net: Any,
    *,
    like: str | Path | None = None,
    model_type: str | None = None,
    shard_bytes: float = 5e9,
) -> Path:
    """Write a decoder, pruned or not, as config.json and safetensors files that ``transformers`` reads.

    Tensors are fetched from the devices one file at a time. config.json is written last.

    Args:
        folder: where to. It is made. It may not hold a checkpoint already.
        net: a ``Decoder``, or what ``prune`` returned of one.
        like: the folder of the checkpoint that it came from. The other keys of config.json are taken over, and files
            that hold no weights, such as a tokenizer, are copied.
        model_type: 'llama', 'mistral', 'qwen2' or 'phi3'. By default that of ``like``, else 'qwen2' with biases and
            'llama' without.
        shard_bytes: a file's tensors take at most so many bytes.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        TypeError: it isn't a decoder.
        ValueError: the blocks differ in size, which config.json can't say, or ``transformers`` would refuse the sizes.

    Example: ``save_checkpoint("small", prune_jax.prune(net, tokens, ratio=0.5), like="llama")``.
    """
    wrapped = getattr(net, "wrapped", None)
    folder, net = Path(folder), getattr(net, "model", net)
    if not isinstance(net, Decoder):
        raise TypeError(f"a {type(net).__name__} can't be written in this layout; give a Decoder")
    if wrapped:
        raise ValueError(
            f"the pruned network runs as a twin of the decoder's code ({wrapped}), which config.json can't say: leave "
            "groups such as 'blocks/0/attention/q:inner' out of layers, or write it with prune_jax.save"
        )
    if (folder / "config.json").exists():
        raise FileExistsError(f"{folder} holds a checkpoint already; name an empty folder")
    source = Path(like) if like is not None else None
    known = config_at(source) if source else {}
    leaves = leaf_shapes(net)
    model_type = _model_type(model_type or known.get("model_type"), leaves)
    config = config_of(net, leaves, known, model_type)
    found = list(tensors(model_type, leaves, depth_of(net, leaves), net.scan))
    _write(folder, found, leaves, shard_bytes)
    if source is not None:
        _copy_rest(source, folder)
    dtype = str(np.dtype(leaves["embed/embedding"].dtype))
    kept = "torch_dtype" if "torch_dtype" in known else "dtype"
    atomic.write_text(folder / "config.json", json.dumps({**config, kept: dtype}, indent=2) + "\n")
    return folder


def _model_type(name: str | None, leaves: Mapping[str, Any]) -> str:
    biased = any(path.endswith("attention/q/bias") for path in leaves)
    name = name or ("qwen2" if biased else "llama")
    if name not in MODEL_TYPES:
        raise ValueError(unknown("model_type", name, MODEL_TYPES))
    if biased != (name == "qwen2"):
        raise ValueError(
            f"model_type is {name!r}, but queries, keys and values have {'' if biased else 'no '}biases; "
            f"choose {'qwen2' if biased else 'llama'!r}"
        )
    return name


def _write(folder: Path, found: list[Tensor], leaves: Mapping[str, Any], shard_bytes: float) -> None:
    files = _files(found, leaves, shard_bytes)
    names = [f"model-{k + 1:05}-of-{len(files):05}.safetensors" for k in range(len(files))]
    names = [WHOLE] if len(files) == 1 else names
    for name, each in zip(names, files, strict=True):
        data = save({tensor.name: _value(tensor, leaves) for tensor in each}, {"format": "pt"})
        with atomic.writing(folder / name) as file:
            file.write(data)
    if len(files) > 1:
        index = {tensor.name: name for name, each in zip(names, files, strict=True) for tensor in each}
        size = sum(_bytes(tensor, leaves) for tensor in found)
        text = json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=2)
        atomic.write_text(folder / INDEX, text + "\n")


def _files(found: list[Tensor], leaves: Mapping[str, Any], shard_bytes: float) -> list[list[Tensor]]:
    """Tensors one after another in files of at most so many bytes. A larger tensor has a file of its own."""
    files: list[list[Tensor]] = [[]]
    size = 0
    for tensor in found:
        mine = _bytes(tensor, leaves)
        if files[-1] and size + mine > shard_bytes:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += mine
    return files


def _bytes(tensor: Tensor, leaves: Mapping[str, Any]) -> int:
    parts = 1 if tensor.layer is None else leaves[tensor.leaves[0]].shape[0]
    return sum(leaves[path].nbytes for path in tensor.leaves) // parts


def _value(tensor: Tensor, leaves: Mapping[str, Any]) -> np.ndarray:
    rows = []
    for path in tensor.leaves:
        leaf = leaves[path] if tensor.layer is None else leaves[path][tensor.layer]
        rows.append(np.asarray(leaf).T if tensor.transposed else np.asarray(leaf))
    return np.ascontiguousarray(np.concatenate(rows))


def _copy_rest(source: Path, folder: Path) -> None:
    for file in sorted(source.iterdir()):
        weights = file.suffix in _WEIGHTS or file.name.endswith(".index.json") or file.name == "config.json"
        if file.is_file() and not weights:
            shutil.copy2(file, folder / file.name)
