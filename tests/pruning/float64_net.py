"""A network of two convolutions and a matrix product, in JAX and written out in NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.evidence import gather


def network(seed=0):
    """Kernels and biases, and five images of rank two in each channel."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (3, 3, 2, 6), "b": (2, 2, 6, 4), "head": (36, 5)}
    params = {
        name: {
            "kernel": jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=shape[-1]) / 2, jnp.float32),
        }
        for name, shape in shapes.items()
    }
    images = np.einsum("nrck,nkcs->nrsc", rng.normal(size=(40, 6, 2, 2)), rng.normal(size=(40, 2, 2, 6)))
    return params, images.astype(np.float32)


def apply(params, x):
    for name in ("a", "b"):
        x = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[name]["bias"].reshape(1, 1, 1, -1))
    return x.reshape(len(x), -1) @ params["head"]["kernel"] + params["head"]["bias"].reshape(1, -1)


def gathered(needs, seed=0):
    """The evidence of two batches of different sizes."""
    params, x = network(seed)
    groups = find_groups(apply, params, x[:1])
    return gather(needs, params, [x[:25], x[25:]], apply=apply, groups=groups)


def windows(x, size):
    """(examples, positions, size * size * features): rows of a kernel in the order (h, w, features)."""
    n = x.shape[1] - size + 1
    spots = [(i, j) for i in range(n) for j in range(n)]
    return np.stack([x[:, i : i + size, j : j + size].reshape(len(x), -1) for i, j in spots], 1)


def layers(seed=0):
    """Layer -> (its inputs (entries, rows), its kernel (rows, outputs), its bias); and the maps after each ReLU."""
    params, x = network(seed)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, found, maps = x.astype(np.float64), {}, {}
    for name, size in (("a", 3), ("b", 2)):
        rows, kernel = windows(x, size), p[name]["kernel"].reshape(-1, p[name]["kernel"].shape[-1])
        found[name] = rows.reshape(-1, rows.shape[-1]), kernel, p[name]["bias"]
        side = x.shape[1] - size + 1
        x = maps[name] = np.maximum(rows @ kernel + p[name]["bias"], 0).reshape(len(x), side, side, -1)
    found["head"] = x.reshape(len(x), -1), p["head"]["kernel"], p["head"]["bias"]
    return found, maps


def reading(group):
    """The layer that reads a group, and the channel of each of its rows."""
    reader, size = {"a": ("b", 6), "b": ("head", 4)}[group]
    rows = layers()[0][reader][1].shape[0]
    return reader, np.arange(rows) % size
