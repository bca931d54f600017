"""A plain stack of convolutions with batch norm, small enough to train on a CPU within minutes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.layers import Init, conv, dense, he_fan_out
from prune_jax.models.norm import BatchNorm
from prune_jax.models.widths import resolve
from prune_jax.nearest import one_of

INITS = ("default", "orthogonal")


class ConvNet(nnx.Module):
    """3x3 convolutions on (batch, height, width, channels) -> (batch, num_classes), no pool and no shortcut.

    Each convolution has no bias, is padded by 1, and batch norm and ReLU follow. The mean over what is left of the
    image goes into one dense layer. Layers are `convs/0`, `convs/1`, ... with their norms `bns/0`, `bns/1`, ...
    Convolutions are He fan-out normal, norms 1 and 0, the dense layer as `torch.nn.Linear` draws it.

    Args:
        num_classes: outputs.
        input_shape: (height, width, channels) of an image.
        rngs: random streams of the initial weights.
        widths: channels by layer path, e.g. {'convs/1': 8}. Layers that are not named have those of `channels`.
        channels: channels of each convolution.
        strides: stride of each convolution, as many as `channels`.
        init: 'default' as above, or 'orthogonal'. Then every kernel, flattened to its inputs and outputs, is
            (semi-)orthogonal with gain 1, and the dense layer's bias is 0.

    Raises:
        ValueError: for strides that are not as many as channels or below 1, an unknown init and unknown widths.

    Example:
        >>> import jax
        >>> from prune_jax import models
        >>> net = models.functional(models.abstract("conv5_bn", num_classes=10, input_shape=(28, 28, 1)))
        >>> sum(leaf.size for leaf in jax.tree.leaves(net.variables["params"]))
        70330

    Source: the shape is ours, as is the choice of widths and strides.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
        channels: Sequence[int] = (16, 32, 32, 64, 64),
        strides: Sequence[int] = (2, 2, 1, 1, 2),
        init: str = "default",
    ):
        if not channels or len(channels) != len(strides) or min(strides) < 1:
            raise ValueError(
                f"channels {tuple(channels)} and strides {tuple(strides)}: give at least one convolution, and each one "
                "stride of at least 1"
            )
        w = resolve(widths, {f"convs/{i}": width for i, width in enumerate(channels)})
        sizes = [input_shape[-1], *(w[f"convs/{i}"] for i in range(len(channels)))]
        orthogonal = one_of("init", init, INITS) == "orthogonal"
        kernels: Init = nnx.initializers.orthogonal() if orthogonal else he_fan_out
        self.convs = nnx.List(
            [
                conv(a, b, 3, stride=s, rngs=rngs, init=kernels)
                for (a, b), s in zip(pairwise(sizes), strides, strict=True)
            ]
        )
        self.bns = nnx.List([BatchNorm(size) for size in sizes[1:]])
        self.head = (
            nnx.Linear(
                sizes[-1], num_classes, kernel_init=kernels, bias_init=nnx.initializers.zeros, rngs=rngs
            )
            if orthogonal
            else dense(sizes[-1], num_classes, rngs=rngs)
        )

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. With `train` the norms use and record the statistics of x."""
        for layer, norm in zip(self.convs, self.bns, strict=True):
            x = nnx.relu(norm(layer(x), train=train))
        return self.head(jnp.mean(x, axis=(1, 2)))
