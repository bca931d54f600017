"""Deep multilayer perceptrons whose trainability is known in closed form."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax
from flax import nnx

from prune_jax.models.layers import dense
from prune_jax.models.widths import resolve
from prune_jax.nearest import unknown

_GAINS = {"linear": 1.0, "relu": math.sqrt(2.0)}
_INITS = ("orthogonal", "default")


class MLP(nnx.Module):
    """`depth` dense layers with bias: `layers/0` .. `layers/(depth-2)`, then `head`.

    Input (batch, ...), which is flattened. Output (batch, num_classes). `activation` ('linear' or 'relu') follows every
    layer but the head. Depth 7 and hidden width 100 are MLP-7 of the paper (5.1). init 'orthogonal': (semi-)orthogonal
    weights, times sqrt(2) before a ReLU, zero biases [I]. init 'default': weights and biases as `torch.nn.Linear` draws
    them. Raises ValueError for an unknown init or activation a depth below 2, a width below 1.
    """

    def __init__(
        self,
        *,
        activation: str,
        num_classes: int,
        input_shape: Sequence[int],
        rngs: nnx.Rngs,
        widths: Mapping[str, int] | None = None,
        hidden: int = 100,
        depth: int = 7,
        init: str = "orthogonal",
    ):
        _check(activation, init, depth, hidden)
        names = [f"layers/{i}" for i in range(depth - 1)]
        width = resolve(widths, dict.fromkeys(names, hidden))
        sizes = [math.prod(input_shape), *(width[name] for name in names)]
        gain = _GAINS[activation]
        self.activation = activation
        self.layers = nnx.List([_dense(a, b, init, gain, rngs) for a, b in pairwise(sizes)])
        self.head = _dense(sizes[-1], num_classes, init, 1.0, rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Logits. `train` changes nothing here."""
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        for layer in self.layers:
            x = layer(x)
            x = nnx.relu(x) if self.activation == "relu" else x
        return self.head(x)


def _check(activation: str, init: str, depth: int, hidden: int) -> None:
    if activation not in _GAINS:
        raise ValueError(unknown("activation", activation, _GAINS))
    if init not in _INITS:
        raise ValueError(unknown("init", init, _INITS))
    if depth < 2:
        raise ValueError(f"depth counts the head and must be at least 2, got {depth}")
    if hidden < 1:
        raise ValueError(f"hidden must be at least 1, got {hidden}")


def _dense(in_width: int, out_width: int, init: str, gain: float, rngs: nnx.Rngs) -> nnx.Linear:
    if init == "default":
        return dense(in_width, out_width, rngs=rngs)
    kernel, bias = nnx.initializers.orthogonal(gain), nnx.initializers.zeros
    return nnx.Linear(in_width, out_width, kernel_init=kernel, bias_init=bias, rngs=rngs)
