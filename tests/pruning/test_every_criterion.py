"""The contract of a criterion, over every one in the table: a new one is tested by being added."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning import allocation
from prune_jax.pruning.compensation import compensated
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria.criterion import scores_slices
from prune_jax.pruning.criteria.reduction import REDUCTIONS
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
from prune_jax.pruning.criteria.weights import prunable
from prune_jax.pruning.evidence import NEEDS, OF_KERNELS, Evidence, Fisher, InputGram, gatherer
from prune_jax.pruning.layouts.unstructured import unstructured_mask

OF_WEIGHTS = [name for name, criterion in CRITERIA.items() if criterion.unit == "weight"]
OF_CHANNELS = [name for name, criterion in CRITERIA.items() if not criterion.weights_only]


def layer(rng, *shape):
    """A convolution without bias, and the scale, bias, mean and variance of the norm behind it."""
    kernel, channels = jax.device_put(rng.normal(size=shape).astype(np.float32)), shape[-1]
    scale, bias, mean = (jax.device_put(rng.normal(size=channels).astype(np.float32)) for _ in range(3))
    norm = {"scale": scale, "bias": bias}
    return {"kernel": kernel, "norm": norm}, {"mean": mean, "var": jnp.ones(channels)}


def network(seed=0):
    rng = np.random.default_rng(seed)
    (a, stats_a), (b, stats_b) = layer(rng, 3, 3, 3, 8), layer(rng, 3, 3, 8, 5)
    head = {"kernel": jax.device_put(rng.normal(size=(5, 4)).astype(np.float32)), "bias": jnp.zeros(4)}
    return {"params": {"a": a, "b": b, "head": head}, "batch_stats": {"a": stats_a, "b": stats_b}}


def apply(variables, x):
    params = variables["params"]
    for name in ("a", "b"):
        x = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        norm, stats = params[name]["norm"], variables["batch_stats"][name]
        scale, shift, mean = (v.reshape(1, 1, 1, -1) for v in (norm["scale"], norm["bias"], stats["mean"]))
        deviation = jnp.sqrt(stats["var"] + 1e-5).reshape(1, 1, 1, -1)
        x = jax.nn.relu((x - mean) / deviation * scale + shift)
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"].reshape(1, -1)


def loss(variables, batch):
    images, labels = batch
    logits = jax.nn.log_softmax(apply(variables, images))
    return -jnp.take_along_axis(logits, labels[:, None], 1).mean()


def batches(seed=0):
    rng = np.random.default_rng(seed)
    return [
        (jax.device_put(rng.normal(size=(4, 6, 6, 3)).astype(np.float32)), jax.device_put(np.arange(4)))
        for _ in range(2)
    ]


@functools.cache
def evidence(seed=0, scale=1.0):
    variables = jax.tree.map(lambda w: scale * w, network(seed))
    return gathered(variables, apply, loss, seed)


@functools.cache
def gathering(apply, loss):
    """Compiled once for all networks of this file that have the same tree."""
    groups = find_groups(apply, WRAPPED[apply](network()), jnp.ones((2, 6, 6, 3)))
    return gatherer(
        NEEDS,
        loss=loss,
        apply=lambda tree, batch: apply(tree, batch[0]),
        flow=lambda tree: apply(tree, jnp.ones((1, 6, 6, 3))),
        groups=groups,
    )


def gathered(variables, apply, loss, seed=0):
    return gathering(apply, loss)(variables, batches(seed), jax.random.key(seed))


TREEDEF = jax.tree.structure(network())


def in_pairs(variables):
    return tuple([leaf] for leaf in jax.tree.leaves(variables))


def apply_pairs(pairs, x):
    return apply(TREEDEF.unflatten([leaf for (leaf,) in pairs]), x)


def loss_pairs(pairs, batch):
    return loss(TREEDEF.unflatten([leaf for (leaf,) in pairs]), batch)


WRAPPED = {apply: lambda variables: variables, apply_pairs: in_pairs}


@functools.cache
def evidence_in_pairs():
    return gathered(in_pairs(network()), apply_pairs, loss_pairs)


@pytest.mark.parametrize("name", CRITERIA)
def test_it_declares_its_unit_and_needs(name):
    criterion = CRITERIA[name]
    assert criterion.unit in ("weight", "channel")
    assert criterion.needs <= NEEDS
    assert criterion.unit == "weight" or (criterion.channels is None and not criterion.weights_only)


@pytest.mark.parametrize("name", OF_CHANNELS)
def test_one_finite_score_per_channel_of_every_prunable_group(name):
    facts = evidence()
    scores = channel_scores(CRITERIA[name], facts)
    assert {group.name: (group.size,) for group in prunable(facts.groups)} == {
        key: score.shape for key, score in scores.items()
    }
    assert set(scores) == {"a", "b"}  # the logits' group is frozen
    assert all(np.isfinite(score).all() for score in scores.values())


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_one_finite_score_per_weight_of_every_kernel(name):
    facts = evidence()
    shapes = {
        "params/a/kernel": (3, 3, 3, 8),
        "params/b/kernel": (3, 3, 8, 5),
        "params/head/kernel": (5, 4),
    }
    for groups in (facts.groups, ()):
        scores = weight_scores(CRITERIA[name], facts._replace(groups=groups))
        assert {path: score.shape for path, score in scores.items()} == shapes
        assert all(np.isfinite(score).all() for score in scores.values())


@pytest.mark.parametrize("name", OF_CHANNELS)
def test_the_same_evidence_gives_the_same_scores_and_is_left_alone(name):
    facts = evidence()
    before = jax.tree.map(np.array, facts.params)
    first, second = (channel_scores(CRITERIA[name], facts) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    jax.tree.map(np.testing.assert_array_equal, before, facts.params)


@pytest.mark.parametrize("name", CRITERIA)
def test_it_can_be_jitted_and_only_rounds_differently(name):
    facts = evidence()
    fields = {field: getattr(facts, field) for field in CRITERIA[name].needs}
    units = {"channel": channel_scores, "weight": weight_scores}
    for unit in [u for u, names in (("channel", OF_CHANNELS), ("weight", OF_WEIGHTS)) if name in names]:
        traced = jax.jit(
            lambda params, more, of=units[unit]: of(CRITERIA[name], Evidence(params, facts.groups, **more))
        )(facts.params, fields)
        plain = units[unit](CRITERIA[name], facts)
        assert set(traced) == set(plain)
        for key, score in plain.items():
            assert isinstance(
                score, np.ndarray
            )  # on the host, so that a choice of channels never hangs on XLA
            # float32 sums of up to 72 terms; sums that cancel are off by more of their own size, hence the atol.
            np.testing.assert_allclose(traced[key], score, rtol=1e-5, atol=1e-6 * np.abs(score).max())


@pytest.mark.parametrize("name", OF_CHANNELS)
def test_it_works_on_any_pytree(name):
    """The same network in nested tuples and lists: the same scores, under other names."""
    facts = evidence()
    scores = channel_scores(CRITERIA[name], evidence_in_pairs())
    wanted = channel_scores(CRITERIA[name], facts)
    assert len(scores) == len(wanted) == 2
    for score, other in zip(scores.values(), wanted.values(), strict=True):
        np.testing.assert_array_equal(score, other)


def permuted(facts, order):
    """The evidence of the same network with the channels of group 'a' in another order."""
    places = {(m.path, m.axis) for group in facts.groups if group.name == "a" for m in group.members}

    def reordered(tree):
        flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
        leaves = []
        for path, leaf in flat:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            for axis in range(np.ndim(leaf)):
                leaf = np.take(np.asarray(leaf), order, axis) if (name, axis) in places else leaf
            leaves.append(leaf)
        return treedef.unflatten(leaves)

    def mine(table):
        return {**table, "a": jax.tree.map(lambda per_channel: np.asarray(per_channel)[order], table["a"])}

    def of_inputs(known):
        """The rows of b's kernel, in the order (window, channels of a), which alone reads a."""
        rows = (np.arange(9)[:, None] * 8 + order[None]).reshape(-1)
        mine = known["params/b/kernel"]
        if isinstance(mine, InputGram):
            matrix = np.asarray(mine.matrix)[:, rows][:, :, rows]
            return {**known, "params/b/kernel": dataclasses.replace(mine, matrix=matrix)}
        total, square = (np.asarray(each)[:, rows] for each in (mine.total, mine.square))
        return {**known, "params/b/kernel": dataclasses.replace(mine, total=total, square=square)}

    changed = {}
    for field in NEEDS - {"key"}:
        found = getattr(facts, field)
        if isinstance(found, Fisher):
            changed[field] = Fisher(reordered(found.weights), mine(found.slices))
        elif field in OF_KERNELS:
            changed[field] = of_inputs(found)
        elif set(found) == set(facts.params):
            changed[field] = reordered(found)
        else:
            changed[field] = mine(found)
    return facts._replace(params=reordered(facts.params), **changed)


