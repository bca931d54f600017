"""Masks of single weights: worked cases, counts against brute force, masks that only ever grow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.pruning.granularity import ceiling
from prune_jax.pruning.layouts.unstructured import kernels, unstructured_mask
from prune_jax.pruning.masks import apply_mask

FAST = {"derandomize": True, "deadline": None, "max_examples": 50}

PARAMS = {
    "a": {"kernel": np.array([[0.1, 0.9], [-0.2, 0.5]]), "bias": np.zeros(2)},
    "b": {"kernel": np.array([[0.7], [0.8]]), "bias": np.zeros(1)},
}


def magnitude(params):
    return {path: np.abs(jax.tree_util.tree_leaves(params)[k]) for k, path in enumerate(paths(params))}


def paths(params):
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]


def test_global_magnitude_by_hand():
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5, scope="global")
    np.testing.assert_array_equal(mask["a"]["kernel"], [[False, True], [False, False]])  # .9
    np.testing.assert_array_equal(mask["b"]["kernel"], [[True], [True]])  # .7 and .8
    assert mask["a"]["bias"].shape == mask["b"]["bias"].shape == (1,)
    assert all(leaf.dtype == bool for leaf in jax.tree.leaves(mask))
    pruned = apply_mask(jax.tree.map(jnp.asarray, PARAMS), mask)
    assert sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(pruned)) == 3


def test_each_layer_by_itself_by_hand():
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5)
    np.testing.assert_array_equal(mask["a"]["kernel"], [[False, True], [False, True]])
    np.testing.assert_array_equal(mask["b"]["kernel"], [[False], [True]])


def test_eight_equal_weights_at_one_half():
    params = {"w": np.full((2, 4), -0.3)}
    for _ in range(3):
        mask = unstructured_mask(params, magnitude(params), 0.5)
        np.testing.assert_array_equal(mask["w"], [[False] * 4, [True] * 4])


def test_floors_move_the_cut_to_other_layers():
    # Without a floor, a keeps .9 alone. With half of each layer safe, a keeps .9 .5 and b .8.
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5, scope="global", at_least=0.5)
    np.testing.assert_array_equal(mask["a"]["kernel"], [[False, True], [False, True]])
    np.testing.assert_array_equal(mask["b"]["kernel"], [[False], [True]])


def test_one_weight_of_each_layer_stays():
    for scope in ("layer", "global"):
        mask = unstructured_mask(PARAMS, magnitude(PARAMS), 1.0, scope=scope)
        assert [int(mask[name]["kernel"].sum()) for name in ("a", "b")] == [1, 1]


def test_patterns_choose_layers_and_their_ratios():
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5, where=("b",))
    assert mask["a"]["kernel"].shape == (1, 1)
    np.testing.assert_array_equal(mask["b"]["kernel"], [[False], [True]])
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), {"a": 0.75, "*": 0.0})
    np.testing.assert_array_equal(mask["a"]["kernel"], [[False, True], [False, False]])
    assert mask["b"]["kernel"].all()
    mask = unstructured_mask(PARAMS, magnitude(PARAMS), {"a": 0.75})
    assert mask["b"]["kernel"].shape == (1, 1)


def test_layers_are_named_as_groups_are():
    params = {
        "params": {
            "layers": [{"kernel": np.ones((2, 3)), "bias": np.ones(3)}, {"kernel": np.ones((3, 2))}],
            "attention": {"query": np.ones((2, 2)), "key": np.ones((2, 2))},
        },
        "batch_stats": {"norm": {"mean": np.ones(3)}},
        "count": np.ones((2, 2), np.int32),
        "rng": jax.random.key(0),
    }
    assert kernels(params) == {
        "attention/key": "params/attention/key",
        "attention/query": "params/attention/query",
        "layers/0": "params/layers/0/kernel",
        "layers/1": "params/layers/1/kernel",
    }
    scores = {
        path: np.ones(np.shape(leaf))
        for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True)
    }
    mask = unstructured_mask(params, scores, 0.5)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    assert mask["rng"].shape == ()
    assert mask["count"].shape == (1, 1)
    assert kernels((np.ones((2, 2)), (np.ones((2, 2)),))) == {"0": "0", "1": "1/0"}


@settings(**FAST)
@given(
    st.lists(st.integers(0, 95), min_size=2, max_size=4),
    st.integers(0, 5),
    st.sampled_from(("layer", "global")),
)
def test_masks_only_grow_and_each_count_is_of_the_dense_network(percents, seed, scope):
    rng = np.random.default_rng(seed)
    params = {
        "a": rng.integers(-2, 3, (4, 6)).astype(float),
        "b": rng.integers(-2, 3, (3, 3, 2, 2)).astype(float),
    }
    mask = None
    for percent in sorted(percents):
        scores = {name: rng.integers(0, 3, leaf.shape).astype(float) for name, leaf in params.items()}
        if mask is not None:  # what is gone has no say any more, whatever its score
            scores = {name: np.where(mask[name], score, np.nan) for name, score in scores.items()}
        after = unstructured_mask(params, scores, percent / 100, scope=scope, before=mask)
        if mask is not None:
            assert all((after[name] <= mask[name]).all() for name in params)
        if scope == "layer":
            assert [np.sum(~after[name]) for name in params] == [ceiling(percent / 100, n) for n in (24, 36)]
        else:
            assert sum(np.sum(~after[name]) for name in params) == ceiling(percent / 100, 60)
        alive = {
            name: (np.ones(leaf.shape, bool) if mask is None else mask[name]) for name, leaf in params.items()
        }
        for name in params if scope == "layer" else ():  # no weight that goes now beats one that stays
            gone, stay = scores[name][alive[name] & ~after[name]], scores[name][after[name]]
            assert gone.max(initial=-1) <= stay.min()
        mask = after


def test_the_mask_before_holds_on_leaves_that_are_not_chosen_now():
    first = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5, where=("a",))
    then = unstructured_mask(PARAMS, magnitude(PARAMS), 0.5, where=("b",), before=first)
    np.testing.assert_array_equal(then["a"]["kernel"], first["a"]["kernel"])
    np.testing.assert_array_equal(then["b"]["kernel"], [[False], [True]])


def test_a_mask_that_went_below_a_floor_prunes_no_more():
    first = unstructured_mask(PARAMS, magnitude(PARAMS), 0.75, where=("a",))
    then = unstructured_mask(PARAMS, magnitude(PARAMS), 0.8, where=("a",), at_least=0.5, before=first)
    np.testing.assert_array_equal(then["a"]["kernel"], first["a"]["kernel"])


def test_bad_input_is_refused():
    scores = magnitude(PARAMS)
    with pytest.raises(ValueError, match="scope is 'stage'; choose one of layer, global"):
        unstructured_mask(PARAMS, scores, 0.5, scope="stage")
    with pytest.raises(ValueError, match="one ratio, not one per layer"):
        unstructured_mask(PARAMS, scores, {"a": 0.5}, scope="global")
    with pytest.raises(ValueError, match="no layer's name fits 'c'; layers with kernels are a, b"):
        unstructured_mask(PARAMS, scores, 0.5, where=("c",))
    with pytest.raises(KeyError, match=r"shape \(2, 1\) for leaf 'b/kernel'"):
        unstructured_mask(PARAMS, {"a/kernel": scores["a/kernel"]}, 0.5)
    with pytest.raises(ValueError, match="NaN"):
        unstructured_mask(PARAMS, {**scores, "a/kernel": np.full((2, 2), np.nan)}, 0.5)
    for scope, words in (("layer", "layer 'a': 1 of 4"), ("global", "all chosen layers together: 2 of 6")):
        before = unstructured_mask(PARAMS, scores, 0.6, scope=scope)
        with pytest.raises(ValueError, match=f"{words} weights are to be pruned, but the mask before prunes"):
            unstructured_mask(PARAMS, scores, 0.25, scope=scope, before=before)
    with pytest.raises(ValueError, match="differ in leaf 'b/bias'"):
        unstructured_mask(PARAMS, scores, 0.5, before={"a": PARAMS["a"]})
