"""VGG with batch norm: a plain stack, no shortcut anywhere."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.layers import conv, dense, max_pool
from prune_jax.models.norm import BatchNorm
from prune_jax.models.widths import resolve

_STAGES = (64, 128, 256, 512, 512)


class VGG(nnx.Module):
    """VGG on (batch, height, width, channels) -> (batch, num_classes).

    Five stages of `convs` 3x3 convolutions with 64, 128, 256, 512, 512 channels, each convolution with norm and ReLU
    and without bias, 2x2 maximum pool between stages, mean over what is left, one dense layer: VGG19 as the pruning
    literature uses it on CIFAR. Layers are numbered through all stages: `convs/0` .. `convs/15` with their norms
    `bns/0` .. `bns/15`. With `hidden` widths, e.g. (4096, 4096), it is the ImageNet network instead: a fifth pool,
    flatten, dense layers `dense/0`, `dense/1` with ReLU (but without torchvision's dropout), head. Convolutions begin
    He fan-out normal. Norms begin at scale 1 and bias 0. Dense layers are drawn as `torch.nn.Linear` draws them.
    Simonyan and Zisserman, 2015, configuration E. Costs as the paper's Table 7. Raises ValueError for images so small
    (below 16x16, or 32x32 with `hidden`) that the pools would leave nothing.
    """

    def __init__(
        self,
        *,
        convs: Sequence[int],
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
        hidden: Sequence[int] = (),
    ):
        pools = len(convs) - (0 if hidden else 1)
        if min(input_shape[:2]) < 2**pools:
            raise ValueError(
                f"vgg19 needs images of at least {2**pools}x{2**pools}, got {tuple(input_shape)}"
            )
        plain = [width for width, count in zip(_STAGES, convs, strict=True) for _ in range(count)]
        w = resolve(widths, _defaults(plain, hidden))
        sizes = [input_shape[-1], *(w[f"convs/{i}"] for i in range(len(plain)))]
        self.convs = nnx.List([conv(a, b, 3, rngs=rngs) for a, b in pairwise(sizes)])
        self.bns = nnx.List([BatchNorm(size) for size in sizes[1:]])
        pixels = (input_shape[0] // 2**pools) * (input_shape[1] // 2**pools) if hidden else 1
        sizes = [pixels * sizes[-1], *(w[f"dense/{i}"] for i in range(len(hidden)))]
        self.dense = nnx.List([dense(a, b, rngs=rngs) for a, b in pairwise(sizes)])
        self.head = dense(sizes[-1], num_classes, rngs=rngs)
        self.pooled = tuple(sum(convs[: stage + 1]) - 1 for stage in range(pools))

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. With `train` the norms use and record the statistics of x."""
        for i, (layer, norm) in enumerate(zip(self.convs, self.bns, strict=True)):
            x = nnx.relu(norm(layer(x), train=train))
            x = max_pool(x, 2, stride=2) if i in self.pooled else x
        if not len(self.dense):
            return self.head(jnp.mean(x, axis=(1, 2)))
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
        for hidden in self.dense:
            x = nnx.relu(hidden(x))
        return self.head(x)


def _defaults(plain: Sequence[int], hidden: Sequence[int]) -> dict[str, int]:
    widths = {f"convs/{i}": width for i, width in enumerate(plain)}
    return widths | {f"dense/{i}": width for i, width in enumerate(hidden)}
