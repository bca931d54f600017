"""The networks by name: what builds each, what the paper prunes in it, how its stages are cut."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from flax import nnx

from prune_jax.models.conv_net import ConvNet
from prune_jax.models.decoder import INNER, KV_HEADS, Decoder
from prune_jax.models.keys import stream
from prune_jax.models.lenet import LeNet5
from prune_jax.models.mlp import MLP
from prune_jax.models.resnet import BasicBlock, Block, Bottleneck, ResNet
from prune_jax.models.resnet_cifar import CifarResNet
from prune_jax.models.vgg import VGG
from prune_jax.nearest import unknown

Patterns = tuple[str, ...]


class ModelInfo(NamedTuple):
    """A network's entry.

    build: constructor, called with num_classes, input_shape, widths, rngs and options.
    pruned: glob patterns over the names of the groups that the paper prunes in it.
    stages: patterns for each entry of a stage list of pruning ratios (stem, stages, head).
    options: further arguments of the constructor with their defaults.
    ndim: rank of input_shape, without the batch axis (None: any).
    dtype: of the inputs. Integers are tokens.
    blocks: the path of blocks that are built alike, of which each can be left out. Empty: there are none.
    """

    build: Callable[..., nnx.Module]
    pruned: Patterns
    stages: tuple[Patterns, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    ndim: int | None = 3
    dtype: str = "float32"
    blocks: str = ""


def _stages(*blocks: int) -> tuple[Patterns, ...]:
    """Stem, one entry of blocks for each block stage, head. Blocks are numbered through all block stages."""
    starts = [sum(blocks[:i]) for i in range(len(blocks) + 1)]
    return (("stem",), *(tuple(f"blocks/{i}/*" for i in range(a, b)) for a, b in pairwise(starts)), ("head",))


_MLP_OPTIONS = {"hidden": 100, "depth": 7, "init": "orthogonal"}
_RESNET_OPTIONS = {"zero_init_residual": False}
_DECODER_OPTIONS = {"hidden": 32, "depth": 2, "heads": 8, "kv_heads": 4, "head_dim": 8, "mlp": 64, "tied": False,
                    "scan": False, "rope_theta": 10000.0, "norm_eps": 1e-5, "qkv_bias": False}  # fmt: skip
# Facts of the paper (4, Appendix A) and of its companions' logs: the first convolution of each
# basic block, the first two of each bottleneck, all convolutions of VGG19 but the first. For the
# MLPs (every hidden layer), LeNet-5 (the convolutions), conv5_bn (all but the first) and the decoder (key and value
# heads, inner widths) the choice is ours [I].
_CONV1 = ("blocks/*/conv1",)
_CONV12 = ("blocks/*/conv1", "blocks/*/conv2")
_ALL_BUT_FIRST = tuple(f"convs/{i}" for i in range(1, 16))


def _mlp(activation: str) -> ModelInfo:
    build = partial(MLP, activation=activation)
    return ModelInfo(build, ("layers/*",), (("layers/*",), ("head",)), _MLP_OPTIONS, ndim=None)


def _cifar(depth: int) -> ModelInfo:
    n = (depth - 2) // 6
    return ModelInfo(partial(CifarResNet, depth=depth), _CONV1, _stages(n, n, n))


def _imagenet(block: Block, blocks: tuple[int, ...]) -> ModelInfo:
    pruned = _CONV1 if block is BasicBlock else _CONV12
    return ModelInfo(partial(ResNet, block=block, blocks=blocks), pruned, _stages(*blocks), _RESNET_OPTIONS)


_MODELS: Mapping[str, ModelInfo] = {
    "mlp7_linear": _mlp("linear"),
    "mlp7_relu": _mlp("relu"),
    "lenet5": ModelInfo(LeNet5, ("conv*",), (("conv1",), ("conv2",), ("dense1",), ("dense2",), ("head",))),
    "conv5_bn": ModelInfo(
        ConvNet,
        ("convs/[1-9]*",),
        (*((f"convs/{i}",) for i in range(5)), ("head",)),
        {"channels": (16, 32, 32, 64, 64), "strides": (2, 2, 1, 1, 2), "init": "default"},
    ),
    "resnet8": _cifar(8),
    "resnet14": _cifar(14),
    "resnet20": _cifar(20),
    "resnet56": _cifar(56),
    "resnet110": _cifar(110),
    "vgg19": ModelInfo(
        partial(VGG, convs=(2, 2, 4, 4, 4)),
        _ALL_BUT_FIRST,
        (*((f"convs/{i}",) for i in range(16)), ("head",)),
        {"hidden": ()},
    ),
    "resnet18": _imagenet(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _imagenet(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _imagenet(Bottleneck, (3, 4, 6, 3)),
    "decoder": ModelInfo(
        Decoder,
        (f"blocks/*{KV_HEADS}", f"blocks/*{INNER}"),
        (("embed",), ("blocks/*",), ("head",)),
        _DECODER_OPTIONS,
        ndim=1,
        dtype="int32",
        blocks="blocks",
    ),
}


def names() -> tuple[str, ...]:
    """Names that `create` knows."""
    return tuple(_MODELS)


def info(name: str) -> ModelInfo:
    """The entry of a network. Raises ValueError, with the nearest name, for an unknown one."""
    if name not in _MODELS:
        raise ValueError(unknown("model", name, _MODELS))
    return _MODELS[name]


def create(
    name: str,
    *,
    num_classes: int,
    input_shape: Sequence[int],
    widths: Mapping[str, int] | None = None,
    key: jax.Array,
    **options: Any,
) -> nnx.Module:
    """Network `name`, randomly initialised. Call it as module(x, train=False) -> logits.

    Args:
        name: of the catalog.
        num_classes: the size of the output. Of the decoder the size of its vocabulary.
        input_shape: of one example. (height, width, channels) for convolutional networks, (length,) for the decoder.
        widths: channels by layer path, such as {'blocks/3/conv1': 8}, named after the layer that makes them. Layers
            that are not named keep their own. A layer whose width a residual add ties to others has none. There the
            first producer of the sum sets the width for all.
        key: draws the weights.
        **options: further arguments of the network.

    Raises:
        ValueError: it names what is wrong and what is allowed.
    """
    entry = info(name)
    for option in options:
        if option not in entry.options:
            raise ValueError(unknown(f"option of {name}:", option, entry.options))
    _check_shape(name, entry, num_classes, input_shape)
    return entry.build(
        num_classes=num_classes,
        input_shape=tuple(input_shape),
        widths=widths,
        rngs=stream(key),
        **{**entry.options, **options},
    )


def abstract(
    name: str,
    *,
    num_classes: int,
    input_shape: Sequence[int],
    widths: Mapping[str, int] | None = None,
    **options: Any,
) -> nnx.Module:
    """`create` without arrays: every leaf is a ShapeDtypeStruct, nothing is allocated."""

    def build() -> nnx.Module:
        key = jax.random.key(0)
        return create(
            name, num_classes=num_classes, input_shape=input_shape, widths=widths, key=key, **options
        )

    return nnx.eval_shape(build)


def _check_shape(name: str, entry: ModelInfo, num_classes: int, input_shape: Sequence[int]) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if not len(input_shape) or min(input_shape) < 1:
        raise ValueError(f"input_shape must be positive sizes, got {tuple(input_shape)}")
    if entry.ndim not in (None, len(input_shape)):
        form = "images: input_shape must be (height, width, channels)"
        form = "tokens: input_shape must be (length,)" if entry.ndim == 1 else form
        raise ValueError(f"{name} takes {form}, got {tuple(input_shape)}")
