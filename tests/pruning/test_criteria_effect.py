"""What criteria are for: right after pruning, channels chosen by the data cost less accuracy than drawn ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prune_jax.pruning import allocation
from prune_jax.pruning.compensation import compensated
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.evidence import gatherer
from prune_jax.pruning.layouts.unstructured import unstructured_mask
from prune_jax.pruning.masks import apply_mask, expand

SHAPES = {"a": (64, 64), "b": (64, 64), "c": (64, 10)}


def apply(params, x):
    for name in "ab":
        x = jax.nn.relu(x @ params[name]["w"] + params[name]["b"].reshape(1, -1))
    return x @ params["c"]["w"] + params["c"]["b"].reshape(1, -1)


def loss(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()


def digits():
    # Here: importing it takes seconds, in each of pytest's processes.
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = found.images[order].reshape(-1, 64) / 16 - 0.3
    return jnp.asarray(images, jnp.float32), jnp.asarray(found.target[order])


@jax.jit
def trained(key, x, y):
    """300 steps of SGD with momentum."""
    keys = jax.random.split(key, 4)
    params = {
        name: {"w": jax.random.normal(k, shape) * jnp.sqrt(2 / shape[0]), "b": jnp.zeros(shape[1])}
        for (name, shape), k in zip(SHAPES.items(), keys[:3], strict=True)
    }
    optimizer = optax.sgd(0.1, 0.9)

    def step(carry, key):
        params, state = carry
        rows = jax.random.choice(key, len(y), (128,))
        updates, state = optimizer.update(jax.grad(loss)(params, (x[rows], y[rows])), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(keys[3], 300))[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_taylor_and_fisher_lose_less_accuracy_than_chance_at_the_same_cost(ratio):
    images, labels = digits()
    x, y, test = images[:1297], labels[:1297], (images[1297:], labels[1297:])
    batches = [(x[rows], y[rows]) for rows in np.split(np.arange(512), 4)]
    networks = [trained(jax.random.key(seed), x, y) for seed in range(5)]
    groups = find_groups(apply, networks[0], x[:1])
    gathered = gatherer({"grads", "fisher", "key"}, loss=loss, groups=groups, at_a_time=128)
    accuracy = jax.jit(lambda params: (apply(params, test[0]).argmax(-1) == test[1]).mean())

    def lost(params, facts, name, draws=1):
        """Accuracy lost with the same number of channels gone in each layer, the mean over draws."""
        left = []
        for draw in range(draws):
            scores = channel_scores(CRITERIA[name], facts._replace(key=jax.random.key(draw)))
            keep = allocation.uniform(groups, scores, ratio)
            left.append(float(accuracy(apply_mask(params, expand(params, groups, keep)))))
        return float(accuracy(params)) - np.mean(left)

    better = {"taylor": [], "fisher": []}
    for params in networks:
        assert accuracy(params) > 0.95
        facts = gathered(params, batches, jax.random.key(0))
        chance = lost(params, facts, "random", draws=5)
        for name, found in better.items():
            found.append(chance - lost(params, facts, name))
    for found in map(np.array, better.values()):
        assert (found > 0).all(), better
        assert found.mean() > 3 * found.std(ddof=1) / 5**0.5, better  # three standard errors


@pytest.mark.slow
def test_compensations_lose_less_accuracy_than_the_same_choice_without():
    """Each criterion beside its own control, of five networks: the mean over them, at a ratio that hurts."""
    images, labels = digits()
    x, y, test = images[:1297], labels[:1297], (images[1297:], labels[1297:])
    networks = [trained(jax.random.key(seed), x, y) for seed in range(5)]
    groups = find_groups(apply, networks[0], x[:1])
    gathered = gatherer({"inputs", "input_grams"}, apply=apply, groups=groups)
    accuracy = jax.jit(lambda params: (apply(params, test[0]).argmax(-1) == test[1]).mean())
    gained = {name: [] for name, criterion in CRITERIA.items() if criterion.compensate}
    for params in networks:
        facts = gathered(params, np.split(x[:1024], 4), None)
        for name, found in gained.items():
            criterion = CRITERIA[name]
            if criterion.unit == "channel":
                decision = allocation.uniform(groups, channel_scores(criterion, facts), 0.6)
                mask = expand(params, groups, decision)
            else:
                decision = mask = unstructured_mask(params, weight_scores(criterion, facts), 0.8)
            after = compensated(criterion, facts, decision)
            found.append(float(accuracy(apply_mask(after, mask)) - accuracy(apply_mask(params, mask))))
    for name, found in gained.items():
        assert np.mean(found) > 2 * np.std(found, ddof=1) / 5**0.5, (name, found)  # two standard errors
