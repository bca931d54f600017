"""Criteria against their definitions, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import allocation, criteria
from prune_jax.pruning.coupling import find_groups


def evidence(**more):
    def apply(p, x):
        gate, h = jnp.split(x @ p["w"] + p["b"].reshape(1, -1), 2, -1)
        return (jnp.tanh(gate) * h) @ p["v"]

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 8)), "b": rng.normal(size=8), "v": rng.normal(size=(4, 2))}
    groups = find_groups(apply, params, np.ones((1, 3)))
    return criteria.Evidence(params, groups, **more)


def test_l1_is_the_mean_absolute_weight_of_a_channels_filters():
    facts = evidence()
    filters = np.abs(facts.params["w"])  # channel c is made by columns c and c + 4
    expected = [np.concatenate([filters[:, c], filters[:, c + 4]]).mean() for c in range(4)]
    scores = criteria.l1(facts)
    assert set(scores) == {"w"}  # frozen groups have no score
    np.testing.assert_allclose(scores["w"], expected, rtol=1e-12)


def test_l2_and_largest():
    facts = evidence()
    squares = facts.params["w"] ** 2
    expected = [np.sqrt(np.concatenate([squares[:, c], squares[:, c + 4]]).mean()) for c in range(4)]
    np.testing.assert_allclose(criteria.l2(facts)["w"], expected, rtol=1e-12)
    np.testing.assert_array_equal(criteria.largest(facts)["w"], -criteria.l1(facts)["w"])


def test_random_follows_its_key_alone():
    one, two = (criteria.random(evidence(key=jax.random.key(k)))["w"] for k in (1, 2))
    np.testing.assert_array_equal(one, criteria.random(evidence(key=jax.random.key(1)))["w"])
    assert (one != two).any()
    with pytest.raises(ValueError, match="PRNG key"):
        criteria.random(evidence())


def test_l1_prunes_the_smallest_filters_of_a_convolution():
    kernel = np.ones((3, 3, 2, 5), np.float32) * np.array([3.0, 1, 4, 1, 5], np.float32)

    def apply(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.mean((1, 2)) @ p["head"]

    params = {"kernel": kernel, "head": np.ones((5, 2), np.float32)}
    groups = find_groups(apply, params, np.ones((1, 4, 4, 2), np.float32))
    keep = allocation.uniform(groups, criteria.l1(criteria.Evidence(params, groups)), 0.5)
    np.testing.assert_array_equal(keep["kernel"], [2, 4])  # 3 of 5 go: both ones, then the three


def test_params_without_the_producer_are_refused():
    facts = evidence()
    with pytest.raises(KeyError, match="made by leaf 'w'"):
        criteria.l1(facts._replace(params={"v": np.ones((4, 2))}))
