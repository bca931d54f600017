"""The contract of a criterion, over every one in the table: a new one is tested by being added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import allocation
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria import CRITERIA, Evidence, prunable

X = jnp.ones((2, 6, 6, 3))


def apply(params, x):
    for name in ("a", "b"):
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(
                x, params[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
    return x.mean((1, 2)) @ params["head"]


def evidence(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"a": (3, 3, 3, 8), "b": (3, 3, 8, 5), "head": (5, 4)}
    params = {
        name: jnp.asarray(scale * rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
    }
    grads = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    return Evidence(params, find_groups(apply, params, X), grads=grads, key=jax.random.key(seed))


@pytest.mark.parametrize("name", CRITERIA)
def test_one_finite_score_per_channel_of_every_prunable_group(name):
    facts = evidence()
    scores = CRITERIA[name](facts)
    assert {group.name: group.size for group in prunable(facts.groups)} == {
        key: len(score) for key, score in scores.items()
    }
    assert set(scores) == {"a", "b"}
    assert all(np.isfinite(score).all() for score in scores.values())


@pytest.mark.parametrize("name", CRITERIA)
def test_the_same_evidence_gives_the_same_scores_and_is_left_alone(name):
    facts = evidence()
    before = jax.tree.map(np.array, facts.params)
    first, second = CRITERIA[name](facts), CRITERIA[name](facts)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    jax.tree.map(np.testing.assert_array_equal, before, facts.params)


@pytest.mark.parametrize("name", CRITERIA)
def test_ranks_do_not_depend_on_the_scale_of_the_weights(name):
    small, large = (CRITERIA[name](evidence(scale=scale)) for scale in (1.0, 16.0))
    for key in small:
        np.testing.assert_array_equal(np.argsort(small[key]), np.argsort(large[key]))


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.99])
def test_its_scores_allocate_to_the_exact_count(name, ratio):
    facts = evidence()
    keep = allocation.uniform(facts.groups, CRITERIA[name](facts), ratio)
    gone = {0.0: (0, 0), 0.3: (3, 2), 0.99: (7, 4)}[ratio]  # ceil(ratio * n) of 8 and 5, one always stays
    assert [len(keep["a"]), len(keep["b"])] == [8 - gone[0], 5 - gone[1]]
