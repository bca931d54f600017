"""Parts of a batch on threads give what the whole batch gives."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from threadpoolctl import threadpool_info

from prune_jax import trainability
from prune_jax.trainability import cpu, jacobian, memory, passes
from prune_jax.trainability.mean_estimate import Plan


def network(kernels, x):
    y = jax.lax.conv_general_dilated(
        x, kernels[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(y).mean((1, 2)) @ kernels[1]


def made(examples, dtype=jnp.float32, outputs=5):
    rng = np.random.default_rng(0)
    kernels = [jnp.asarray(rng.normal(size=shape), dtype) for shape in ((3, 3, 2, 4), (4, outputs))]
    return Partial(network, kernels), jnp.asarray(rng.normal(size=(examples, 6, 6, 2)), dtype)


def exact(apply, x):
    whole = np.moveaxis(np.asarray(trainability.jacobians(apply, x), np.float64), 0, 1)
    return np.linalg.svd(whole, compute_uv=False)


def take_cores(monkeypatch, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)


@pytest.fixture
def three_cores(monkeypatch):
    take_cores(monkeypatch, 3)
    monkeypatch.setattr(memory, "CACHED", 0)


def share(apply, x, outputs=5):
    shapes = passes.abstract(passes.passes(apply), x, np.eye(outputs, dtype=np.float32), narrow=True)
    return cpu.share(x, shapes)


@pytest.mark.parametrize(
    ("examples", "chunk"),
    [(2, 3), *(pytest.param(*given, marks=pytest.mark.slow) for given in ((7, None), (9, 3)))],
)
def test_parts_give_what_the_whole_gives(three_cores, examples, chunk):
    apply, x = made(examples)
    assert share(apply, x)[0] < examples
    got = trainability.jacobian_singular_values(apply, x, chunk=chunk)
    assert got.shape == (examples, 5)
    np.testing.assert_allclose(got, exact(apply, x), rtol=1e-4, atol=1e-6)


def test_threads_work_in_the_format_of_the_caller(three_cores):
    with jax.enable_x64(True):
        apply, x = made(4, jnp.float64)
        got = trainability.jacobian_singular_values(apply, x)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got[:, :4], exact(apply, x)[:, :4], rtol=1e-12)


def test_a_plain_function_and_a_stream(three_cores):
    apply, x = made(6)
    found = trainability.spectrum(lambda v: apply(v), [x[:4], x[4:]])
    np.testing.assert_allclose(found.values[:, :4], exact(apply, x)[:, :4], rtol=1e-4)
    assert found.unresolved.tolist() == [1] * 6  # four features behind five outputs


@pytest.mark.slow
def test_the_mean_of_a_data_set(three_cores):
    apply, x = made(12)
    wanted = exact(apply, x).mean(1)
    key = jax.random.key(0)
    found = trainability.mean_jsv_estimate(lambda v: apply(v), x, budget=60, key=key, batch=6)
    np.testing.assert_allclose(found.value, wanted.mean(), rtol=1e-5)
    # four features are behind the outputs; three directions of the other two examples tell nearly all
    plan = Plan("leading", 10, leading=3, pilot=6)
    found = trainability.mean_jsv_estimate(apply, x, method=plan, key=key, batch=6)
    assert abs(found.value - wanted.mean()) < 4 * found.error
    assert found.error < 0.01 * wanted.mean()


def test_traces_of_the_caller_keep_the_batch_whole(three_cores):
    apply, x = made(6)
    seen = []

    def mean(factor):
        seen.append(share(apply, x)[0])
        scaled = Partial(network, [factor * kernel for kernel in apply.args[0]])
        return trainability.mean_jsv(scaled, x)

    wanted = float(trainability.mean_jsv(apply, x))
    got = [jax.jit(mean)(1.0), jax.vmap(mean)(jnp.ones(1))[0], jax.vjp(mean, 1.0)[0]]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert seen == [6, 6, 6]
    assert not cpu.traced()


@pytest.mark.parametrize(("cores", "examples"), [(1, 8), (3, 1)])
def test_one_core_or_one_example_takes_no_threads(monkeypatch, cores, examples):
    take_cores(monkeypatch, cores)
    monkeypatch.setattr(memory, "CACHED", 0)
    apply, x = made(examples)
    assert share(apply, x) == (examples, 1)


def test_what_fits_the_cache_stays_whole(monkeypatch):
    take_cores(monkeypatch, 3)
    apply, x = made(8)
    assert share(apply, x) == (8, 1)


def test_parts_are_as_large_as_the_cache_allows_and_as_many_as_keep_threads_busy(three_cores, monkeypatch):
    apply, x = made(24)
    each = 4 * 6 * 6 * 4  # bytes of an example's largest activation
    monkeypatch.setattr(cpu, "PART", 4 * each)
    assert share(apply, x) == (4, 3)
    monkeypatch.setattr(cpu, "PART", 1000 * each)
    assert share(apply, x) == (8, 3)


def test_memory_is_shared_by_the_threads(three_cores):
    apply, x = made(6)
    shapes = passes.abstract(passes.passes(apply), x[:2], np.eye(5, dtype=np.float32), narrow=True)
    enough = 3 * shapes.need.of(1)
    assert jacobian.jacobian_singular_values(apply, x, available=enough).shape == (6, 5)
    with pytest.raises(ValueError, match="Jacobians of 2 examples"):
        jacobian.jacobian_singular_values(apply, x, available=enough - 1)


def test_threads_of_lapack_are_given_back(three_cores):
    apply, x = made(6)
    before = [(library["filepath"], library["num_threads"]) for library in threadpool_info()]
    trainability.jacobian_singular_values(apply, x)
    assert before == [(library["filepath"], library["num_threads"]) for library in threadpool_info()]
