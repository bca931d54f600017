"""Where matrix-free estimates are hard: tiny and huge spectra, zeros, coarse formats, NaN, little memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from prune_jax.trainability import krylov, learning, memory, operators, passes, quadrature

KEY = jax.random.key(0)
quick_jit = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
)


def matrices(spectra, extra=3):
    """Jacobians (n, K, K + extra) with the given singular values between random bases."""
    rng, count = np.random.default_rng(0), np.shape(spectra)[1]
    left, right = (rng.normal(size=(len(spectra), n, count)) for n in (count, count + extra))
    return jnp.asarray(
        (np.linalg.qr(left)[0] * np.asarray(spectra)[:, None]) @ np.linalg.qr(right)[0].mT, jnp.float32
    )


def times(matrix, x):
    return jnp.einsum("bkd,bd->bk", matrix, x, precision="highest")


def over_keys(estimate, spectra, **how):
    """Values and errors (keys, n) of an estimate under 12 keys."""
    given = matrices(spectra)
    apply, x = Partial(times, given), jnp.ones((len(spectra), given.shape[2]))
    found = quick_jit(jax.vmap(lambda key: estimate(apply, x, key=key, **how)[:2]))(jax.random.split(KEY, 12))
    return [np.asarray(part, np.float64) for part in found]


def test_hutchinson_at_any_scale():
    matrix, x, found = matrices([[2.0, 1.0, 0.5]]), jnp.ones((1, 6)), []
    for scale in (1e-20, 1.0, 1e20):
        mean = operators.mean_squared_jsv(Partial(times, scale * matrix), x, budget=8, key=KEY)
        trace = learning.ntk_trace(lambda p, x: x @ p, matrix[0].T, scale * x, KEY, probes=4)
        found.append([part / scale**2 for part in (*mean[:2], *trace[:2])])
    for other in (found[0], found[2]):
        for a, b in zip(other, found[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)  # rounding of float32
    np.testing.assert_allclose(found[1][2], 18, rtol=1e-6)  # three outputs of |x|^2 = 6, and no mixed terms


@pytest.mark.parametrize(
    "shape", [*(pytest.param(shape, marks=pytest.mark.slow) for shape in ((1, 5), (5, 1), (3, 5))), (5, 3)]
)
def test_a_complete_krylov_space_gives_the_exact_values(shape):
    matrix = np.random.default_rng(1).normal(size=(2, *shape))
    values = np.linalg.svd(matrix, compute_uv=False)
    apply, x = Partial(times, jnp.asarray(matrix, jnp.float32)), jnp.ones((2, shape[1]))
    steps = min(shape)
    how = {"budget": 2 * (2 * steps - 1), "steps": steps}
    probes = jax.random.rademacher(KEY, (2, 2, steps), jnp.float32)
    left = np.linalg.svd(matrix if shape[0] <= shape[1] else matrix.mT)[0]
    weights = np.einsum("pbk,bkr->pbr", np.asarray(probes), left[..., :steps]) ** 2 / steps
    for estimate, function, scale in (
        (quadrature.mean_jsv_by_quadrature, lambda s: s, 1),
        (quadrature.log_determinant_by_quadrature, lambda s: 2 * np.log(s), steps),
    ):
        found = estimate(apply, x, key=KEY, **how)
        wanted = scale * (weights * function(values)).sum(
            -1
        )  # of each probe: no truncation, the probes' noise alone
        np.testing.assert_allclose(found.value, wanted.mean(0), rtol=2e-4, atol=1e-4)
        np.testing.assert_allclose(found.error, wanted.std(0, ddof=1) / 2**0.5, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("condition", [1e2, 1e4])
def test_the_error_of_a_log_determinant_holds_the_small_values_that_few_steps_miss(condition):
    spectra = np.geomspace(1, 1 / condition, 12)[None].repeat(4, 0)
    exact = 2 * np.log(spectra).sum(1)
    sizes = []
    for budget in (24, 4 * 23):  # 3 steps of 12, then all of them
        value, error = over_keys(quadrature.log_determinant_by_quadrature, spectra, budget=budget)
        assert (np.abs(value - exact) < 3 * error).mean() > 0.9  # four probes: a t distribution's tails
        sizes.append(error.mean())
    assert sizes[1] < 0.5 * sizes[0]
    # few steps alone are far from the truth: the bracket's width is what saves it
    assert sizes[0] > 0.1 * abs(exact[0])


def test_zeros_that_were_found_are_no_small_values():
    spectra = np.r_[np.linspace(0.5, 2, 4), np.zeros(16)][None].repeat(4, 0)
    exact = 2 * np.log(spectra[:, :4]).sum(1)
    value, error = over_keys(quadrature.log_determinant_by_quadrature, spectra, budget=4 * 11, steps=6)
    assert (np.abs(value - exact) < 3 * error).mean() > 0.9
    assert error.mean() < 3  # the threshold would count 16 x 2 log(1e-6) = -440


@pytest.mark.slow
def test_the_error_falls_with_the_budget_down_to_truncation_and_probes():
    spectra = np.r_[np.linspace(0, 1, 40)][None].repeat(4, 0)
    off = []
    for budget in (60, 360):
        value, error = over_keys(quadrature.mean_jsv_by_quadrature, spectra, budget=budget)
        assert (np.abs(value - 0.5) < 3 * error).mean() > 0.9
        off.append(np.sqrt(np.mean((value - 0.5) ** 2)))
    assert off[1] < 0.6 * off[0]  # 0.4 by the number of probes alone


@pytest.mark.slow
def test_what_a_coarse_format_rounds_is_not_resolved_though_the_outputs_are_float32():
    rng = np.random.default_rng(2)
    first, second = (jnp.asarray(np.linalg.qr(rng.normal(size=(n, 2)))[0], jnp.float32) for n in (5, 6))

    def apply(x, dtype=jnp.bfloat16):
        hidden = jnp.tanh(x.astype(dtype) @ first.astype(dtype))
        return (hidden @ second.T.astype(dtype)).astype(jnp.float32)

    x = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
    jacobian = operators.jacobian_of(apply, x)
    assert jacobian.network_dtype == jnp.bfloat16
    assert operators.jacobian_of(partial(apply, dtype=jnp.float32), x).network_dtype == jnp.float32
    true = jax.vmap(jax.jacobian(lambda v: apply(v[None], jnp.float32)[0]))(x)
    values = np.linalg.svd(np.asarray(true, np.float64), compute_uv=False)[:, :2]

    @quick_jit
    def both(x):
        logs = quadrature.log_determinant_by_quadrature(apply, x, budget=2 * 9, steps=5, key=KEY)
        return logs, krylov.smallest_jsv(apply, x, 1, budget=10, key=KEY)

    found, smallest = both(x)
    exact = 2 * np.log(values).sum(1)  # rank 2 of 5: three values are rounding
    assert (np.abs(found.value - exact) < 3 * found.error + 0.2).all()  # 8 bits of mantissa
    assert (np.asarray(smallest.error[:, 0]) > 1e-2 * values[:, 0]).all()


CALLS = {
    "square": partial(operators.mean_squared_jsv, budget=4),
    "mean": partial(quadrature.mean_jsv_by_quadrature, budget=6),
    "log": partial(quadrature.log_determinant_by_quadrature, budget=6),
    "density": partial(quadrature.spectral_density, budget=6, points=jnp.ones(2), width=0.5),
    "largest": lambda apply, x, key: krylov.largest_jsv(apply, x, 1, budget=6, key=key),
    "smallest": lambda apply, x, key: krylov.smallest_jsv(apply, x, 1, budget=6, key=key),
}


def network(weights, x):
    return jnp.tanh(x @ weights["first"]["kernel"]) @ weights["second"]["kernel"]


RNG = np.random.default_rng(4)
WEIGHTS = {
    "first": {"kernel": jnp.asarray(RNG.normal(size=(4, 5)) / 2, jnp.float32)},
    "second": {"kernel": jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)},
}
BROKEN = {**WEIGHTS, "second": {"kernel": WEIGHTS["second"]["kernel"].at[1, 1].set(jnp.nan)}}
X = jnp.asarray(np.random.default_rng(3).normal(size=(3, 4)), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_nan_is_named_and_never_a_number(name):
    with pytest.raises(ValueError, match=r"leaf 'second/kernel' holds NaN or infinity in 1 of 15 values"):
        CALLS[name](Partial(network, BROKEN), X, key=KEY)
    if name == "square":  # whose weights are hidden
        with pytest.raises(ValueError, match="of 3 of 3 examples is not finite, first that of example 0"):
            CALLS[name](lambda x: network(BROKEN, x), X, key=KEY)
    with pytest.raises(ValueError, match="of 1 of 3 examples is not finite, first that of example 2"):
        CALLS[name](Partial(network, WEIGHTS), X.at[2].set(jnp.nan), key=KEY)
    inside = quick_jit(lambda weights: CALLS[name](Partial(network, weights), X, key=KEY)[0])(BROKEN)
    assert np.isnan(inside).all()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "square")) for name in CALLS],
)
def test_little_memory_takes_vectors_one_by_one_and_changes_nothing(name, monkeypatch):
    apply = Partial(network, WEIGHTS)
    wanted = CALLS[name](apply, X, key=KEY)
    pieces = passes.passes(apply)
    pull_back = pieces.forward(X, None, narrow=False).pull_back
    one = operators.product_need(pieces, pull_back, X, pieces.logits(X)).of(1)
    monkeypatch.setattr(memory, "available", lambda: one)
    jacobian = operators.jacobian_of(apply, X)
    assert jacobian.step == 1
    found = CALLS[name](apply, X, key=KEY)
    for a, b in zip(found[:2], wanted[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(memory, "available", lambda: one - 1)
    with pytest.raises(
        ValueError, match=r"a product with the Jacobians of 3 examples needs about .*batches of 2"
    ):
        CALLS[name](apply, X, key=KEY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            partial(quadrature.mean_jsv_by_quadrature, budget=6000),
            "Lanczos with [0-9]+ probes of 3 examples",
        ),
        (partial(krylov.largest_jsv, k=1, budget=6), "a Krylov space of 3 vectors of 3 examples"),
    ],
)
def test_vectors_that_cannot_be_kept_are_refused_before_any_work(call, message, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3000)
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(quadrature, "jacobian_of", wide)
    monkeypatch.setattr(krylov, "jacobian_of", wide)
    with pytest.raises(ValueError, match=message + ".*available: use .*or a smaller budget"):
        call(Partial(network, WEIGHTS), X, key=KEY)


def wide(apply, x, check):
    """A Jacobian of three outputs and a thousand inputs whose products nobody may ask for."""
    return operators.Jacobian(None, None, len(x), 3, 1000, jnp.dtype("float32"))


@pytest.mark.slow
def test_a_traced_width_is_taken():
    def density(width):
        return quadrature.spectral_density(
            Partial(network, WEIGHTS), X, points=jnp.ones(2), width=width, budget=6, key=KEY
        ).value

    np.testing.assert_allclose(quick_jit(density)(0.5), density(0.5), rtol=1e-4)