@pytest.mark.parametrize(
    "name", [name for name in OF_CHANNELS if name != "random"]
)  # which follows its key alone
def test_channels_in_another_order_have_the_same_scores_in_that_order(name):
    facts, order = evidence(), np.array([3, 0, 7, 1, 6, 2, 5, 4])
    before = channel_scores(CRITERIA[name], facts)
    after = channel_scores(CRITERIA[name], permuted(facts, order))
    rtol = 1e-6 if name == "fpgm" else 1e-9  # its matrix product is one of float32, as the weights are
    np.testing.assert_allclose(after["a"], before["a"][order], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(after["b"], before["b"], rtol=1e-5, atol=1e-7)  # sums over a in another order


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_scores_of_float32_weights_are_float32(name):
    assert {score.dtype for score in weight_scores(CRITERIA[name], evidence()).values()} == {
        np.dtype("float32")
    }


COUPLED = [name for name in OF_CHANNELS if scores_slices(CRITERIA[name])]


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_coupled_slices_are_scored_as_well(name, reduce):
    facts = evidence()
    plain = channel_scores(CRITERIA[name], facts)
    scores = channel_scores(CRITERIA[name], facts, over="coupled", reduce=reduce)
    assert {key: score.shape for key, score in scores.items()} == {"a": (8,), "b": (5,)}
    assert all(np.isfinite(score).all() for score in scores.values())
    if reduce == "first":
        np.testing.assert_array_equal(scores["a"], plain["a"])


@functools.cache
def all_equal():
    """A network of equal weights: no criterion can tell its channels apart, but for the signs of a Hessian's draws."""
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5, leaf.dtype), network())
    return gathered(variables, apply, loss)


