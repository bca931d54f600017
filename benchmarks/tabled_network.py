"""The network of jacobian_matrix_free: ResNet on MNIST images under random logits, and its Jacobians as a table."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from prune_jax import models
from prune_jax.data.packaged import read_mnist5k
from prune_jax.trainability.jacobian import jacobians

SHAPE = (28, 28, 1)


def images(count, seed=0):
    """Normalised images (count, 28, 28, 1) and labels, and as many again as are left for training."""
    pictures, labels = read_mnist5k()
    order = np.random.default_rng(seed).permutation(len(pictures))
    x = ((pictures[order] / 255 - 0.1307) / 0.3081).astype(np.float32)
    y = labels[order].astype(np.int32)
    return (x[:count], y[:count]), (x[count:], y[count:])


def trained_body(name, x, y, steps, seed=0):
    """Variables of a 10-class network after ``steps`` of Adam, batch 32; 0 sets batch statistics only."""
    network = models.functional(
        models.create(name, num_classes=10, input_shape=SHAPE, key=jax.random.key(seed))
    )
    optimiser = optax.adam(2e-3)

    def loss(params, stats, images, labels):
        logits, stats = network.apply_train({"params": params, "batch_stats": stats}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), stats

    @jax.jit
    def step(params, stats, moments, images, labels):
        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, images, labels)
        updates, moments = optimiser.update(grads, moments)
        return (optax.apply_updates(params, updates) if steps else params), stats, moments, value

    params, stats = network.variables["params"], network.variables["batch_stats"]
    moments, rng = optimiser.init(params), np.random.default_rng(seed)
    for _ in range(max(steps, 20)):
        rows = rng.integers(0, len(x), 32)
        params, stats, moments, value = step(params, stats, moments, x[rows], y[rows])
    print(f"body: {steps} training steps, last loss {float(value):.3f}", flush=True)
    return params, stats


def with_head(name, params, stats, outputs, kernel=None, seed=1):
    """The body under a head of ``outputs`` logits: random as the network draws it, or ``kernel``, as a Partial."""
    network = models.functional(
        models.create(name, num_classes=outputs, input_shape=SHAPE, key=jax.random.key(seed))
    )
    head = network.variables["params"]["head"]
    if kernel is not None:
        head = {"kernel": kernel, "bias": jnp.zeros(outputs)}
    return Partial(network.apply, {"params": {**params, "head": head}, "batch_stats": stats}), head["kernel"]


def feature_roots(name, params, stats, x, batch):
    """(n, features, features) roots L of F Fᵀ, so that W L has the singular values of J = W F."""
    features = jax.tree.leaves(params["head"]["kernel"])[0].shape[0]
    apply, _ = with_head(name, params, stats, features, jnp.eye(features))
    roots = []
    for start in range(0, len(x), batch):
        rows = jacobians(apply, jnp.asarray(x[start : start + batch]))
        gram = np.einsum("kbd,lbd->bkl", *[np.asarray(rows, np.float64)] * 2)
        values, vectors = np.linalg.eigh(gram)
        roots.append(vectors * np.sqrt(np.maximum(values, 0))[:, None])
        print(f"reference: {start + len(gram)} of {len(x)} examples", flush=True)
    return np.concatenate(roots)


def from_table(roots, kernel):
    """A cheap network whose example i has the Jacobian of the true one's, and its inputs."""
    n, features, _ = roots.shape

    def apply(roots, kernel, x):
        own = roots[jax.lax.stop_gradient(x[:, 0]).astype(jnp.int32)]
        hidden = jnp.einsum("bfg,bg->bf", own, x[:, 1 : 1 + features], precision="highest")
        return jnp.matmul(hidden, kernel, precision="highest")

    x = jnp.zeros((n, math.prod(SHAPE))).at[:, 0].set(jnp.arange(n))  # as many inputs as an image has
    return Partial(apply, jnp.asarray(roots, jnp.float32), jnp.asarray(kernel)), x
