"""The networks by name: what builds each, what the paper prunes in it, how its stages are cut."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from flax import nnx

from prune_jax.models.lenet import LeNet5
from prune_jax.models.mlp import MLP
from prune_jax.models.refusals import unknown
from prune_jax.models.resnet_cifar import CifarResNet

Patterns = tuple[str, ...]


class ModelInfo(NamedTuple):
    """A network's entry.

    build: constructor, called with num_classes, input_shape, widths, rngs and options.
    pruned: glob patterns over the names of the groups that the paper prunes in it.
    stages: patterns for each entry of a stage list of pruning ratios (stem, stages, head).
    options: further arguments of the constructor with their defaults.
    ndim: rank of input_shape, without the batch axis (None: any).
    """

    build: Callable[..., nnx.Module]
    pruned: Patterns
    stages: tuple[Patterns, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    ndim: int | None = 3


def _stages(*blocks: int) -> tuple[Patterns, ...]:
    """Stem, one entry of blocks for each stage, head; blocks are numbered through all stages."""
    starts = [sum(blocks[:i]) for i in range(len(blocks) + 1)]
    return (("stem",), *(tuple(f"blocks/{i}/*" for i in range(a, b)) for a, b in pairwise(starts)), ("head",))


_MLP_OPTIONS = {"hidden": 100, "depth": 7, "init": "orthogonal"}
_MLP_STAGES = (("layers/*",), ("head",))
_CONV1 = ("blocks/*/conv1",)

_MODELS: Mapping[str, ModelInfo] = {
    "mlp7_linear": ModelInfo(
        partial(MLP, activation="linear"), ("layers/*",), _MLP_STAGES, _MLP_OPTIONS, ndim=None
    ),
    "mlp7_relu": ModelInfo(
        partial(MLP, activation="relu"), ("layers/*",), _MLP_STAGES, _MLP_OPTIONS, ndim=None
    ),
    "lenet5": ModelInfo(LeNet5, ("conv*",), (("conv1",), ("conv2",), ("dense1",), ("dense2",), ("head",))),
    "resnet8": ModelInfo(partial(CifarResNet, depth=8), _CONV1, _stages(1, 1, 1)),
    "resnet14": ModelInfo(partial(CifarResNet, depth=14), _CONV1, _stages(2, 2, 2)),
    "resnet20": ModelInfo(partial(CifarResNet, depth=20), _CONV1, _stages(3, 3, 3)),
    "resnet56": ModelInfo(partial(CifarResNet, depth=56), _CONV1, _stages(9, 9, 9)),
    "resnet110": ModelInfo(partial(CifarResNet, depth=110), _CONV1, _stages(18, 18, 18)),
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
    """Network `name`, randomly initialised; module(x, train=False) -> logits.

    input_shape: of one example, (height, width, channels) for convolutional networks.
    widths: channels by layer path, e.g. {'blocks/3/conv1': 8}, named after the layer that makes
    them; layers that are not named keep their own. A layer whose width a residual add ties to
    others has none: the first producer of the sum sets it for all.
    Raises ValueError that names what is wrong and what is allowed.
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
        rngs=nnx.Rngs(params=key),
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
        raise ValueError(
            f"{name} takes images: input_shape must be (height, width, channels), got {tuple(input_shape)}"
        )