@pytest.mark.parametrize("name", CRITERIA)
def test_counts_are_exact_on_ties(name):
    facts = all_equal()
    if name in OF_CHANNELS:
        scores = channel_scores(CRITERIA[name], facts)
        assert len(allocation.uniform(facts.groups, scores, 0.5)["a"]) == 4
        kept = allocation.global_ranking(facts.groups, scores, 0.5, normalise=allocation.as_is)
        assert sum(len(kept[group]) for group in ("a", "b")) == 13 - 7
    if name in OF_WEIGHTS:
        mask = unstructured_mask(facts.params, weight_scores(CRITERIA[name], facts), 0.5, scope="global")
        size = 3 * 3 * 3 * 8 + 3 * 3 * 8 * 5 + 5 * 4
        assert sum(np.sum(~leaf) for leaf in jax.tree.leaves(mask)) == -(-size // 2)


@pytest.mark.parametrize("name", OF_CHANNELS)
def test_another_network_compiles_nothing_anew(name):
    facts, criterion, traces = evidence(), CRITERIA[name], []

    @jax.jit
    def scores(params, more):
        traces.append(name)
        return channel_scores(criterion, Evidence(params, facts.groups, **more))

    fields = {field: getattr(facts, field) for field in criterion.needs}
    for factor, ratio in ((1.0, 0.2), (2.0, 0.8)):
        params = jax.tree.map(lambda leaf, by=factor: by * leaf, facts.params)
        allocation.uniform(facts.groups, scores(params, fields), ratio)
    assert traces == [name]


@pytest.mark.parametrize("name", ["l1", "l2", "largest", "lamp", "bn_scale"])
def test_signs_of_weights_do_not_matter(name):
    facts = evidence()
    turned = facts._replace(params=jax.tree.map(lambda leaf: -leaf, facts.params))
    for key, score in channel_scores(CRITERIA[name], facts).items():
        np.testing.assert_array_equal(channel_scores(CRITERIA[name], turned)[key], score)


@pytest.mark.parametrize("name", OF_CHANNELS)
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.99])
def test_its_scores_allocate_to_the_exact_count(name, ratio):
    facts = evidence()
    keep = allocation.uniform(facts.groups, channel_scores(CRITERIA[name], facts), ratio)
    gone = {0.0: (0, 0), 0.3: (3, 2), 0.99: (7, 4)}[ratio]  # ceil(ratio * n) of 8 and 5, one always stays
    assert [len(keep["a"]), len(keep["b"])] == [8 - gone[0], 5 - gone[1]]


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_its_scores_give_masks_of_the_exact_count(name):
    facts = evidence()
    mask = unstructured_mask(facts.params, weight_scores(CRITERIA[name], facts), 0.3, scope="global")
    size = 3 * 3 * 3 * 8 + 3 * 3 * 8 * 5 + 5 * 4
    assert sum(np.sum(~leaf) for leaf in jax.tree.leaves(mask)) == -(-3 * size // 10)


SCALED = ["l1", "l2", "largest", "random", "fpgm", "bn_scale", "lamp"]  # those that look at no data


@pytest.mark.parametrize("name", SCALED)
def test_ranks_do_not_depend_on_the_scale_of_the_weights(name):
    small, large = (channel_scores(CRITERIA[name], evidence(scale=scale)) for scale in (1.0, 16.0))
    for key in small:
        np.testing.assert_array_equal(np.argsort(small[key]), np.argsort(large[key]))


COMPENSATED = [name for name, criterion in CRITERIA.items() if criterion.compensate is not None]


def chosen(name, facts, ratio):
    """What a criterion of channels or of weights chooses: a keep or a mask."""
    if CRITERIA[name].unit == "channel":
        return allocation.uniform(facts.groups, channel_scores(CRITERIA[name], facts), ratio)
    return unstructured_mask(facts.params, weight_scores(CRITERIA[name], facts), ratio)


@pytest.mark.parametrize("name", COMPENSATED)
def test_where_nothing_goes_there_is_nothing_to_compensate(name):
    facts = evidence()
    params = compensated(CRITERIA[name], facts, chosen(name, facts, 0.0))
    jax.tree.map(np.testing.assert_array_equal, params, facts.params)


@pytest.mark.parametrize("name", COMPENSATED)
def test_a_compensation_changes_numbers_alone_and_not_those_it_was_given(name):
    facts = evidence()
    before, decision = jax.tree.map(np.array, facts.params), chosen(name, facts, 0.5)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), facts.params)
    for given in (facts, facts._replace(params=half)):
        params = compensated(CRITERIA[name], given, decision)
        kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (params, given.params)]
        assert kinds[0] == kinds[1]
        assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(params))
        changed = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).any(), params, given.params)
        assert any(jax.tree.leaves(changed))
    jax.tree.map(np.testing.assert_array_equal, before, facts.params)
