"""Trees that a user took apart are matched by what they hold: parts, States, modules, boxed variables."""

import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.masks import apply_mask, expand, hold
from prune_jax.pruning.surgery import shrink

KEPT = np.array([0, 3, 4])
X = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)


def network():
    layers = (nnx.Linear, 4, 6), (nnx.BatchNorm, 6), (nnx.Linear, 6, 2)
    net = drawn(lambda rngs: nnx.Sequential(*(make(*sizes, rngs=rngs) for make, *sizes in layers)))
    net.eval()
    return net


@pytest.fixture(scope="module")
def traced():
    net = network()
    graphdef, state = nnx.split(net)
    params = nnx.to_pure_dict(state)
    return net, params, find_groups(lambda p, x: nnx.merge(graphdef, p)(x), params, X)


KEEP = {"layers/0": KEPT}
BY_HAND = {  # which indexing the keep means for each leaf of the network
    "0/kernel": np.s_[:, KEPT],
    "0/bias": KEPT,
    "1/scale": KEPT,
    "1/bias": KEPT,
    "1/mean": KEPT,
    "1/var": KEPT,
    "2/kernel": KEPT,
    "2/bias": np.s_[:],
}


def small_by_hand(tree):
    """The leaf's place in the network is the last two words of its path, whatever boxes it lies in."""

    def one(path, leaf):
        words = [word for word in re.findall(r"\w+", jax.tree_util.keystr(path)) if word != "value"]
        return leaf[BY_HAND["/".join(words[-2:])]]

    return jax.tree_util.tree_map_with_path(one, tree)


slopes = nnx.jit(nnx.grad(lambda m: m(X).sum()))
PARTS = {
    "gradients": lambda net: slopes(net),
    "gradients, dict": lambda net: nnx.to_pure_dict(slopes(net)),
    "Params": lambda net: nnx.state(net, nnx.Param),
    "Params, dict": lambda net: nnx.to_pure_dict(nnx.state(net, nnx.Param)),
    "statistics": lambda net: nnx.state(net, nnx.BatchStat),
    "statistics, dict": lambda net: nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)),
    "kernels alone": lambda net: nnx.state(net, nnx.PathContains("kernel")),
    "one layer": lambda net: {"layers": {0: nnx.to_pure_dict(nnx.state(net))["layers"][0]}},
    "pure State": lambda net: nnx.as_pure(nnx.state(net)),
    "module": lambda net: net,
    "flat dict": lambda net: flax.traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(net))),
    "variables in a dict": lambda net: {
        "layers": {0: {"kernel": net.layers[0].kernel, "bias": net.layers[0].bias}}
    },
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_cut_and_masked_as_by_hand(traced, part):
    net, _, groups = traced
    tree = PARTS[part](net)
    small, hand = shrink(tree, groups, KEEP), small_by_hand(tree)
    assert jax.tree.structure(small) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(small), jax.tree.leaves(hand))
    mask = expand(tree, groups, KEEP)
    masked = apply_mask(tree, mask)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(small_by_hand(masked)), jax.tree.leaves(hand))
    for leaf, before, cut in zip(*map(jax.tree.leaves, (masked, tree, hand)), strict=True):
        assert np.abs(leaf).sum() == pytest.approx(np.abs(np.asarray(cut)).sum(), rel=1e-6)
        assert leaf.shape == before.shape


MASKS = {
    "dict": lambda net, params, groups: expand(params, groups, KEEP),
    "dict of Params": lambda net, params, groups: expand(
        nnx.to_pure_dict(nnx.state(net, nnx.Param)), groups, KEEP
    ),
    "State": lambda net, params, groups: expand(nnx.state(net), groups, KEEP),
    "State of Params": lambda net, params, groups: expand(nnx.state(net, nnx.Param), groups, KEEP),
    "module": lambda net, params, groups: expand(net, groups, KEEP),
}
INSIDE = {
    "chain": lambda mask: optax.chain(optax.sgd(0.1, 0.9), hold(mask)),
    "multi": lambda mask: optax.chain(
        optax.multi_transform(
            {"one": optax.sgd(0.1, 0.9), "two": optax.sgd(0.1)},
            lambda tree: jax.tree_util.tree_map_with_path(
                lambda path, _: "one" if "kernel" in str(path) else "two", tree
            ),
        ),
        hold(mask),
    ),
    "masked": lambda mask: optax.chain(
        optax.sgd(0.1), optax.masked(hold(mask), lambda tree: jax.tree.map(lambda a: a.ndim == 2, tree))
    ),
}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("kind", MASKS)
def test_hold_works_inside_an_nnx_optimizer(traced, kind, inside):
    net, params, groups = traced
    mine = nnx.clone(net)
    optimizer = nnx.Optimizer(mine, INSIDE[inside](MASKS[kind](net, params, groups)), wrt=nnx.Param)
    for _ in range(2):
        optimizer.update(mine, nnx.grad(lambda m: (m(X) ** 2).sum())(mine))
    kernel, last = np.asarray(mine.layers[0].kernel[...]), np.asarray(mine.layers[2].kernel[...])
    gone = np.setdiff1d(np.arange(6), KEPT)
    assert (kernel[:, gone] == 0).all()
    assert (last[gone] == 0).all()
    assert (kernel[:, KEPT] != np.asarray(net.layers[0].kernel[...])[:, KEPT]).any()


