"""LeNet-5, the smallest convolutional network with a flatten."""

from collections.abc import Mapping, Sequence

import jax
from flax import nnx

from prune_jax.models.layers import dense, max_pool, torch_default, uniform_bias
from prune_jax.models.widths import resolve

_DEFAULTS = {"conv1": 6, "conv2": 16, "dense1": 120, "dense2": 84}
_SMALLEST = 12


class LeNet5(nnx.Module):
    """LeNet-5-style network on (batch, height, width, channels) -> (batch, num_classes).

    5x5 convolution (pad 2), pool, 5x5 convolution (no pad), pool, flatten, dense 120, 84, head. ReLU and 2x2 maximum
    pooling take the place of the original's tanh and trained averages. All layers have a bias. Weights and biases are
    drawn as PyTorch draws them by default. LeCun et al., 1998, Gradient-based learning applied to document recognition.
    Raises ValueError for inputs smaller than 12x12, of which nothing would be left.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
    ):
        height, width, channels = input_shape
        if min(height, width) < _SMALLEST:
            raise ValueError(
                f"lenet5 needs images of at least {_SMALLEST}x{_SMALLEST}, got {tuple(input_shape)}"
            )
        w = resolve(widths, _DEFAULTS)
        pixels = ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.conv1 = _conv5(channels, w["conv1"], 2, rngs)
        self.conv2 = _conv5(w["conv1"], w["conv2"], 0, rngs)
        self.dense1 = dense(pixels * w["conv2"], w["dense1"], rngs=rngs)
        self.dense2 = dense(w["dense1"], w["dense2"], rngs=rngs)
        self.head = dense(w["dense2"], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. `train` changes nothing here."""
        x = max_pool(nnx.relu(self.conv1(x)), 2, stride=2)
        x = max_pool(nnx.relu(self.conv2(x)), 2, stride=2)
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
        x = nnx.relu(self.dense1(x))
        x = nnx.relu(self.dense2(x))
        return self.head(x)


def _conv5(in_width: int, out_width: int, pad: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        in_width,
        out_width,
        (5, 5),
        padding=((pad, pad), (pad, pad)),
        kernel_init=torch_default,
        bias_init=uniform_bias(25 * in_width),
        rngs=rngs,
    )
