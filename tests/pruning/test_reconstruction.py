"""Criteria that make a reader's outputs again, against brute force and least squares in float64."""

import itertools

import numpy as np
import pytest
from float64_net import gathered, layers, reading

from prune_jax.pruning.criteria import sparsegpt
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.evidence import Evidence, InputGram
from prune_jax.pruning.inputs.layout import Layout
from prune_jax.pruning.jaxpr.groups import Group, Slice
from prune_jax.pruning.layouts.unstructured import unstructured_mask

GROUPS = ("a", "b")
KEEP = {"a": np.array([1, 2, 5]), "b": np.array([0, 3])}


@pytest.fixture(scope="module")
def facts():
    return gathered({"input_grams"})


def parts(group):
    """(channels, entries * outputs) what each channel adds to its reader's outputs."""
    reader, channel = reading(group)
    rows, weights, _ = layers()[0][reader]
    mine = [channel == c for c in range(channel.max() + 1)]
    return np.stack([(rows[:, rows_of] @ weights[rows_of]).ravel() for rows_of in mine])


def greedy(z):
    """The order of removal by brute force, from what each channel adds to the outputs."""
    gone: list[int] = []
    while len(gone) < len(z):
        rest = [c for c in range(len(z)) if c not in gone]
        gone.append(min(rest, key=lambda c: (z[[*gone, c]].sum(0) ** 2).sum()))
    return gone


def one_reader(x, weights):
    """Evidence of one product, whose inputs are the channels of one group."""
    size, outputs = weights.shape
    layout = Layout((size, outputs), (size, outputs), (), (0,), (1,))
    slices = Slice("w", 0, np.arange(size))
    group = Group("g", size, (slices,), slices, None, True)
    gram = InputGram((x.T @ x)[None], np.full(1, len(x)), layout)
    return Evidence({"w": weights}, (group,), input_grams={"w": gram})


@pytest.mark.parametrize("group", GROUPS)
def test_thinet_removes_what_changes_the_outputs_least_next(group, facts):
    z = parts(group)
    scores = channel_scores(CRITERIA["thinet"], facts)[group]
    assert np.argsort(scores).tolist() == greedy(z)
    np.testing.assert_allclose(np.sort(scores), np.arange(len(z)) / len(z))


