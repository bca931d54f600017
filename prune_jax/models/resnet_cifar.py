"""Residual networks for small images: three stages, shortcuts without parameters (option A)."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.layers import conv, dense, pad_channels, subsample
from prune_jax.models.norm import BatchNorm
from prune_jax.models.widths import resolve

_STAGES = (16, 32, 64)
_TIED = "the residual adds and the zero-padded shortcuts tie it to 'stem': set that one"
_AROUND = (
    "its stage has the channels of the stage before, with others on both sides where the shortcut "
    "pads zeros, and a number wouldn't say which of them are there: set 'stem', or prune by slim()"
)


class Block(nnx.Module):
    """conv3x3, norm, ReLU, conv3x3, norm, plus the input, ReLU.

    Where the shape changes, the input is subsampled by `stride` and zero channels are put around
    it, `pad` = (before, after): option A of He et al., 2016. The padding is fixed when the block
    is built, so that a stem with fewer channels shrinks all stages by the same number.
    """

    def __init__(
        self, in_width: int, width: int, out_width: int, *, stride: int, pad: tuple[int, int], rngs: nnx.Rngs
    ):
        self.conv1 = conv(in_width, width, 3, stride=stride, rngs=rngs)
        self.bn1 = BatchNorm(width)
        self.conv2 = conv(width, out_width, 3, rngs=rngs)
        self.bn2 = BatchNorm(out_width)
        self.stride = stride
        self.pad = pad

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """(batch, h, w, in) -> (batch, ceil(h / stride), ceil(w / stride), out)."""
        y = nnx.relu(self.bn1(self.conv1(x), train=train))
        y = self.bn2(self.conv2(y), train=train)
        if self.stride != 1 or self.pad != (0, 0):
            x = pad_channels(subsample(x, self.stride), *self.pad)
        return nnx.relu(y + x)


class CifarResNet(nnx.Module):
    """ResNet of `depth` = 6n + 2 layers on (batch, height, width, channels) -> (batch, num_classes).

    3x3 stem, 3 stages of n blocks with 16, 32, 64 channels (`blocks/0` .. `blocks/(3n-1)`), mean over the pixels, one
    dense layer. Convolutions have no bias and begin He fan-out normal. Norms begin at scale 1 and bias 0. The head is
    drawn as `torch.nn.Linear` draws it. Any image size will do, 32x32x3 and 28x28x1 alike. He et al., 2016, Deep
    residual learning, 4.2. Option A as the paper's ResNet56 (Table 6). Raises ValueError for a depth that is not 6n +
    2.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
    ):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 56, 110, ...), got {depth}")
        n = (depth - 2) // 6
        w = resolve(widths, *_widths(n))
        extra = w["stem"] - _STAGES[0]
        self.stem = conv(input_shape[-1], w["stem"], 3, rngs=rngs)
        self.bn = BatchNorm(w["stem"])
        self.blocks = nnx.List([_block(i, n, w[f"blocks/{i}/conv1"], extra, rngs) for i in range(3 * n)])
        self.head = dense(_STAGES[-1] + extra, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. With `train` the norms use and record the statistics of x."""
        x = nnx.relu(self.bn(self.stem(x), train=train))
        for block in self.blocks:
            x = block(x, train=train)
        return self.head(jnp.mean(x, axis=(1, 2)))


def _widths(n: int) -> tuple[dict[str, int], dict[str, str]]:
    defaults = {"stem": _STAGES[0]} | {f"blocks/{i}/conv1": _STAGES[i // n] for i in range(3 * n)}
    tied = {f"blocks/{i}/conv2": _AROUND if i in (n, 2 * n) else _TIED for i in range(3 * n)}
    return defaults, tied


def _block(i: int, n: int, width: int, extra: int, rngs: nnx.Rngs) -> Block:
    before, after = _STAGES[max(i - 1, 0) // n], _STAGES[i // n]
    half = (after - before) // 2
    return Block(
        before + extra,
        width,
        after + extra,
        stride=2 if after != before else 1,
        pad=(half, after - before - half),
        rngs=rngs,
    )
