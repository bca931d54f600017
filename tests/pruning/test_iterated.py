"""Iterations within one action: SynFlow as published in float64 NumPy, one compilation, nothing comes back."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import prune_jax
from prune_jax.pruning import iterated
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.evidence import gatherer
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.unstructured import unstructured_mask

WIDTHS = (6, 10, 4, 10, 3)
RNG = np.random.default_rng(0)
PARAMS = {
    f"layer{i}": {"kernel": RNG.normal(size=shape).astype(np.float32) / np.float32(shape[0]) ** 0.5}
    for i, shape in enumerate(itertools.pairwise(WIDTHS))
}
TRACES = []


def apply(params, x):
    TRACES.append(1)
    for name in sorted(params):
        x = jax.nn.relu(x @ params[name]["kernel"]) if name != "layer3" else x @ params[name]["kernel"]
    return x


def flows(kernels):
    """w dR/dw of every weight, R = 1^T |W1| ... |Wn| 1: what comes in times what goes out."""
    sizes = [np.abs(w) for w in kernels]
    lefts, rights = [np.ones(WIDTHS[0])], [np.ones(WIDTHS[-1])]
    for size in sizes:
        lefts.append(lefts[-1] @ size)
    for size in reversed(sizes):
        rights.append(size @ rights[-1])
    return [
        left[:, None] * size * right for left, size, right in zip(lefts, sizes, rights[-2::-1], strict=False)
    ]


def synflow_by_hand(kernels, ratio, iterations):
    """Algorithm 1 of arXiv 2006.05467: score, keep the highest fraction (1 - ratio) ** (k / n) of all, again."""
    masks = [np.ones(w.shape, bool) for w in kernels]
    total = sum(w.size for w in kernels)
    for k in range(1, iterations + 1):
        scores = np.concatenate(
            [
                np.where(m, s, -1).ravel()
                for m, s in zip(
                    masks, flows([w * m for w, m in zip(kernels, masks, strict=True)]), strict=True
                )
            ]
        )
        gone = int(np.ceil(total * (1 - (1 - ratio) ** (k / iterations)) - 1e-9))
        flat = np.ones(total, bool)
        flat[np.argsort(scores, kind="stable")[:gone]] = False
        ends = np.cumsum([w.size for w in kernels])[:-1]
        masks = [part.reshape(w.shape) for part, w in zip(np.split(flat, ends), kernels, strict=True)]
    return masks


def masked(ratio, iterations, **how):
    return prune_jax.prune(
        (apply, PARAMS), jnp.ones((1, WIDTHS[0])), ratio=ratio, criterion="synflow", granularity="unstructured",
        scope="global", iterations=iterations, **how,
    )  # fmt: skip


def test_synflow_of_many_iterations_is_the_published_algorithm():
    before = len(TRACES)
    found = masked(0.9, 30).mask
    traces = len(TRACES) - before
    kernels = [PARAMS[name]["kernel"].astype(np.float64) for name in sorted(PARAMS)]
    for name, wanted in zip(sorted(PARAMS), synflow_by_hand(kernels, 0.9, 30), strict=True):
        np.testing.assert_array_equal(np.asarray(found[name]["kernel"]) != 0, wanted)
    assert traces <= 3  # one for the groups, one for the costs, one for all 30 iterations


def test_iterations_keep_a_path_open_where_one_shot_closes_layers():
    """At 95 % a path from input to output is left, with as many weights as one shot leaves."""
    once, often = masked(0.95, 1), masked(0.95, 100)
    left = [sum(int(np.sum(np.asarray(m) != 0)) for m in jax.tree.leaves(p.mask)) for p in (once, often)]
    assert left[0] == left[1]
    x = jnp.ones((1, WIDTHS[0]))
    flow = apply(jax.tree.map(jnp.abs, often.variables), x).sum()
    assert flow > 0
    assert flow > apply(jax.tree.map(jnp.abs, once.variables), x).sum()


def test_exponential_ratios_shrink_what_is_left_by_one_factor():
    ratios = iterated.exponential_ratios(0.0, 0.99, 100)
    left = 1 - np.asarray((0.0, *ratios))
    np.testing.assert_allclose(left[1:] / left[:-1], 0.01**0.01)
    assert ratios[-1] == 0.99
    later = iterated.exponential_ratios(0.5, 0.875, 2)  # half is gone before; 1/2, 1/4, 1/8 are left
    np.testing.assert_allclose(later, (0.75, 0.875))
    assert iterated.exponential_ratios(0.5, 0.5, 3) == (0.5, 0.5, 0.5)


def test_masks_go_on_from_an_earlier_mask_layer_by_layer():
    size = {path: np.abs(leaf) for path, leaf in leaf_paths(PARAMS)}
    before = unstructured_mask(PARAMS, size, 0.3)
    steps = iterated.mask_ratios(PARAMS, 0.8, 4, before=before)
    seen = []

    def choose(scores, ratio, mask):
        new = unstructured_mask(PARAMS, scores, ratio, before=mask)
        seen.append((mask, new))
        return new

    def score(held):
        return {path: np.abs(leaf) for path, leaf in leaf_paths(held)}

    mask = iterated.iterated_mask(PARAMS, score, choose, steps, before)
    assert len(seen) == 4
    for old, new in seen:
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a & b, b), old, new)  # nothing comes back
    for leaf in jax.tree.leaves(mask):
        assert np.sum(~leaf) == np.ceil(0.8 * leaf.size - 1e-9)
    one = unstructured_mask(PARAMS, size, 0.8, before=before)
    jax.tree.map(np.testing.assert_array_equal, mask, one)  # magnitude asks the same again


def test_channels_go_one_by_one_as_a_loop_that_cuts_for_real():
    """The masked iterations choose what scoring a network that is cut each time chooses."""
    found = prune_jax.prune(
        (apply, PARAMS), jnp.ones((1, WIDTHS[0])), ratio=0.6, criterion="synflow", scope="global",
        normalise="none", iterations=8,
    )  # fmt: skip
    kernels = [PARAMS[name]["kernel"].astype(np.float64) for name in sorted(PARAMS)]
    alive, total = [np.arange(n) for n in WIDTHS[1:-1]], sum(WIDTHS[1:-1])
    for k in range(1, 9):
        small = [
            w[(alive[i - 1] if i else slice(None))][:, (alive[i] if i < 3 else slice(None))]
            for i, w in enumerate(kernels)
        ]
        sums = [flow.sum(0) for flow in flows(small)[:3]]
        gone = int(np.ceil(total * (1 - 0.4 ** (k / 8)) - 1e-9)) - (total - sum(map(len, alive)))
        while gone:
            _, i, j = min(
                (s, i, j) for i, layer in enumerate(sums) if len(layer) > 1 for j, s in enumerate(layer)
            )
            alive[i], sums[i] = np.delete(alive[i], j), np.delete(sums[i], j)
            gone -= 1
    for i, kept in enumerate(alive):
        np.testing.assert_array_equal(found.keep[f"layer{i}"], kept)


def test_the_masked_network_has_the_scores_of_the_small_one():
    groups = find_groups(apply, PARAMS, jnp.ones((1, WIDTHS[0])))
    gathered = gatherer({"synflow"}, flow=lambda p: apply(p, jnp.ones((1, WIDTHS[0]))), groups=groups)

    def score(held):
        facts = gathered(held, (), None)
        assert set(weight_scores(CRITERIA["synflow"], facts)) == {f"layer{i}/kernel" for i in range(4)}
        return channel_scores(CRITERIA["synflow"], facts)

    seen = []

    def choose(scores, step, so_far):
        seen.append(scores)
        return {"layer0": np.array(step)}

    keep = iterated.iterated_keep(PARAMS, groups, score, choose, [[1, 2, 5, 7], [0, 1, 2, 5]])
    np.testing.assert_array_equal(keep["layer0"], [1, 2, 5])  # what is gone stays gone
    gone = np.setdiff1d(np.arange(10), [1, 2, 5, 7])
    assert (seen[1]["layer0"][gone] == -np.inf).all()
    assert np.isfinite(np.delete(seen[1]["layer0"], gone)).all()


def test_a_speedup_is_reached_and_iterations_are_refused_where_they_make_no_sense():
    x = jnp.ones((1, WIDTHS[0]))
    found = prune_jax.prune((apply, PARAMS), x, speedup=2.0, scope="global", criterion="l1", iterations=5)
    assert found.before.macs / found.after.macs >= 2
    with pytest.raises(ValueError, match="iterations is 0; it must be a whole number of at least 1"):
        prune_jax.prune((apply, PARAMS), x, ratio=0.5, iterations=0)
    with pytest.raises(ValueError, match="keep says already what stays"):
        prune_jax.prune((apply, PARAMS), x, keep={}, iterations=2)

    def normed(params, x):
        h = x @ params["a"]
        return (h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6)) @ params["b"]

    pair = {"a": RNG.normal(size=(3, 4)), "b": RNG.normal(size=(4, 2))}
    with pytest.raises(ValueError, match=r"iterations is 3, .*no mask can stand for channels of 'a'"):
        prune_jax.prune((normed, pair), jnp.ones((1, 3)), ratio=0.5, iterations=3)


def test_a_network_that_was_cut_before_is_scored_again():
    """Its function was traced in float32, and stays in it."""
    x = jnp.ones((1, WIDTHS[0]))
    first = prune_jax.prune((apply, PARAMS), x, ratio=0.3, criterion="synflow")
    second = prune_jax.prune(first, ratio=0.4, criterion="synflow", iterations=2)
    kernels = [np.asarray(first.variables[name]["kernel"], np.float64) for name in sorted(PARAMS)]
    for scores, name in zip(flows(kernels), sorted(PARAMS)[:3], strict=False):
        left = first.keep[name][np.sort(np.argsort(scores.sum(0), kind="stable")[-len(second.keep[name]) :])]
        assert set(second.keep[name]) <= set(first.keep[name])
        assert (
            len(np.intersect1d(left, second.keep[name])) >= len(left) - 1
        )  # the second iteration scores anew