def test_what_does_not_belong_is_one_line_of_ours(traced):
    net, params, groups = traced
    mask = expand(params, groups, KEEP)
    other = {"layers": {0: {"kernel": jnp.ones((4, 6)), "gain": jnp.ones(6)}}}
    with pytest.raises(ValueError, match=r"leaf 'layers/0/gain' has no mask; the mask has .*expand\(params"):
        apply_mask(other, mask)
    with pytest.raises(ValueError, match=r"leaf 'layers/0/bias' has shape \(3,\), its mask \(6,\)"):
        hold(mask).init(shrink(params, groups, KEEP))
    with pytest.raises(ValueError, match=r"'layers/0/bias/value' has shape \(3,\), but .* 6 indices"):
        shrink(nnx.state(nnx.merge(nnx.graphdef(net), shrink(params, groups, KEEP))), groups, KEEP)
    with pytest.raises(ValueError, match=r"no such leaf, and has 'a/gain', which was not traced"):
        shrink({"a": {"gain": jnp.ones(6)}}, groups, KEEP)


class Boxed(nn.Module):
    """Linen's own way to state a sharding: each param lies in a Partitioned box."""

    partition: object

    @nn.compact
    def __call__(self, x):
        init = self.partition(nn.initializers.lecun_normal(), ("in", "out"))
        return nn.Dense(2)(nn.relu(nn.Dense(6, kernel_init=init, name="wide")(x)))


@pytest.mark.parametrize("partition", [nn.with_partitioning, nn.with_logical_partitioning])
def test_boxes_of_linen_are_seen_through(partition):
    model = Boxed(partition)
    boxed = law.numbers(jax.eval_shape(model.init, jax.random.key(0), X))
    bare = nn.unbox(boxed)
    assert jax.tree.structure(boxed) != jax.tree.structure(bare)
    for traced in (boxed, bare):
        groups = find_groups(lambda v, x: model.apply(v, x), traced, X)
        keep = {"wide": KEPT}
        hand = [bare["params"]["Dense_0"]["bias"], bare["params"]["Dense_0"]["kernel"][KEPT]]
        hand += [bare["params"]["wide"]["bias"][KEPT], bare["params"]["wide"]["kernel"][:, KEPT]]
        for tree in (boxed, bare, boxed["params"], bare["params"], optax.trace(0.9).init(boxed)):
            small = shrink(tree, groups, keep)
            assert [a.shape for a in jax.tree.leaves(small)] == [a.shape for a in hand]
        jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(shrink(boxed, groups, keep)), hand)
        masked = apply_mask(boxed, expand(bare["params"], groups, keep))
        gone = np.setdiff1d(np.arange(6), KEPT)
        assert (np.asarray(nn.unbox(masked)["params"]["wide"]["kernel"])[:, gone] == 0).all()


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Dense(6, name="wide")(x))
        return nn.Dense(2, name="out")(nn.relu(x))


def test_collections_of_linen_are_known_without_their_name():
    variables = law.numbers(jax.eval_shape(Normed().init, jax.random.key(0), X))
    groups = find_groups(lambda v, x: Normed().apply(v, x), variables, X)
    keep = {"wide": KEPT}
    small = shrink(variables, groups, keep)
    params, statistics = variables["params"], variables["batch_stats"]
    assert small["params"]["out"]["kernel"].shape == (3, 2)
    assert small["batch_stats"]["norm"]["mean"].shape == (3,)

    def same(found, wanted):
        jax.tree.map(np.testing.assert_array_equal, found, wanted)

    same(shrink(statistics, groups, keep), small["batch_stats"])
    same(shrink((params, statistics), groups, keep), (small["params"], small["batch_stats"]))
    same(shrink({"wide": params["wide"]}, groups, keep), {"wide": small["params"]["wide"]})
    of_all, of_statistics = expand(variables, groups, keep), expand(statistics, groups, keep)
    same(apply_mask(statistics, of_all), apply_mask(statistics, of_statistics))
    same(apply_mask(params, of_all), apply_mask(params, expand(params, groups, keep)))
    with pytest.raises(ValueError, match="no such leaf, and has 'bias', which was not traced"):
        shrink(params["wide"], groups, keep)