@pytest.mark.parametrize("seed", range(5))
def test_thinet_sees_that_parts_cancel(seed):
    """Inputs that go together, with weights of any sign: what is gone already decides what goes next."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 8)) + 0.3 * rng.normal(size=(30, 8))
    weights = rng.normal(size=(8, 2))
    scores = channel_scores(CRITERIA["thinet"], one_reader(x, weights))["g"]
    assert np.argsort(scores).tolist() == greedy(x.T[:, :, None] * weights[:, None, :])


def test_thinet_finds_the_best_set_where_channels_add_independent_parts():
    """Greedy is exact for orthogonal parts: the set with the smallest sum of squares, of all sets of its size."""
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 5)))[0]
    weights = np.diag([3.0, 1.0, 2.0, 5.0, 4.0])
    scores = channel_scores(CRITERIA["thinet"], one_reader(x, weights))["g"]
    for count in range(1, 5):
        best = min(
            itertools.combinations(range(5), count), key=lambda s: ((x[:, s] @ weights[list(s)]) ** 2).sum()
        )
        assert sorted(np.argsort(scores)[:count]) == list(best)


@pytest.mark.parametrize("group", GROUPS)
def test_thinet_scales_what_stays_by_least_squares(group, facts):
    z, reader_of = parts(group), reading(group)
    kept = KEEP[group]
    scales = np.linalg.lstsq(z[kept].T, z.sum(0), rcond=None)[0]
    params = CRITERIA["thinet"].compensate(facts, {group: kept})
    reader, channel = reader_of
    weights = layers()[0][reader][1]
    found = np.asarray(params[reader]["kernel"], np.float64).reshape(weights.shape)
    for scale, c in zip(scales, kept, strict=True):
        np.testing.assert_allclose(found[channel == c], scale * weights[channel == c], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_channel_lasso_has_the_channels_that_the_lasso_has(group, facts):
    """Another solver, on the outputs themselves: at a penalty between two scores, channels above have coefficients."""
    # Here: importing it takes seconds, in each of pytest's processes.
    from sklearn.linear_model import Lasso

    z, scores = parts(group), channel_scores(CRITERIA["channel_lasso"], facts)[group]
    entries = layers()[0][reading(group)[0]][0].shape[0]
    ordered = np.sort(scores)
    assert len(set(ordered)) == len(ordered)
    for low, high in itertools.pairwise(ordered):
        penalty = np.sqrt(low * high) if low > 0 else high / 2
        solver = Lasso(penalty * entries / z.shape[1], fit_intercept=False, tol=1e-10, max_iter=10000)
        beta = solver.fit(z.T, z.sum(0)).coef_
        assert np.flatnonzero(np.abs(beta) > 1e-6).tolist() == np.flatnonzero(scores > penalty).tolist()


@pytest.mark.parametrize("group", GROUPS)
def test_channel_lasso_solves_the_readers_weights(group, facts):
    reader, channel = reading(group)
    rows, weights, _ = layers()[0][reader]
    stays = np.isin(channel, KEEP[group])
    params = CRITERIA["channel_lasso"].compensate(facts, {group: KEEP[group]})
    found = np.asarray(params[reader]["kernel"], np.float64).reshape(weights.shape)[stays]
    target = rows @ weights
    best = np.linalg.lstsq(rows[:, stays], target, rcond=None)[0]
    # Many solutions where images are few: the outputs are what least squares gives.
    np.testing.assert_allclose(rows[:, stays] @ found, rows[:, stays] @ best, rtol=1e-3, atol=1e-3)
    plain = ((rows[:, stays] @ weights[stays] - target) ** 2).sum()
    assert ((rows[:, stays] @ found - target) ** 2).sum() < 0.9 * plain


def test_two_groups_at_once_are_solved_reader_by_reader(facts):
    both = CRITERIA["channel_lasso"].compensate(facts, KEEP)
    for group in GROUPS:
        reader = reading(group)[0]
        alone = CRITERIA["channel_lasso"].compensate(facts, {group: KEEP[group]})
        np.testing.assert_array_equal(both[reader]["kernel"], alone[reader]["kernel"])


def damped(rows):
    gram = rows.T @ rows
    return gram + 0.01 * np.trace(gram) / len(gram) * np.eye(len(gram))


def by_least_squares(weights, stays, hessian):
    """Row by row of the inputs: the later weights that change the outputs least when the masked one is set to 0."""
    weights = weights.copy()
    for j in range(len(weights)):
        rest = hessian[j + 1 :, j + 1 :]
        for column in np.flatnonzero(~stays[j]):
            change = -weights[j, column]
            weights[j, column] = 0
            if len(rest):
                weights[j + 1 :, column] -= np.linalg.solve(rest, hessian[j + 1 :, j] * change)
    return weights


@pytest.mark.parametrize("layer", ["a", "b"])
def test_sparsegpt_updates_the_later_weights_by_least_squares(layer, facts, monkeypatch):
    monkeypatch.setattr(sparsegpt, "WIDTH", 7)  # several blocks of inputs
    rows, weights, _ = layers()[0][layer]
    mask = unstructured_mask(facts.params, weight_scores(CRITERIA["sparsegpt"], facts), 0.5, where=(layer,))
    stays = mask[layer]["kernel"].reshape(weights.shape)
    params = CRITERIA["sparsegpt"].compensate(facts, mask)
    found = np.asarray(params[layer]["kernel"], np.float64).reshape(weights.shape)
    wanted = by_least_squares(weights, stays, damped(rows))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-4 * np.abs(weights).max())
    assert not found[~stays].any()
    error = [((rows @ (w - weights)) ** 2).sum() for w in (found, np.where(stays, weights, 0))]
    assert error[0] < error[1]
    others = [name for name in ("a", "b", "head") if name != layer]
    for name in others:
        np.testing.assert_array_equal(params[name]["kernel"], facts.params[name]["kernel"])


@pytest.mark.parametrize("layer", ["a", "b"])
def test_sparsegpt_scores_what_the_outputs_lose(layer, facts):
    """w ** 2 over the first entry of the inverse of the Hessian of this and all later inputs."""
    rows, weights, _ = layers()[0][layer]
    hessian = damped(rows)
    curve = [1 / np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(len(hessian))]
    scores = weight_scores(CRITERIA["sparsegpt"], facts)[f"{layer}/kernel"].reshape(weights.shape)
    np.testing.assert_allclose(scores, weights**2 * np.array(curve)[:, None], rtol=2e-3)


def test_inputs_that_are_always_zero_leave_everything_finite(facts):
    grams = {
        path: InputGram(gram.matrix * 0, gram.count, gram.layout) for path, gram in facts.input_grams.items()
    }
    dead = facts._replace(input_grams=grams)
    for name in ("thinet", "channel_lasso"):
        scores = channel_scores(CRITERIA[name], dead)
        assert all(np.isfinite(each).all() for each in scores.values())
        params = CRITERIA[name].compensate(dead, KEEP)
        np.testing.assert_array_equal(params["b"]["kernel"], facts.params["b"]["kernel"])
    scores = weight_scores(CRITERIA["sparsegpt"], dead)
    np.testing.assert_allclose(scores["b/kernel"], np.asarray(facts.params["b"]["kernel"]) ** 2, rtol=1e-6)
