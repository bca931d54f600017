"""The ways round XLA:CPU's weak spots change no number; a warning says where one can go.

Each test runs a program with its work-around and without. No time is asserted: the machine may be busy. A warning that
comes back on an idle machine, with a jaxlib newer than ``cpu.SEEN`` names, is the sign to take the work-around out.
"""

import contextlib
import importlib.metadata
import os
import re
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from prune_jax import models, trainability
from prune_jax.trainability import cpu

NEEDED = 1.1  # times slower without it


def say_if_not_needed(what, ratio):
    if ratio < NEEDED:
        say_it_may_go(what, f"{ratio:.2f} times as slow without it")


def say_it_may_go(what, why):
    (seen,) = [version for key, version in cpu.SEEN.items() if key.startswith(what)]
    installed = importlib.metadata.version("jaxlib")
    warnings.warn(f"{what}: {why}, jaxlib {installed} (needed with {seen}): it may go", stacklevel=3)


def seconds(function):
    jax.block_until_ready(function())
    times = []
    for _ in range(3):
        start = time.perf_counter()
        found = jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return min(times), np.asarray(found)


@pytest.fixture(scope="module")
def convolutional():
    net = models.create("resnet8", num_classes=10, input_shape=(16, 16, 3), key=jax.random.key(0))
    network = models.functional(net)
    x = jax.random.normal(jax.random.key(1), (32, 16, 16, 3))
    return jax.tree_util.Partial(network.apply, network.variables), x


def test_each_has_the_jaxlib_with_which_it_was_needed():
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in cpu.SEEN.values())
    assert all(hasattr(cpu, what.split(":")[0]) or what.startswith("passes") for what in cpu.SEEN)


BATCHES = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import Mesh, PartitionSpec
rows = PartitionSpec("parts")
mesh = Mesh(np.asarray(jax.devices()), ("parts",))
apart = jax.jit(jax.shard_map(jnp.linalg.eigvalsh, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
matrices = jnp.broadcast_to(jnp.diag(jnp.arange(10.0)), (1024, 10, 10))
for _ in range(200):
    found = jax.block_until_ready(apart(matrices))
assert np.allclose(found, np.arange(10), atol=1e-5)
"""


@pytest.mark.slow
def test_lapack_on_batches():
    """Without ``each`` two devices that share two threads may stand still: a race, so the end of it proves little."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", BATCHES],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
    except subprocess.TimeoutExpired:
        return  # it is needed
    assert done.returncode == 0, done.stderr
    say_it_may_go("each", "no call waited for ever")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "name", "without"),
    [
        ("reduced: the gradients", "share", lambda x, shapes: (len(x), 1)),
        ("reduced: LAPACK's own threads", "_one_blas_thread", contextlib.nullcontext),
    ],
)
def test_parts_of_a_batch(convolutional, monkeypatch, what, name, without):
    measure = lambda: trainability.jacobian_singular_values(*convolutional, check=False)  # noqa: E731
    quick, wanted = seconds(measure)
    monkeypatch.setattr(cpu, name, without)
    slow, found = seconds(measure)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    say_if_not_needed(what, slow / quick)


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_few_columns_are_factorised_by_one_thread_of_lapack_and_the_others_come_back():
    before, inside = blas_threads(), []

    def measure():
        inside.append(blas_threads())
        return jnp.ones(1)

    for columns in ((cpu.FEW, 4 * cpu.FEW), (cpu.FEW + 1, 0), (1, 4 * cpu.FEW + 1)):
        assert cpu.alone(measure, *columns).tolist() == [1.0]
    assert inside == [{1}, before, before]
    with pytest.raises(ZeroDivisionError):
        cpu.alone(lambda: 1 / 0, 1)
    assert blas_threads() == before
    traced = jax.make_jaxpr(lambda x: cpu.alone(lambda: 2 * x, 1))(1.0)  # what is traced can't be waited for
    assert len(traced.eqns) == 1


@pytest.mark.slow
def test_small_spectra_on_threads_of_lapack(monkeypatch):
    net = models.functional(
        models.create("mlp7_relu", num_classes=10, input_shape=(28, 28, 1), key=jax.random.key(0))
    )
    x = jax.random.normal(jax.random.key(1), (100, 28, 28, 1))
    apply = jax.tree_util.Partial(net.apply, net.variables)
    measure = lambda: trainability.jacobian_singular_values(apply, x, check=False)  # noqa: E731
    quick, wanted = seconds(measure)
    monkeypatch.setattr(cpu, "_one_blas_thread", contextlib.nullcontext)
    slow, found = seconds(measure)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    say_if_not_needed("alone", slow / quick)


@pytest.mark.slow
def test_gradients_of_convolutions_in_a_compiled_loop():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 16, 16))
    x = jax.random.normal(jax.random.key(1), (8, 16, 16, 16))
    seeds = jax.random.normal(jax.random.key(2), (10, 8, 16, 16, 16))
    layers = ("NHWC", "HWIO", "NHWC")
    convolve = lambda v: jax.lax.conv_general_dilated(v, kernel, (1, 1), "SAME", dimension_numbers=layers)  # noqa: E731
    pull = jax.jit(lambda x, seed: jax.vjp(convolve, x)[1](seed)[0])
    loop = jax.jit(lambda x, seeds: jax.lax.map(lambda seed: pull(x, seed), seeds))
    quick, wanted = seconds(lambda: jnp.stack([pull(x, seed) for seed in seeds]))
    slow, found = seconds(lambda: loop(x, seeds))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    say_if_not_needed("passes", slow / quick)
