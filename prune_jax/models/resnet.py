"""Residual networks for large images: four stages, 1x1 shortcuts where shapes change (option B)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.layers import conv, dense, max_pool
from prune_jax.models.norm import BatchNorm
from prune_jax.models.widths import resolve

_STAGES = (64, 128, 256, 512)


class BasicBlock(nnx.Module):
    """conv3x3, norm, ReLU, conv3x3, norm, plus the shortcut, ReLU. `widths` are those of the two convolutions.

    The shortcut is the input itself, or `down` and `down_bn` (1x1 convolution, norm).
    """

    expansion = 1
    convs = 2

    def __init__(
        self, in_width: int, widths: Sequence[int], *, stride: int, down: bool, scale: float, rngs: nnx.Rngs
    ):
        width, out = widths
        self.conv1 = conv(in_width, width, 3, stride=stride, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, out, 3, rngs=rngs)
        self.bn2 = BatchNorm(out, scale=scale)
        self.down = conv(in_width, out, 1, stride=stride, rngs=rngs) if down else None
        self.down_bn = BatchNorm(out) if down else None

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(batch, h, w, in) -> (batch, ceil(h / stride), ceil(w / stride), out)."""
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        y = self.bn2(self.conv2(y), train=train)
        return nnx.relu(y + _shortcut(self, x, train))


class Bottleneck(nnx.Module):
    """conv1x1, norm, ReLU, conv3x3 (strided), norm, ReLU, conv1x1, norm, plus the shortcut, ReLU."""

    expansion = 4
    convs = 3

    def __init__(
        self, in_width: int, widths: Sequence[int], *, stride: int, down: bool, scale: float, rngs: nnx.Rngs
    ):
        first, second, out = widths
        self.conv1 = conv(in_width, first, 1, rngs=rngs)
        self.bn1 = BatchNorm(first)
        self.conv2 = conv(first, second, 3, stride=stride, rngs=rngs)
        self.bn2 = BatchNorm(second)
        self.conv3 = conv(second, out, 1, rngs=rngs)
        self.bn3 = BatchNorm(out, scale=scale)
        self.down = conv(in_width, out, 1, stride=stride, rngs=rngs) if down else None
        self.down_bn = BatchNorm(out) if down else None

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(batch, h, w, in) -> (batch, ceil(h / stride), ceil(w / stride), out)."""
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        y = nnx.relu(self.bn2(self.conv2(y), train=train))
        y = self.bn3(self.conv3(y), train=train)
        return nnx.relu(y + _shortcut(self, x, train))


Block = type[BasicBlock] | type[Bottleneck]


class ResNet(nnx.Module):
    """ResNet on (batch, height, width, channels) -> (batch, num_classes), as torchvision builds it.

    7x7 stem with stride 2, 3x3 maximum pool with stride 2, four stages of `blocks` blocks with 64, 128, 256, 512
    channels (times 4 at a bottleneck's end), mean over the pixels, dense head. Blocks are numbered through all stages:
    `blocks/0`, `blocks/1`, ... A bottleneck's stride sits on its 3x3 convolution, torchvision's variant, on which the
    paper's ResNet50 costs rest. Convolutions have no bias and begin He fan-out normal. Norms begin at scale 1 and bias
    0. With `zero_init_residual` the last norm of each block begins at scale 0. The head is drawn as `torch.nn.Linear`
    draws it. He et al., 2016, Deep residual learning for image recognition, Table 1.
    """

    def __init__(
        self,
        *,
        block: Block,
        blocks: Sequence[int],
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
        zero_init_residual: bool = False,
    ):
        places = _places(block, blocks)
        w = resolve(widths, _defaults(block, places), _tied(block, places))
        inner = [[w[f"{p.name}/conv{c}"] for c in range(1, block.convs)] for p in places]
        outer = [w["stem"], *(w[p.stream] for p in places)]
        scale = 0.0 if zero_init_residual else 1.0
        self.stem = conv(input_shape[-1], w["stem"], 7, stride=2, rngs=rngs)
        self.bn = BatchNorm(w["stem"])
        self.blocks = nnx.List(
            [
                block(
                    outer[i], (*inner[i], outer[i + 1]), stride=p.stride, down=p.down, scale=scale, rngs=rngs
                )
                for i, p in enumerate(places)
            ]
        )
        self.head = dense(outer[-1], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. With `train` the norms use and record the statistics of x."""
        x = nnx.relu(self.bn(self.stem(x), train=train))
        x = max_pool(x, 3, stride=2, padding=1)
        for block in self.blocks:
            x = block(x, train=train)
        return self.head(jnp.mean(x, axis=(1, 2)))


class _Place(NamedTuple):
    name: str
    width: int
    stream: str  # the layer that sets how many channels leave the block
    stride: int
    down: bool


def _places(block: Block, blocks: Sequence[int]) -> list[_Place]:
    places: list[_Place] = []
    stream = "stem"
    for stage, count in enumerate(blocks):
        for j in range(count):
            name = f"blocks/{len(places)}"
            down = j == 0 and (stage > 0 or block.expansion > 1)
            stream = f"{name}/conv{block.convs}" if down else stream
            stride = 2 if j == 0 and stage > 0 else 1
            places.append(_Place(name, _STAGES[stage], stream, stride, down))
    return places


def _defaults(block: Block, places: Sequence[_Place]) -> dict[str, int]:
    widths = {"stem": _STAGES[0]}
    for place in places:
        widths |= {f"{place.name}/conv{c}": place.width for c in range(1, block.convs)}
        widths.setdefault(place.stream, place.width * block.expansion)
    return widths


def _tied(block: Block, places: Sequence[_Place]) -> dict[str, str]:
    followers = [(f"{p.name}/{layer}", p.stream) for p in places for layer in ("down", f"conv{block.convs}")]
    return {
        name: f"residual adds tie it to {stream!r}: set that one"
        for name, stream in followers
        if name != stream
    }


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, train: bool) -> jax.Array:
    if block.down is None or block.down_bn is None:
        return x
    return block.down_bn(block.down(x), train=train)
