"""config.json and the sizes of a decoder, both ways."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax.models.checkpoints.layout import MODEL_TYPES
from prune_jax.nearest import unknown

CLASSES = {name: f"{name.capitalize()}ForCausalLM" for name in MODEL_TYPES}
# What our decoder computes. A checkpoint that says otherwise is another network.
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "rope_scaling": None,
    "partial_rotary_factor": 1.0,
}
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def options_of(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of ``Decoder``, of the network that a config.json describes.

    Args:
        config: the file's content.
        where: the file, for messages.

    Raises:
        ValueError: the network isn't one that ``Decoder`` computes. The message names the key and what is allowed.
    """
    if config.get("model_type") not in MODEL_TYPES:
        raise ValueError(f"{where}: {unknown('model_type', str(config.get('model_type')), MODEL_TYPES)}")
    for name in _NEEDED:
        if name not in config:
            raise ValueError(f"{where} lacks {name!r}; it needs {', '.join(_NEEDED)}")
    rope = dict(config.get("rope_parameters") or {})
    _check_fixed({**config, **{k: rope[k] for k in ("partial_rotary_factor",) if k in rope}}, rope, where)
    heads = config["num_attention_heads"]
    return {
        "num_classes": config["vocab_size"],
        "hidden": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "mlp": config["intermediate_size"],
        "tied": bool(config.get("tie_word_embeddings", False)),
        "rope_theta": float(rope.get("rope_theta", config.get("rope_theta") or 10000.0)),
        "norm_eps": float(config.get("rms_norm_eps", 1e-6)),
        "qkv_bias": config["model_type"] == "qwen2",
    }


def _check_fixed(config: Mapping[str, Any], rope: Mapping[str, Any], where: str) -> None:
    for name, value in _FIXED.items():
        windowed = name == "sliding_window" and not config.get("use_sliding_window", True)
        if name in config and config[name] != value and config[name] is not None and not windowed:
            raise ValueError(
                f"{where}: {name} is {config[name]!r}, but our decoder computes {name}={value!r} alone; where inputs "
                "are so short that it changes nothing, set it to that"
            )
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"{where}: rope_type is {rope['rope_type']!r}; our decoder computes 'default' alone")


def config_of(
    net: Any, leaves: Mapping[str, Any], like: Mapping[str, Any], model_type: str
) -> dict[str, Any]:
    """config.json of a decoder: ``like`` with the sizes that the leaves have now.

    Args:
        net: the decoder.
        leaves: its leaves, or their shapes, by path.
        like: another checkpoint's config, whose other keys stay.
        model_type: one of ``MODEL_TYPES``.

    Raises:
        ValueError: blocks differ in size, or ``transformers`` would refuse the sizes.
    """
    places = [path.removesuffix("/mlp/gate/kernel") for path in leaves if path.endswith("/mlp/gate/kernel")]
    sizes = {place: _block_sizes(leaves, place, _head_dim(net)) for place in places}
    if len(set(sizes.values())) > 1:
        one, other = list(dict.fromkeys(sizes.values()))[:2]
        first, second = (next(p for p, s in sizes.items() if s == size) for size in (one, other))
        raise ValueError(
            f"{first!r} has {_said(one)} and {second!r} has {_said(other)}, but config.json states one number for all "
            "blocks: prune them alike (one ratio, scope='layer'), or write the network with prune_jax.save"
        )
    heads, kv_heads, inner = next(iter(sizes.values()))
    vocabulary, hidden = np.shape(leaves["embed/embedding"])
    if model_type == "llama" and hidden % heads:
        raise ValueError(
            f"transformers takes a 'llama' whose hidden_size is a multiple of num_attention_heads, not {hidden} and "
            f"{heads}: prune to {_divisors(hidden, heads)} heads, or give model_type='mistral', which computes the same"
        )
    return {
        **{key: value for key, value in like.items() if key != "layer_types"},
        "model_type": model_type,
        "architectures": [CLASSES[model_type]],
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": depth_of(net, leaves),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": _head_dim(net),
        "tie_word_embeddings": net.tied,
        "rms_norm_eps": net.norm.epsilon,
        **({} if "rope_parameters" in like else {"rope_theta": _block(net).attention.rope_theta}),
        **({} if like else {"hidden_act": "silu", "sliding_window": None}),
    }


def depth_of(net: Any, leaves: Mapping[str, Any]) -> int:
    """The number of blocks."""
    return np.shape(leaves["blocks/mlp/gate/kernel"])[0] if net.scan else len(net.blocks)


def _block(net: Any) -> Any:
    return net.blocks if net.scan else net.blocks[0]


def _head_dim(net: Any) -> int:
    return _block(net).attention.head_dim


def _block_sizes(leaves: Mapping[str, Any], place: str, head_dim: int) -> tuple[int, int, int]:
    q, k, gate = (
        np.shape(leaves[f"{place}/{name}/kernel"])[-1] for name in ("attention/q", "attention/k", "mlp/gate")
    )
    return q // head_dim, k // head_dim, gate


def _said(sizes: tuple[int, int, int]) -> str:
    heads, kv_heads, inner = sizes
    return f"{heads} heads, {kv_heads} key and value heads and {inner} inner channels"


def _divisors(hidden: int, heads: int) -> str:
    return " or ".join(str(n) for n in range(1, heads) if hidden % n == 0)
