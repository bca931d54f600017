"""Estimates of memory are within a factor of 2 of what XLA allots, for every kind of network and instrument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax.trainability import cpu, learning, memory, operators, passes

OUTPUTS = 4


def weights(**shapes):
    rng = np.random.default_rng(0)  # of NumPy: drawn where the file is read, in each of pytest's processes
    return {
        name: jax.device_put((0.3 * rng.normal(size=shape)).astype(np.float32))
        for name, shape in shapes.items()
    }


def mlp(w, x):
    return jax.nn.relu(jax.nn.relu(x @ w["a"]) @ w["b"]) @ w["c"]


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv(w, x):
    first = jax.nn.relu(convolve(x, w["a"]))
    return (first + jax.nn.relu(convolve(first, w["b"]))).mean((1, 2)) @ w["c"]


def vgg(w, x):
    for name in "ab":
        x = jax.lax.reduce_window(
            jax.nn.relu(convolve(x, w[name])), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
    return jax.nn.relu(x.reshape(len(x), -1) @ w["c"]) @ w["d"]


def recurrent(w, x):
    def step(h, now):
        return jnp.tanh(now @ w["a"] + h @ w["b"]), None

    start = jnp.zeros((len(x), len(w["b"])))
    return jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))[0] @ w["c"]


def attention(w, x):
    q, k, v = (x @ w[name] for name in "qkv")
    x = x + jax.nn.softmax(q @ k.mT / 4) @ v
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x + jax.nn.gelu(x @ w["a"]) @ w["b"]).mean(1) @ w["c"]


NETWORKS = {
    "mlp": (mlp, weights(a=(48, 64), b=(64, 32), c=(32, OUTPUTS)), (16, 48)),
    "conv": (conv, weights(a=(3, 3, 2, 8), b=(3, 3, 8, 8), c=(8, OUTPUTS)), (4, 12, 12, 2)),
    "vgg": (vgg, weights(a=(3, 3, 3, 8), b=(3, 3, 8, 16), c=(144, 24), d=(24, OUTPUTS)), (4, 12, 12, 3)),
    "recurrent": (recurrent, weights(a=(8, 24), b=(24, 24), c=(24, OUTPUTS)), (8, 10, 8)),
    "attention": (
        attention,
        weights(q=(16, 16), k=(16, 16), v=(16, 16), a=(16, 64), b=(64, 16), c=(16, OUTPUTS)),
        (4, 12, 16),
    ),
}


def allotted(lowered, arguments=True):
    found = lowered.compile().memory_analysis()
    given = found.argument_size_in_bytes if arguments else 0
    return found.temp_size_in_bytes + found.output_size_in_bytes + given


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_spectra(name):
    apply, w, shape = NETWORKS[name]
    x, rows, network = jnp.ones(shape), np.eye(OUTPUTS, dtype=np.float32), passes.passes(Partial(apply, w))
    need = passes.abstract(network, x, rows, narrow=True).need
    target, given = cpu.bare(network.values)
    used = allotted(target.lower(*given, x, rows, method="svd"))
    assert used / 2 < need.of(OUTPUTS) < 2 * used


@pytest.mark.parametrize("name", NETWORKS)
def test_single_products(name):
    apply, w, shape = NETWORKS[name]
    x, network = jnp.ones(shape), passes.passes(Partial(apply, w))
    target, given = cpu.bare(network.forward)
    logits, held = network.logits(x), target.eval_shape(*given, x, None, narrow=False).pull_back
    need = operators.product_need(network, held, x, logits)
    pull = network.pull.lower(held, jnp.ones((3, *logits.shape)), 0, step=3, batch=None)
    used = memory.size_of(jax.tree.leaves(held)) + allotted(pull, arguments=False)
    assert used / 2 < need.of(3) < 2 * used


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_over_params(name, monkeypatch):
    apply, w, shape = NETWORKS[name]

    def look(traced, *_):
        used = allotted(traced.lower(), arguments=False)
        assert used / 2 < sum(memory.live(traced, [-1])) < 2 * used
        raise KeyError("seen")

    monkeypatch.setattr(learning, "_refuse_too_large", look)
    with pytest.raises(KeyError, match="seen"):
        learning.ntk_matrix(apply, w, jnp.ones(shape), check=False)


def test_values_live_from_where_they_are_made_to_their_last_use():
    def program(kernel, x):
        y = x @ jnp.transpose(kernel)  # 400 bytes of a copy that doesn't depend on x, and 80
        z = jnp.tanh(y) + 1  # written over y
        return z @ kernel  # 80 more

    traced = jax.jit(program).trace(jnp.ones((10, 10)), jnp.ones((2, 10)))
    assert memory.live(traced, [-1]) == (400, 160)
    assert memory.live(traced, [0]) == (0, 480)
    looped = jax.jit(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, 5)[0])
    assert memory.live(looped.trace(jnp.ones((10, 10))), [0]) == (0, 800)  # the carry twice
