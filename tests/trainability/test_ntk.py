import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.trainability import krylov, memory
from prune_jax.trainability.learning import ntk_matrix, ntk_product, ntk_spectrum, ntk_top, ntk_trace


def tanh_net(p, x):
    return jnp.tanh(x @ p["in"]) @ p["out"][0]


def tiny(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    params = {
        "in": jnp.asarray(rng.normal(size=(5, 6)), dtype),
        "out": [jnp.asarray(rng.normal(size=(6, 3)), dtype)],
    }
    return params, jnp.asarray(rng.normal(size=(4, 5)), dtype)


def dense(params, x):
    """The kernel in float64 from the closed-form gradients of the two layers: (N K, N K)."""
    first, second, x = (np.asarray(a, np.float64) for a in (params["in"], params["out"][0], x))
    h = np.tanh(x @ first)
    n, k = len(x), second.shape[1]
    rows = []
    for i in range(n):
        for o in range(k):
            by_first = np.outer(x[i], (1 - h[i] ** 2) * second[:, o])
            by_second = np.outer(h[i], np.eye(k)[o])
            rows.append(np.concatenate([by_first.ravel(), by_second.ravel()]))
    j = np.array(rows)
    return j @ j.T


def linear(p, x):
    return x @ p


def test_the_full_kernel_its_trace_form_and_its_spectrum_against_closed_form_gradients():
    params, x = tiny()
    wanted = dense(params, x)
    full, traced, spectrum = jax.jit(
        lambda p, v: (
            ntk_matrix(tanh_net, p, v),
            ntk_matrix(tanh_net, p, v, kernel="trace"),
            ntk_spectrum(tanh_net, p, v),
        )
    )(params, x)
    np.testing.assert_allclose(full, wanted, atol=2e-5)
    blocks = wanted.reshape(4, 3, 4, 3)
    np.testing.assert_allclose(traced, np.einsum("ikjk->ij", blocks) / 3, atol=2e-5)
    eigenvalues = np.linalg.eigvalsh(wanted)[::-1]
    np.testing.assert_allclose(spectrum.eigenvalues, eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(spectrum.condition, eigenvalues[0] / eigenvalues[-1], rtol=1e-3)
    np.testing.assert_allclose(spectrum.trace, np.trace(wanted), rtol=1e-5)
    assert spectrum.rank == 12


def test_a_linear_model_has_k_copies_of_the_inputs_gram_matrix_and_unresolved_values_are_counted():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 6))
    x[3] = x[0] - 2 * x[1]  # three independent examples
    weights, x32 = jnp.zeros((6, 2)), jnp.asarray(x, jnp.float32)
    values = np.linalg.svd(x, compute_uv=False) ** 2

    @jax.jit
    def all_of(p, v):
        traced = ntk_spectrum(linear, p, v, kernel="trace")
        return ntk_spectrum(linear, p, v), traced, ntk_top(linear, p, v, jax.random.key(0), count=2, steps=4)

    spectrum, traced, top = all_of(weights, x32)
    assert spectrum.rank == 6
    assert len(spectrum.eigenvalues) == 8
    np.testing.assert_allclose(spectrum.eigenvalues, np.repeat(values, 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(spectrum.condition, values[0] / values[2], rtol=1e-4)
    np.testing.assert_allclose(traced.eigenvalues, values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(top.values, np.repeat(values[0], 2), rtol=1e-5)  # once each, twice in all


def test_dead_networks_have_no_condition_number():
    dead = lambda p, x: x @ (p * 0)  # noqa: E731
    spectrum = jax.jit(lambda p, x: ntk_spectrum(dead, p, x))(jnp.ones((3, 2)), jnp.ones((2, 3)))
    assert spectrum.rank == 0
    assert np.isnan(spectrum.condition)


def test_products_equal_the_matrix_and_the_trace_estimate_is_within_its_error():
    params, x = tiny()
    wanted = dense(params, x)
    product, outputs = ntk_product(tanh_net, params, x)
    v = np.random.default_rng(2).normal(size=outputs.shape)
    np.testing.assert_allclose(
        jax.jit(product)(jnp.asarray(v, jnp.float32)).ravel(), wanted @ v.ravel(), rtol=1e-4, atol=1e-4
    )
    probes, keys = 4, jax.random.split(jax.random.key(0), 300)
    estimates = jax.jit(jax.vmap(lambda key: ntk_trace(tanh_net, params, x, key, probes=probes)))(keys)
    # closed form of one sample's variance for random signs: twice the squares off the diagonal
    variance = 2 * (np.sum(wanted**2) - np.sum(np.diag(wanted) ** 2))
    expected = (variance / probes) ** 0.5
    assert abs(np.mean(estimates.value) - np.trace(wanted)) < 3.5 * expected / len(keys) ** 0.5
    np.testing.assert_allclose(np.std(estimates.value), expected, rtol=0.15)
    np.testing.assert_allclose(np.mean(np.square(estimates.error)) ** 0.5, expected, rtol=0.15)
    assert estimates.pull_backs[0] == probes


def test_top_eigenvalues_are_bounded_from_both_sides():
    params, x = tiny()
    eigenvalues = np.linalg.eigvalsh(dense(params, x))[::-1]
    got = jax.jit(lambda p: ntk_top(tanh_net, p, x, jax.random.key(3), count=3, steps=3))(params)
    assert got.products == 9
    values, bounds = np.asarray(got.values), np.asarray(got.residuals)
    assert np.all(values <= eigenvalues[:3] * (1 + 1e-5))
    assert np.all(np.abs(values[:, None] - eigenvalues[None]).min(1) <= bounds + 1e-4)
    np.testing.assert_allclose(values[0], eigenvalues[0], rtol=1e-3)


def test_an_exhausted_krylov_space_is_no_harm():
    rng = np.random.default_rng(4)
    q = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    spectrum = np.array([5.0] * 3 + [1.0] * 9)  # two blocks of a Krylov space hold everything
    matrix = jnp.asarray(q * spectrum @ q.T, jnp.float32)

    @jax.jit
    def top(key):
        return krylov.top_eigenvalues(
            lambda v: v @ matrix, 12, key, count=4, steps=3, dtype=jnp.dtype("float32")
        )

    got = top(jax.random.key(0))
    np.testing.assert_allclose(got.values, [5, 5, 5, 1], rtol=1e-5)
    assert np.max(got.residuals) < 1e-4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: ntk_matrix(linear, p, x[:0]), "at least one example"),
        (lambda p, x: ntk_matrix(lambda p, v: (v @ p)[:, None], p, x), r"\(3, 1, 2\).*reduce the other axes"),
        (lambda p, x: ntk_matrix(linear, p, x, kernel="sum"), "kernel 'sum' is none of 'full', 'trace'"),
        (lambda p, x: ntk_matrix(linear, {"w": p * jnp.nan}, x), "leaf 'w' holds NaN"),
        (lambda p, x: ntk_trace(linear, p, x, jax.random.key(0), probes=1), "at least 2 probes, got 1"),
        (lambda p, x: ntk_top(linear, p, x, jax.random.key(0), count=2, steps=4), "most the 6 dim"),
        (
            lambda p, x: ntk_trace(linear, p, x, jax.random.key(0), probes=2.5),
            "probes 2.5 is not a whole number",
        ),
        (lambda p, x: ntk_spectrum(linear, p, x, rtol=-1.0), r"in \[0, 1\), got -1.0"),
        (
            lambda p, x: ntk_spectrum(linear, p, x.at[1].set(jnp.nan)),
            "input of 1 of 3 examples is not finite",
        ),
        (
            lambda p, x: ntk_spectrum(lambda p, v: jnp.exp(100 * (v @ p)), p, x),
            "activations or gradients overflow",
        ),
        (
            lambda p, x: ntk_trace(lambda p, v: (v @ p > 0).astype(int), p, x, jax.random.key(0), probes=2),
            "floating",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((4, 2)), jnp.ones((3, 4)))


def test_what_a_coarse_format_rounds_is_no_rank():
    rng = np.random.default_rng(5)
    x, weights = (
        jnp.asarray(rng.normal(size=(6, 5)), jnp.float32),
        jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
    )
    x = x.at[4].set(x[0] + x[1]).at[5].set(x[2] - x[3])  # four directions, three outputs: rank 12 of 18

    def network(p, v):
        return (v.astype(p.dtype) @ p).astype(jnp.float32)

    assert ntk_spectrum(network, weights, x).rank == 12
    assert ntk_spectrum(network, weights.astype(jnp.bfloat16), x).rank == 12


def test_a_kernel_that_memory_does_not_take_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(memory, "available", lambda: memory.COPIES * 4 * 8 * 2 * 3 * 2 // 3)
    with pytest.raises(
        ValueError, match=r"kernel of 3 examples with 2 outputs needs .*take 2 examples, or ntk_trace"
    ):
        ntk_matrix(linear, jnp.ones((4, 2)), jnp.ones((3, 4)))
