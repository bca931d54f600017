"""Criteria of activations and inputs, each against its formula in NumPy in float64."""

import numpy as np
import pytest
from float64_net import apply, gathered, layers, network, reading

from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.layouts.unstructured import unstructured_mask

ROUNDING = {"rtol": 2e-4}  # float32 sums of hundreds of numbers against float64
NEEDS = {"inputs", "activations", "example_activations", "map_ranks"}


@pytest.fixture(scope="module")
def facts():
    return gathered(NEEDS)


def norms(layer):
    return np.sqrt((layers()[0][layer][0] ** 2).sum(0))


def kernel(layer):
    return layers()[0][layer][1]


def test_activation_is_the_root_of_squared_means_of_the_examples(facts):
    for name, side in (("a", 4), ("b", 3)):
        rows, weights, _ = layers()[0][name]
        made = np.abs(rows @ weights).reshape(40, side * side, -1).mean(1)
        scores = channel_scores(CRITERIA["activation"], facts)[name]
        np.testing.assert_allclose(scores, np.sqrt((made**2).sum(0)), **ROUNDING)
        mean = channel_scores(CRITERIA["mean_activation"], facts)[name]
        np.testing.assert_allclose(mean, made.mean(0), **ROUNDING)


def test_hrank_is_the_mean_rank_of_the_maps_after_the_relu(facts):
    maps = layers()[1]
    for name in ("a", "b"):
        ranks = np.linalg.matrix_rank(maps[name].transpose(3, 0, 1, 2), tol=1e-5).mean(1)
        np.testing.assert_allclose(channel_scores(CRITERIA["hrank"], facts)[name], ranks, atol=0.03)
        assert len(set(ranks)) > 1


def test_wanda_of_channels_is_the_mean_over_the_weights_that_read_it(facts):
    for name in ("a", "b"):
        reader, channel = reading(name)
        product = np.abs(kernel(reader)) * norms(reader)[:, None]
        wanted = [product[channel == c].mean() for c in range(channel.max() + 1)]
        np.testing.assert_allclose(channel_scores(CRITERIA["wanda"], facts)[name], wanted, **ROUNDING)


def test_flap_is_the_variance_of_an_input_times_its_squared_weights(facts):
    for name in ("a", "b"):
        reader, channel = reading(name)
        rows, weights, _ = layers()[0][reader]
        product = rows.var(0) * (weights**2).sum(1)
        wanted = [product[channel == c].sum() for c in range(channel.max() + 1)]
        np.testing.assert_allclose(channel_scores(CRITERIA["flap"], facts)[name], wanted, **ROUNDING)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_wanda_takes_the_lowest_of_every_output_row_by_itself(facts, ratio):
    mask = unstructured_mask(
        facts.params, weight_scores(CRITERIA["wanda"], facts), ratio, where=("b", "head")
    )
    for name in ("b", "head"):
        weights = kernel(name)
        stays = np.asarray(mask[name]["kernel"]).reshape(weights.shape)
        gone = round(ratio * len(weights))
        for column in range(weights.shape[1]):
            order = np.argsort(np.abs(weights[:, column]) * norms(name), kind="stable")
            assert np.flatnonzero(~stays[:, column]).tolist() == sorted(order[:gone])


def test_wanda_looks_at_no_other_output_row(facts):
    params = network()[0]
    changed = {
        **params,
        "head": {**params["head"], "kernel": params["head"]["kernel"].at[:, 1:].multiply(7.0)},
    }
    before, after = (
        weight_scores(CRITERIA["wanda"], facts._replace(params=tree))["head/kernel"]
        for tree in (params, changed)
    )
    np.testing.assert_array_equal(before, after)
    moved = {**params, "head": {**params["head"], "kernel": params["head"]["kernel"].at[0, 1].set(9.0)}}
    other = weight_scores(CRITERIA["wanda"], facts._replace(params=moved))["head/kernel"]
    assert (before[:, 1] != other[:, 1]).any()
    np.testing.assert_array_equal(np.delete(before, 1, 1), np.delete(other, 1, 1))


def test_ria_weighs_a_weight_by_its_input_and_its_output(facts):
    scores = weight_scores(CRITERIA["ria"], facts)
    for name in ("a", "b", "head"):
        size = np.abs(kernel(name))
        relative = size / size.sum(1, keepdims=True) + size / size.sum(0, keepdims=True)
        wanted = relative * np.sqrt(norms(name))[:, None]
        np.testing.assert_allclose(scores[f"{name}/kernel"].reshape(wanted.shape), wanted, **ROUNDING)


def test_flap_keeps_the_mean_of_every_output(facts):
    keep = {"a": np.array([1, 2, 5]), "b": np.array([0, 3])}
    params = CRITERIA["flap"].compensate(facts, keep)
    for name in ("a", "b"):
        reader, channel = reading(name)
        rows, weights, bias = layers()[0][reader]
        stays = np.isin(channel, keep[name])
        left = rows[:, stays] @ weights[stays] + np.asarray(params[reader]["bias"], np.float64)
        np.testing.assert_allclose(left.mean(0), (rows @ weights + bias).mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(params[reader]["kernel"], facts.params[reader]["kernel"])
    np.testing.assert_array_equal(params["a"]["bias"], facts.params["a"]["bias"])


@pytest.mark.parametrize("name", ["ria", "sparsegpt"])
def test_scores_of_single_weights_say_nothing_of_channels(name, facts):
    with pytest.raises(
        ValueError, match=f"criterion '{name}' scores single weights.*use granularity"
    ) as caught:
        channel_scores(CRITERIA[name], facts)
    assert "\n" not in str(caught.value)


def test_wanda_without_data_is_refused():
    with pytest.raises(ValueError, match="criterion 'wanda' needs 'inputs'; the evidence lacks it"):
        weight_scores(CRITERIA["wanda"], Evidence(network()[0]))


def test_the_network_in_numpy_is_the_network():
    params, x = network()
    rows, weights, bias = layers()[0]["head"]
    np.testing.assert_allclose(apply(params, x), rows @ weights + bias, rtol=1e-4, atol=1e-5)
