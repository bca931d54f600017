"""Criteria against their definitions, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import allocation
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria.table import CRITERIA, Criterion, channel_scores, missing, weight_scores
from prune_jax.pruning.evidence import Evidence


def evidence(**more):
    def apply(p, x):
        gate, h = jnp.split(x @ p["w"] + p["b"].reshape(1, -1), 2, -1)
        return (jnp.tanh(gate) * h) @ p["v"]

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 8)), "b": rng.normal(size=8), "v": rng.normal(size=(4, 2))}
    groups = find_groups(apply, params, np.ones((1, 3)))
    return Evidence(params, groups, **more)


def channels(name, facts):
    return channel_scores(CRITERIA[name], facts)


def of_channel(leaf):
    """Entries of each channel's filter: channel c is made by columns c and c + 4."""
    return [np.concatenate([leaf[:, c], leaf[:, c + 4]]) for c in range(4)]


def test_l1_is_the_mean_absolute_weight_of_a_channels_filters():
    facts = evidence()
    expected = [filters.mean() for filters in of_channel(np.abs(facts.params["w"]))]
    scores = channels("l1", facts)
    assert set(scores) == {"w"}  # frozen groups have no score
    np.testing.assert_allclose(scores["w"], expected, rtol=1e-12)


def test_l2_and_largest():
    facts = evidence()
    expected = [np.sqrt(filters.mean()) for filters in of_channel(facts.params["w"] ** 2)]
    np.testing.assert_allclose(channels("l2", facts)["w"], expected, rtol=1e-12)
    np.testing.assert_array_equal(channels("largest", facts)["w"], -channels("l1", facts)["w"])


def test_taylor_is_the_first_order_change_of_the_loss_without_the_filter():
    facts = evidence()
    grads = jax.tree.map(lambda w: np.cos(3 * w), facts.params)  # any numbers of both signs
    facts = facts._replace(grads=grads)
    products = facts.params["w"] * grads["w"]
    expected = [abs(filters.sum()) for filters in of_channel(products)]
    np.testing.assert_allclose(channels("taylor", facts)["w"], expected, rtol=1e-12)
    np.testing.assert_allclose(weight_scores(CRITERIA["taylor"], facts)["w"], np.abs(products), rtol=1e-12)


def test_scores_of_single_weights_are_their_definitions():
    facts = evidence(key=jax.random.key(0))
    for name, entry in {"l1": np.abs, "l2": np.square, "largest": lambda w: -np.abs(w)}.items():
        scores = weight_scores(CRITERIA[name], facts)
        assert set(scores) == {"w", "v"}  # kernels; the bias isn't one
        for path, score in scores.items():
            np.testing.assert_array_equal(score, entry(facts.params[path]))
    drawn = weight_scores(CRITERIA["random"], facts)
    assert {path: score.shape for path, score in drawn.items()} == {"w": (3, 8), "v": (4, 2)}
    assert all(((score >= 0) & (score < 1)).all() for score in drawn.values())


# What the code scored before criteria had units: these numbers chose the channels of earlier runs.
FILTERS = np.random.default_rng(3).normal(size=(3, 8)).astype(np.float32)


def test_channel_scores_keep_their_bits():
    facts = evidence(key=jax.random.key(5))
    facts = facts._replace(params={**facts.params, "w": FILTERS})
    size = np.array([2, 2, 2, 2])

    def by_channel(entries):
        means = entries.mean(axis=(0,), dtype=np.float64)
        return np.bincount(np.arange(8) % 4, means, 4) / size

    np.testing.assert_array_equal(channels("l1", facts)["w"], by_channel(np.abs(FILTERS)))
    np.testing.assert_array_equal(channels("l2", facts)["w"], np.sqrt(by_channel(np.square(FILTERS))))
    np.testing.assert_array_equal(channels("largest", facts)["w"], -by_channel(np.abs(FILTERS)))
    key = jax.random.split(jax.random.key(5), 1)[0]
    np.testing.assert_array_equal(channels("random", facts)["w"], jax.random.uniform(key, (4,)))


def test_random_follows_its_key_alone():
    one, two = (channels("random", evidence(key=jax.random.key(k)))["w"] for k in (1, 2))
    np.testing.assert_array_equal(one, channels("random", evidence(key=jax.random.key(1)))["w"])
    assert (one != two).any()


@pytest.mark.parametrize(("name", "words"), [("random", "'random' needs a PRNG key"), ("taylor", "'grads'")])
def test_evidence_without_what_is_needed_is_refused(name, words):
    for scores in (channel_scores, weight_scores):
        with pytest.raises(ValueError, match=words):
            scores(CRITERIA[name], evidence())


def test_what_is_missing_is_told_before_any_work():
    assert missing(CRITERIA["taylor"], {"key"}) == ("grads",)
    assert missing(CRITERIA["taylor"], {"key", "grads"}) == ()
    assert missing(CRITERIA["l1"], frozenset()) == ()
    odd = Criterion(lambda facts: {}, "channel", frozenset({"gradients"}))
    with pytest.raises(
        ValueError, match="needs 'gradients', which no evidence has; needs are among activations"
    ):
        missing(odd, set())


def test_a_criterion_of_channels_cant_rank_weights():
    def bn_scale(facts):
        return {"w": np.arange(4.0)}

    criterion = Criterion(bn_scale, "channel")
    np.testing.assert_array_equal(channel_scores(criterion, evidence())["w"], [0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"'bn_scale' scores whole channels.*granularity 'filter'"):
        weight_scores(criterion, evidence())


def test_l1_prunes_the_smallest_filters_of_a_convolution():
    kernel = np.ones((3, 3, 2, 5), np.float32) * np.array([3.0, 1, 4, 1, 5], np.float32)

    def apply(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.mean((1, 2)) @ p["head"]

    params = {"kernel": kernel, "head": np.ones((5, 2), np.float32)}
    groups = find_groups(apply, params, np.ones((1, 4, 4, 2), np.float32))
    keep = allocation.uniform(groups, channels("l1", Evidence(params, groups)), 0.5)
    np.testing.assert_array_equal(keep["kernel"], [2, 4])  # 3 of 5 go: both ones, then the three


def test_params_without_the_producer_are_refused():
    facts = evidence()
    with pytest.raises(KeyError, match="made by leaf 'w'"):
        channels("l1", facts._replace(params={"v": np.ones((4, 2))}))


def test_gradients_of_other_params_are_refused():
    facts = evidence()
    with pytest.raises(KeyError, match="grads have no leaf 'v', but params do"):
        channels("taylor", facts._replace(grads={"w": facts.params["w"]}))
