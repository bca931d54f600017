"""Which tensor of a checkpoint holds which leaves of a decoder."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MODEL_TYPES = ("llama", "mistral", "qwen2", "phi3")
_FUSED = ("phi3",)
_SHOWN = 3

_NORMS = {"input_layernorm": ("attention_norm",), "post_attention_layernorm": ("mlp_norm",)}
_APART = {
    **{f"self_attn.{name}_proj": (f"attention/{name}",) for name in "qkvo"},
    **{f"mlp.{name}_proj": (f"mlp/{name}",) for name in ("gate", "up", "down")},
}
_TOGETHER = {
    "self_attn.qkv_proj": ("attention/q", "attention/k", "attention/v"),
    "self_attn.o_proj": ("attention/o",),
    "mlp.gate_up_proj": ("mlp/gate", "mlp/up"),
    "mlp.down_proj": ("mlp/down",),
}


class Tensor(NamedTuple):
    """A tensor of a checkpoint.

    leaves: the leaves whose values stand in it one below the other, each transposed where it is a kernel.
    layer: of stacked blocks, which of them. None of leaves that are not stacked.
    """

    name: str
    leaves: tuple[str, ...]
    layer: int | None = None

    @property
    def transposed(self) -> bool:
        """Whether the leaves are (inputs, outputs), which the tensor holds as (outputs, inputs)."""
        return self.leaves[0].endswith("kernel")


def tensors(model_type: str, leaves: Mapping[str, Any], depth: int, stacked: bool) -> Iterator[Tensor]:
    """The tensors of a checkpoint, in the order in which the network uses them.

    Args:
        model_type: one of ``MODEL_TYPES``.
        leaves: of the decoder, by path. The tensors of those that it lacks (biases, a tied head) are left out.
        depth: number of blocks.
        stacked: whether their leaves are stacked.
    """
    yield Tensor("model.embed_tokens.weight", ("embed/embedding",))
    layers = _TOGETHER if model_type in _FUSED else _APART
    for number in range(depth):
        place, layer = ("blocks", number) if stacked else (f"blocks/{number}", None)
        for name, modules in {**_NORMS, **layers}.items():
            for kind, ours in (("weight", "scale" if name in _NORMS else "kernel"), ("bias", "bias")):
                paths = tuple(f"{place}/{module}/{ours}" for module in modules)
                if paths[0] in leaves:
                    yield Tensor(f"model.layers.{number}.{name}.{kind}", paths, layer)
    yield Tensor("model.norm.weight", ("norm/scale",))
    if "head/kernel" in leaves:
        yield Tensor("lm_head.weight", ("head/kernel",))


def check_names(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Raise ValueError, in one line, where a checkpoint has other tensors than a decoder of its config.

    Tables of rotary angles are no weights, and a head that is tied may be written a second time: both may be there.
    """
    lacking = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    extra = [name for name in extra if not name.endswith("rotary_emb.inv_freq") and name != "lm_head.weight"]
    if lacking or extra:
        parts = [f"lacks {_some(lacking)}"] * bool(lacking) + [f"has {_some(extra)} too"] * bool(extra)
        raise ValueError(
            f"{what} {' and '.join(parts)}: its tensors must be named as in {_some(list(wanted))}; rename them, or "
            "give config.json the sizes that they have"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
