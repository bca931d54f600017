"""Four parts of a researcher's own, which ``your_own.py`` names: nothing in the package is edited."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from prune_jax.pruning.jaxpr.reading import leaf_paths


class SmallCNN(nnx.Module):
    """Two convolutions with batch norm, then dropout and a linear layer."""

    def __init__(self, num_classes, input_shape, rngs, width=16):
        self.convs = nnx.List(
            [nnx.Conv(n, width, (3, 3), strides=2, rngs=rngs) for n in (input_shape[-1], width)]
        )
        self.norms = nnx.List([nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for _ in range(2)])
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, x):
        """Images ``(n, h, w, c)`` to logits."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return self.head(self.dropout(x.mean((1, 2))))


def load(split_seed):
    """scikit-learn's digits as floats in 0..1: 1,297 to train, 500 to test."""
    digits = load_digits()
    order = np.random.default_rng(split_seed).permutation(len(digits.target))
    images, labels = digits.images[order] / 16, digits.target[order]
    return {"train": (images[500:], labels[500:]), "test": (images[:500], labels[:500])}


def bn_scale(evidence):
    """|scale| of each channel's batch norm (Liu et al., ICCV 2017), found through the groups, not by layer names."""
    leaves, scores = dict(leaf_paths(evidence.params)), {}
    for group in evidence.groups:
        scores[group.name] = jnp.zeros(group.size)
        for path, _, channel in group.members:
            if path.endswith("/scale"):  # channel[i] is the channel of position i, -1 for another group's
                size = jnp.abs(leaves[path][channel >= 0])
                scores[group.name] = scores[group.name].at[channel[channel >= 0]].add(size)
    return scores


def my_sgd(learning_rate, momentum=0.9):
    """Any optax transformation; the learning rate comes from the schedule."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum, nesterov=True))
