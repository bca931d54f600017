"""A network of two matrices whose gradient is written down, for tests of mask rules; in JAX and in float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from prune_jax.pruning.mask_rules.table import RULES, Trained, begin, seen, take_step

STEPS, EPOCH, LR, MOMENTUM = 12, 3, 0.1, 0.9
SIZES = ((4, 8), (8, 4))
# What each rule of the table is tested with; a new one needs a line only where its defaults don't fit twelve steps.
GIVEN = {
    "static": {"ratio": 0.5},
    "gmp": {"ratio": 0.8, "end": 1.0},
    "sfp": {"ratio": 0.5},
    "iht": {"ratio": 0.5},
    "set": {"ratio": 0.5},
    "rigl": {"ratio": 0.5, "interval": 2, "end": 1.0},
    "ste": {},
    "sr_ste": {"decay": 0.5},
}


def params_of(seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=size).astype(np.float32) / 2 for size in SIZES)
    return {"a": {"kernel": a}, "b": {"kernel": b, "bias": np.zeros(SIZES[1][1], np.float32)}}


def batch(step, seed):
    rng = np.random.default_rng((seed, step))
    return rng.normal(size=(16, 4)).astype(np.float32), rng.normal(size=(16, 4)).astype(np.float32)


def batches(seed):
    return [np.stack(each) for each in zip(*(batch(step, seed) for step in range(STEPS)), strict=True)]


def gradients(a, b, bias, x, y):
    """Of half the mean squared error of ``x a b + bias``."""
    error = (x @ a @ b + bias.reshape(1, -1) - y) / len(x)
    return x.T @ error @ b.T, (x @ a).T @ error, error.sum(0)


def rule_of(name):
    return RULES[name].make(steps=STEPS, epoch=EPOCH, **GIVEN.get(name, {"ratio": 0.5}))


def key_at(seed, step):
    return jax.random.fold_in(jax.random.key(seed), step)


def optimizer_of():
    return optax.sgd(LR, MOMENTUM)


def started(name, seed):
    params, state = begin(rule_of(name), jax.tree.map(jax.device_put, params_of(seed)), jax.random.key(seed))
    return Trained(params, optimizer_of().init(params), state)


def run(name, now, xs, ys, key, turns):
    """Weights and masks after each step, and the end; one program whatever the weights and masks are."""
    rule = rule_of(name)

    def step(now, each):
        x, y, turn, number = each
        shown = seen(rule, now.params, now.state.mask)
        a, b, bias = gradients(shown["a"]["kernel"], shown["b"]["kernel"], shown["b"]["bias"], x, y)
        found = {"a": {"kernel": a}, "b": {"kernel": b, "bias": bias}}
        now = take_step(rule, optimizer_of(), now, found, turn, jax.random.fold_in(key, number))
        return now, (now.params, now.state.mask)

    end, history = jax.lax.scan(step, now, (xs, ys, turns, jnp.arange(STEPS)))
    return history, end


@functools.cache
def histories(name, seeds=(0, 1)):
    """Of seeds under vmap: (params, masks) with axes (seed, step), the end, and how often the program was traced."""
    traced = []

    def counted(*arguments):
        traced.append(name)
        return run(name, *arguments)

    together = jax.jit(jax.vmap(counted, in_axes=(0, 0, 0, 0, None)))
    found = []
    for group in (seeds, tuple(seed + 10 for seed in seeds)):  # other masks, the same program
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(started(name, seed) for seed in group))
        xs, ys = (np.stack(each) for each in zip(*map(batches, group), strict=True))
        keys = jnp.stack([jax.random.key(seed) for seed in group])
        found.append(together(states, xs, ys, keys, jnp.asarray(rule_of(name).turns)))
    return (*found[0], len(traced))
