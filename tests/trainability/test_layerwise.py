import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.trainability import jacobians
from prune_jax.trainability.parts import measure_stages, stage_part

SIZES = (6, 5, 4, 3)


def tanh_net(seed=0):
    rng = np.random.default_rng(seed)
    weights = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in itertools.pairwise(SIZES)]
    names = ("one", "two", "three")
    return [(name, lambda v, w=w: jnp.tanh(v @ w)) for name, w in zip(names, weights, strict=True)], weights


def test_stage_jacobians_equal_the_closed_form_and_multiply_to_the_whole():
    stages, weights = tanh_net()
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)), jnp.float32)
    got = jax.jit(lambda v: measure_stages(stages, v, measure=jacobians))(x)
    assert list(got) == ["one", "two", "three"]  # the network's order, under jit as well
    h = np.asarray(x, np.float64)
    product = np.broadcast_to(np.eye(6), (4, 6, 6))
    for (name, measured), w in zip(got.items(), weights, strict=True):
        h = np.tanh(h @ np.asarray(w, np.float64))
        wanted = (1 - h**2)[:, :, None] * np.asarray(w, np.float64).T[None]  # (batch, K, D)
        np.testing.assert_allclose(np.moveaxis(measured.stage, 0, 1), wanted, atol=2e-6, err_msg=name)
        product = wanted @ product
        np.testing.assert_allclose(np.moveaxis(measured.cumulative, 0, 1), product, atol=1e-5, err_msg=name)


def test_a_part_is_the_network_between_two_names_flattened_per_example():
    stages = [
        ("up", lambda v: v[:, None, :] * jnp.arange(1.0, 3.0)[None, :, None]),
        ("square", lambda v: v**2),
        ("sum", lambda v: v.sum((1, 2), keepdims=True)),
    ]
    x = jnp.asarray([[1.0, 2.0, 3.0]])
    apply, entering = stage_part(stages, x, "up", "square")
    np.testing.assert_array_equal(entering, [[[1, 2, 3], [2, 4, 6]]])
    np.testing.assert_array_equal(apply(entering), [[1, 4, 9, 4, 16, 36]])
    apply, entering = stage_part(stages, x, "square")
    np.testing.assert_array_equal(apply(entering), [[70.0]])


@pytest.mark.parametrize(
    ("names", "source", "target", "message"),
    [
        ([], None, None, "no stages"),
        (["a", "b", "a"], None, None, "'a' came more than once"),
        (["conv", "head"], None, "cnov", "unknown stage 'cnov'; did you mean 'conv'"),
        (["conv", "head"], "body", None, "unknown stage 'body'.*conv, head"),
        (["conv", "head"], "head", "conv", "'conv' doesn't come behind 'head'; the order is conv, head"),
        (["conv", "head"], "head", None, "'head' doesn't come behind 'head'"),
    ],
)
def test_bad_names_are_refused(names, source, target, message):
    with pytest.raises(ValueError, match=message):
        stage_part([(name, lambda v: v) for name in names], jnp.ones((2, 3)), source, target)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (lambda v: (v, v), "'a' gives a tuple of 2 arrays"),
        (lambda v: v.sum(0), r"'a' gives shape \(3,\) for 2 examples"),
        (lambda v: v[:1], r"'a' gives shape \(1, 3\) for 2 examples"),
    ],
)
def test_outputs_that_are_not_one_array_per_example_are_refused(stage, message):
    apply, x = stage_part([("a", stage)], jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        apply(x)
