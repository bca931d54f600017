"""Groups that are built alike, normalisers and floors, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import prune_jax
from prune_jax.pruning import allocation
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.isomorphism import alike, isomorphic_ranking, ranks_of

RNG = np.random.default_rng(0)
SHAPES = {"a": (3, 6), "b": (6, 4), "c": (4, 10), "d": (5, 4), "e": (4, 2)}
PARAMS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def apply(p, x):
    """Dense layers a and b, then a gated layer c whose channels have two places each, then d and e."""
    h = jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"])
    gate, h = jnp.split(h @ p["c"], 2, -1)
    return jax.nn.relu((jax.nn.sigmoid(gate) * h) @ p["d"]) @ p["e"]


@pytest.fixture(scope="module")
def groups():
    return find_groups(apply, PARAMS, jnp.ones((1, 3)))


def test_groups_of_one_structure_are_found_without_their_names_or_widths(groups):
    mine = [group for group in groups if group.frozen is None]
    classes = [[group.name for group in each] for each in alike(mine, ranks_of(PARAMS))]
    assert classes == [["a", "b", "d"], ["c"]]


SCORES = {
    "a": np.array([1, 2, 3, 4, 5, 6.0]),
    "b": np.array([1.5, 7, 8, 9]),
    "c": np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
    "d": np.array([2.5, 3.5, 10, 11]),
}


def test_each_kind_loses_its_part_and_competes_with_itself_alone(groups):
    keep = isomorphic_ranking(groups, SCORES, 0.5, ranks_of(PARAMS), normalise=allocation.as_is)
    # Of a, b and d the lowest 7 of 14 are 1 1.5 2 2.5 3 3.5 4; of c the lowest 3 of 5.
    assert {name: kept.tolist() for name, kept in keep.items()} == {
        "a": [4, 5],
        "b": [1, 2, 3],
        "d": [2, 3],
        "c": [3, 4],
    }
    whole = allocation.global_ranking(groups, SCORES, 0.5, normalise=allocation.as_is)
    assert len(whole["c"]) == 1  # ranked with all, c loses all that it can


def test_every_group_keeps_its_floor(groups):
    keep = isomorphic_ranking(groups, SCORES, 0.5, ranks_of(PARAMS), normalise=allocation.as_is, at_least=0.5)
    assert [len(keep[name]) for name in "abcd"] == [
        3,
        2,
        3,
        2,
    ]  # 7 + 3 would go; c may lose 2, and a b d 3 + 2 + 2


def test_prune_has_it_as_a_scope_with_any_normaliser():
    def own(evidence):
        return SCORES

    found = prune_jax.prune(
        (apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, criterion=own, scope="isomorphic", normalise="none"
    )
    assert {name: len(kept) for name, kept in found.keep.items()} == {"a": 2, "b": 3, "c": 2, "d": 2}
    with pytest.raises(ValueError, match="normalise is 'median'; did you mean 'mean'"):
        prune_jax.prune((apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, normalise="median")
    with pytest.raises(ValueError, match="over is 'coupled', which speaks of channels"):
        prune_jax.prune(
            (apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, granularity="unstructured", over="coupled"
        )


@pytest.mark.parametrize("scope", ["global", "isomorphic"])
def test_a_ratio_that_empties_a_group_is_refused_before_any_scoring(scope):
    def never(evidence):
        raise AssertionError

    how = {"criterion": never, "scope": scope}
    with pytest.raises(ValueError, match=r"ratio is 0.9, but with one channel of every group left, 0.7"):
        prune_jax.prune((apply, PARAMS), jnp.ones((1, 3)), ratio=0.9, **how)
    with pytest.raises(
        ValueError, match=r"with at_least=0.5 of every group left, 0\.(47|5).*or lower at_least"
    ):
        prune_jax.prune((apply, PARAMS), jnp.ones((1, 3)), ratio=0.6, at_least=0.5, **how)


def test_prune_over_coupled_slices():
    found = prune_jax.prune(
        (apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, layers="b", over="coupled", reduce="max"
    )
    makes, reads = np.abs(PARAMS["b"]).mean(0), np.abs(PARAMS["c"]).mean(1)
    wanted = np.sort(np.argsort(np.maximum(makes, reads))[2:])
    np.testing.assert_array_equal(found.keep["b"], wanted)


NORMALISED = {
    "none": [4, 1, 3, -2],
    "mean": [4 / 2.5, 1 / 2.5, 3 / 2.5, -2 / 2.5],
    "max": [1, 0.25, 0.75, -0.5],
    "norm": np.array([4, 1, 3, -2]) / np.sqrt(30),
    "standardise": (np.array([4, 1, 3, -2]) - 1.5) / np.sqrt((2.5**2 + 0.5**2 + 1.5**2 + 3.5**2) / 4),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_normalisers_by_hand(name):
    found = allocation.NORMALISERS[name](np.array([4.0, 1, 3, -2]))
    np.testing.assert_allclose(found, NORMALISED[name], rtol=1e-12)
    assert np.isfinite(allocation.NORMALISERS[name](np.zeros(3))).all()


def test_the_lamp_normaliser_adds_what_is_left():
    np.testing.assert_allclose(allocation.NORMALISERS["lamp"](np.array([4.0, 1, 3])), [1, 1 / 8, 3 / 7])
    with pytest.raises(ValueError, match=r"normalise is 'lamp'.*take a criterion without negative scores"):
        allocation.NORMALISERS["lamp"](np.array([1.0, -2]))


class Normed(nnx.Module):
    """Norms of several kinds behind one another."""

    def __init__(self, norm, rngs):
        self.conv = nnx.Conv(2, 8, (3, 3), rngs=rngs)
        self.norm = norm(8, rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


NORMS = {
    "batch": lambda n, rngs: nnx.BatchNorm(n, rngs=rngs, use_running_average=True),
    "batch, in training": lambda n, rngs: nnx.BatchNorm(n, rngs=rngs),
    "group": lambda n, rngs: nnx.GroupNorm(n, num_groups=n, rngs=rngs),
    "instance": lambda n, rngs: nnx.InstanceNorm(n, rngs=rngs),
    "layer": lambda n, rngs: nnx.LayerNorm(n, rngs=rngs),
    "root mean square": lambda n, rngs: nnx.RMSNorm(n, rngs=rngs),
}


@pytest.mark.parametrize("name", NORMS)
def test_the_scale_of_any_norm_is_found(name):
    definition, state = nnx.split(nnx.eval_shape(lambda: Normed(NORMS[name], nnx.Rngs(0))))
    params = nnx.to_pure_dict(state)

    def function(tree, x):
        module = nnx.merge(definition, tree)
        return module(x)

    groups = find_groups(function, params, jax.ShapeDtypeStruct((2, 4, 4, 2), "float32"))
    (group,) = [group for group in groups if group.name == "conv"]
    shift = None if name == "root mean square" else "norm/bias"
    assert group.gains == (("norm/scale", shift),)


def test_a_group_without_a_norm_is_refused_by_name():
    words = r"criterion is 'bn_scale', which can't score 'a': no norm scales its channels one by one; leave it out"
    with pytest.raises(ValueError, match=words):
        prune_jax.prune((apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, criterion="bn_scale")

    def fused(p, x):
        shift = p["bias"] - p["mean"] * p["scale"]
        return ((x @ p["w"]) * p["scale"].reshape(1, -1) + shift.reshape(1, -1)) @ p["v"]

    params = {"w": np.ones((3, 4)), "v": np.ones((4, 2))} | {n: np.ones(4) for n in ("bias", "mean", "scale")}
    how = {"ratio": 0.5, "batches": [(jnp.ones((1, 3)),)], "loss": lambda p, batch: fused(p, batch[0]).sum()}
    assert len(prune_jax.prune((fused, params), jnp.ones((1, 3)), criterion="bn_scale", **how).keep["w"]) == 2
    with pytest.raises(ValueError, match=r"what is added behind 'scale' is no parameter by itself"):
        prune_jax.prune((fused, params), jnp.ones((1, 3)), criterion="taylor_gate", **how)


@pytest.mark.parametrize("criterion", ["taylor", "taylor_gate", "fisher", "hessian", "snip", "grasp"])
def test_a_gradient_criterion_without_data_is_refused(criterion):
    with pytest.raises(ValueError, match=f"criterion is '{criterion}'.*; give batches="):
        prune_jax.prune((apply, PARAMS), jnp.ones((1, 3)), ratio=0.5, criterion=criterion)
