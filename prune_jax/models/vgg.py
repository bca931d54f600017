"""VGG with batch norm for small images: a plain stack, no shortcut anywhere."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from prune_jax.models.layers import batch_norm, conv, dense, max_pool
from prune_jax.models.widths import resolve

_STAGES = (64, 128, 256, 512, 512)
_SMALLEST = 16


class VGG(nnx.Module):
    """VGG on (batch, height, width, channels) -> (batch, num_classes).

    Five stages of `convs` 3x3 convolutions with 64, 128, 256, 512, 512 channels, each convolution
    with norm and ReLU and without bias, 2x2 maximum pool between stages, mean over what is left,
    one dense layer: VGG19 as the pruning literature uses it on CIFAR. Layers are numbered through
    all stages: `convs/0` .. `convs/15` with their norms `bns/0` .. `bns/15`.
    Convolutions He fan-out normal; norms 1 and 0; the head as `torch.nn.Linear` draws it.
    Simonyan and Zisserman, 2015, configuration E; costs as the paper's Table 7.
    Raises ValueError for images smaller than 16x16, of which the pools would leave nothing.
    """

    def __init__(
        self,
        *,
        convs: Sequence[int],
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
    ):
        if min(input_shape[:2]) < _SMALLEST:
            raise ValueError(
                f"vgg needs images of at least {_SMALLEST}x{_SMALLEST}, got {tuple(input_shape)}"
            )
        plain = [width for width, count in zip(_STAGES, convs, strict=True) for _ in range(count)]
        w = resolve(widths, {f"convs/{i}": width for i, width in enumerate(plain)})
        sizes = [input_shape[-1], *w.values()]
        self.convs = nnx.List([conv(sizes[i], sizes[i + 1], 3, rngs=rngs) for i in range(len(plain))])
        self.bns = nnx.List([batch_norm(size, rngs=rngs) for size in sizes[1:]])
        self.head = dense(sizes[-1], num_classes, rngs=rngs)
        self.pooled = tuple(sum(convs[: s + 1]) - 1 for s in range(len(convs) - 1))

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits; with `train` the norms use and record the statistics of x."""
        for i, (layer, norm) in enumerate(zip(self.convs, self.bns, strict=True)):
            x = nnx.relu(norm(layer(x), use_running_average=not train))
            x = max_pool(x, 2, stride=2) if i in self.pooled else x
        return self.head(jnp.mean(x, axis=(1, 2)))
