"""The sizes that Flax's own layers state, read off their arrays.

Axes count from the last one, since layers may be stacked along the first.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from flax import nnx

Stays = Callable[[str, int], np.ndarray]  # (leaf, axis) -> which of its dense positions stay


def _linear(layer: Any, stays: Stays) -> dict[str, Any]:
    *_, inputs, outputs = layer.kernel.shape
    return {"in_features": inputs, "out_features": outputs}


def _linear_general(layer: Any, stays: Stays) -> dict[str, Any]:
    inputs, outputs = len(layer.in_features), len(layer.out_features)
    shape = layer.kernel.shape
    return {
        "in_features": tuple(shape[len(shape) - inputs - outputs : len(shape) - outputs]),
        "out_features": tuple(shape[len(shape) - outputs :]),
    }


def _einsum(layer: Any, stays: Stays) -> dict[str, Any]:
    shapes = {"kernel_shape": tuple(layer.kernel.shape)}
    return shapes | ({"bias_shape": tuple(layer.bias.shape)} if layer.bias is not None else {})


def _conv(layer: Any, stays: Stays) -> dict[str, Any]:
    """A group of a grouped convolution is gone where all its outputs are."""
    count = layer.feature_group_count
    if count > 1:
        count = int(stays("kernel", -1).reshape(count, -1).any(1).sum())
    rank = len(layer.kernel_shape)
    *_, inputs, outputs = layer.kernel.shape
    return {
        "feature_group_count": count,
        "in_features": inputs * count,
        "out_features": outputs,
        "kernel_shape": tuple(layer.kernel.shape[-rank:]),
    }


def _conv_transpose(layer: Any, stays: Stays) -> dict[str, Any]:
    *_, inputs, outputs = layer.kernel.shape
    if layer.transpose_kernel:
        inputs, outputs = outputs, inputs
    shape = tuple(layer.kernel.shape[-len(layer.kernel_shape) :])
    return {"in_features": inputs, "out_features": outputs, "kernel_shape": shape}


def _embed(layer: Any, stays: Stays) -> dict[str, Any]:
    *_, count, features = layer.embedding.shape
    return {"num_embeddings": count, "features": features}


def _leaf(layer: Any, *names: str) -> str | None:
    return next((name for name in names if getattr(layer, name, None) is not None), None)


def _norm(layer: Any, stays: Stays) -> dict[str, Any]:
    leaf = _leaf(layer, "scale", "bias", "mean")
    return {"num_features": getattr(layer, leaf).shape[-1]} if leaf else {}


def _group_norm(layer: Any, stays: Stays) -> dict[str, Any]:
    leaf = _leaf(layer, "scale", "bias")
    if leaf is None:
        return {}
    count = int(stays(leaf, -1).reshape(layer.num_groups, -1).any(1).sum())
    return {"num_groups": count, "group_size": getattr(layer, leaf).shape[-1] // count}


def _attention(layer: Any, stays: Stays) -> dict[str, Any]:
    inputs, heads, size = layer.query.kernel.shape[-3:]
    kv_inputs, kv_heads, _ = layer.key.kernel.shape[-3:]
    return {
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": size,
        "qkv_features": heads * size,
        "in_features": inputs,
        "in_kv_features": kv_inputs,
        "out_features": layer.out.kernel.shape[-1],
    }


def _lstm(layer: Any, stays: Stays) -> dict[str, Any]:
    return {"in_features": layer.ii.kernel.shape[-2], "hidden_features": layer.hi.kernel.shape[-2]}


def _cell(layer: Any, stays: Stays) -> dict[str, Any]:
    return {"in_features": layer.dense_i.kernel.shape[-2], "hidden_features": layer.dense_h.kernel.shape[-2]}


def _lora(layer: Any, stays: Stays) -> dict[str, Any]:
    return {"in_features": layer.lora_a.shape[-2], "out_features": layer.lora_b.shape[-1]}


LAYERS: Mapping[type, Callable[[Any, Stays], dict[str, Any]]] = MappingProxyType(
    {
        nnx.Linear: _linear,
        nnx.LinearGeneral: _linear_general,
        nnx.Einsum: _einsum,
        nnx.Conv: _conv,
        nnx.ConvTranspose: _conv_transpose,
        nnx.Embed: _embed,
        nnx.BatchNorm: _norm,
        nnx.LayerNorm: _norm,
        nnx.RMSNorm: _norm,
        nnx.InstanceNorm: _norm,
        nnx.GroupNorm: _group_norm,
        nnx.MultiHeadAttention: _attention,
        nnx.LSTMCell: _lstm,
        nnx.OptimizedLSTMCell: _cell,
        nnx.GRUCell: _cell,
        nnx.SimpleCell: _cell,
        nnx.LoRA: _lora,
    }
)


def stated(layer: Any, stays: Stays) -> dict[str, Any]:
    """Attribute -> the size that it states, of a layer of Flax's own or a class below one. {} of others."""
    rule = next((rule for kind, rule in LAYERS.items() if isinstance(layer, kind)), None)
    return rule(layer, stays) if rule else {}
