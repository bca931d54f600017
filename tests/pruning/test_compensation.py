"""Compensations in one call: masked = shrunk after them, and what there is without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx
from float64_net import apply, gathered, layers, network

from prune_jax import prune
from prune_jax.pruning import allocation
from prune_jax.pruning.compensation import compensated
from prune_jax.pruning.criteria.table import CRITERIA, Criterion, channel_scores
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.surgery import shrink

COMPENSATED = [
    name for name, criterion in CRITERIA.items() if criterion.compensate and not criterion.weights_only
]


@pytest.fixture(scope="module")
def given():
    params, x = network()
    return params, x, {"batches": [x[:20], x[20:]], "ratio": 0.5}


@pytest.fixture(scope="module")
def facts():
    return gathered({"inputs", "input_grams"})


@pytest.mark.parametrize("name", COMPENSATED)
def test_the_masked_network_computes_what_the_small_one_does(name, facts):
    keep = allocation.uniform(facts.groups, channel_scores(CRITERIA[name], facts), 0.5)
    params, (_, x) = compensated(CRITERIA[name], facts, keep), network()
    small = apply(shrink(params, facts.groups, keep), x)
    masked = apply(apply_mask(params, expand(params, facts.groups, keep)), x)
    np.testing.assert_allclose(masked, small, rtol=1e-4, atol=1e-5)
    assert (np.abs(small - apply(shrink(facts.params, facts.groups, keep), x)) > 0.01).any()


def test_one_call_masks_or_cuts_the_same_compensated_network(given):
    params, x, how = given
    small = prune((apply, params), x[:1], criterion="channel_lasso", **how)
    masked = prune((apply, params), x[:1], criterion="channel_lasso", masked=True, **how)
    jax.tree.map(np.testing.assert_array_equal, small.keep, masked.keep)
    outputs = small.apply(small.variables, x)
    np.testing.assert_allclose(masked.apply(masked.variables, x), outputs, rtol=1e-4, atol=1e-5)


def test_without_compensation_the_same_channels_go_and_the_rest_stays_as_it_is(given):
    params, x, how = given
    control = prune((apply, params), x[:1], criterion="flap", compensate=False, layers="b", **how)
    keep, position = control.keep["b"], np.arange(36) % 4
    np.testing.assert_array_equal(control.variables["head"]["bias"], params["head"]["bias"])
    kernel = np.asarray(params["head"]["kernel"])[np.isin(position, keep)]
    np.testing.assert_array_equal(control.variables["head"]["kernel"], kernel)


def test_sparsegpt_changes_the_weights_that_stay(given):
    params, x, how = given
    pruned, control = (
        prune((apply, params), x[:1], criterion="sparsegpt", granularity="unstructured", compensate=on, **how)
        for on in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, pruned.mask, control.mask)
    assert not np.asarray(pruned.variables["b"]["kernel"])[np.asarray(pruned.mask["b"]["kernel"]) == 0].any()
    dense = np.asarray(apply(params, x))
    damage = [np.square(np.asarray(apply(p.variables, x)) - dense).sum() for p in (pruned, control)]
    assert damage[0] < damage[1]
    stay = np.asarray(control.mask["b"]["kernel"]) != 0
    np.testing.assert_array_equal(
        np.asarray(control.variables["b"]["kernel"])[stay], np.asarray(params["b"]["kernel"])[stay]
    )


def test_a_second_masked_call_compensates_what_the_first_left(given):
    params, x, how = given
    first = prune((apply, params), x[:1], criterion="flap", masked=True, **how | {"ratio": 0.3})
    second = prune(first, criterion="flap", masked=True, **how)
    cut = prune(
        prune((apply, params), x[:1], criterion="flap", **how | {"ratio": 0.3}), criterion="flap", **how
    )
    assert {n: k.tolist() for n, k in second.keep.items()} == {n: k.tolist() for n, k in cut.keep.items()}
    np.testing.assert_allclose(
        second.apply(second.variables, x), cut.apply(cut.variables, x), rtol=1e-4, atol=1e-5
    )


def test_several_iterations_compensate_what_the_network_was_before_all_of_them(given):
    params, x, how = given
    pruned = prune((apply, params), x[:1], criterion="flap", iterations=2, layers="b", **how)
    rows, weights, bias = layers()[0]["head"]
    gone = ~np.isin(np.arange(36) % 4, pruned.keep["b"])
    missing = rows.mean(0)[gone] @ weights[gone]
    np.testing.assert_allclose(pruned.variables["head"]["bias"], bias + missing, rtol=1e-4, atol=1e-5)


class Normed(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.one = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.two = nnx.Conv(8, 6, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.two(nnx.relu(self.one(x))))).mean((1, 2)))


def test_flap_lowers_the_running_mean_of_a_norm_where_there_is_no_bias():
    net, x = drawn(lambda _: Normed()), np.random.default_rng(0).normal(size=(20, 7, 7, 3)).astype(np.float32)
    small = prune(net, x[:1], criterion="flap", batches=[x], ratio=0.5, layers="one").model

    before = np.asarray(net.norm.mean[...])

    @nnx.jit
    def normed(module):  # what the norm subtracts its mean from, minus that mean
        return module.two(nnx.relu(module.one(x))) - module.norm.mean[...].reshape(1, 1, 1, -1)

    wanted = normed(net).mean((0, 1, 2))
    np.testing.assert_allclose(normed(small).mean((0, 1, 2)), wanted, rtol=1e-4, atol=1e-5)
    assert small.one.out_features == 4
    np.testing.assert_array_equal(net.norm.mean[...], before)  # the target stays as it is


def test_a_compensation_that_returns_other_leaves_is_refused():
    def cut(evidence, keep):
        return {"a": np.zeros(2)}

    criterion = Criterion(CRITERIA["l1"].score, "weight", compensate=cut)
    with pytest.raises(
        ValueError, match=r"^criterion is 'l1', whose compensation returned leaf 'a' of shape \(2,\)"
    ):
        compensated(criterion, Evidence({"a": np.zeros(3)}), {})


def test_a_layer_that_meets_no_data_is_named(given):
    params = {"a": jnp.ones((4, 6)), "places": jnp.ones((2, 6))}
    x = np.ones((2, 4), np.float32)
    asked = {"criterion": "wanda", "granularity": "unstructured", "ratio": 0.5, "batches": [x]}

    def net(p, x):
        return x @ p["a"] + p["places"]

    told = "criterion is 'wanda', which has no scores of places; it meets .* such as layers='a'"
    with pytest.raises(ValueError, match=told) as caught:
        prune((net, params), x, **asked)
    assert "\n" not in str(caught.value)
    pruned = prune((net, params), x, layers="a", **asked)
    np.testing.assert_array_equal((np.asarray(pruned.mask["a"]) == 0).sum(0), np.full(6, 2))
    assert prune((net, params), x, **asked | {"ratio": {"a": 0.5}}).mask["places"].all()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"criterion": "sparsegpt"}, "criterion is 'sparsegpt', which scores single weights"),
        ({"criterion": "wanda"}, r"criterion is 'wanda', which needs inputs; give batches=\[...\]"),
        (
            {"criterion": "hrank", "granularity": "unstructured"},
            "criterion is 'hrank', which scores whole channels, so it can't rank single weights",
        ),
        (
            {"criterion": "hrank", "batches": 1},
            "criterion is 'hrank', which has no scores of a: no convolution over two axes makes it",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(asked, told):
    params = {"a": jnp.ones((4, 6)), "b": jnp.ones((6, 2))}
    x = np.ones((2, 4), np.float32)
    asked |= {"batches": [x]} if "granularity" in asked or "batches" in asked else {}
    with pytest.raises(ValueError, match=told) as caught:
        prune((lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], params), x, ratio=0.5, **asked)
    assert "\n" not in str(caught.value)
