"""Depth pruning: the network without blocks is the one built without them; scores against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import models
from prune_jax.pruning.depth import (
    blocks_kept,
    keep_blocks,
    number_of_blocks,
    similarity_scores,
    skipping_losses,
)

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int32)


def decoder(depth, scan, seed=0):
    sizes = {"hidden": 8, "heads": 4, "kv_heads": 2, "head_dim": 2, "mlp": 6, "depth": depth, "scan": scan}
    return drawn(
        lambda _: models.abstract("decoder", num_classes=11, input_shape=(5,), tied=True, **sizes), seed
    )


@functools.cache
def deep(scan):
    return decoder(4, scan)


@functools.partial(jax.jit, static_argnums=0)
def run(graph, state):
    return nnx.merge(graph, state)(jnp.asarray(TOKENS))


def logits(net):
    return np.asarray(run(*nnx.split(net)))


@pytest.mark.parametrize("scan", [False, True])
def test_a_network_without_blocks_is_the_one_built_without_them(scan):
    net, keep = deep(scan), [0, 3]
    small, built = keep_blocks(net, keep), decoder(2, scan, seed=1)
    theirs = nnx.to_pure_dict(nnx.state(net))
    blocks = theirs["blocks"]
    if scan:
        theirs["blocks"] = jax.tree.map(lambda leaf: leaf[np.array(keep)], blocks)
    else:
        theirs["blocks"] = {k: blocks[n] for k, n in enumerate(keep)}
    nnx.update(built, theirs)
    np.testing.assert_array_equal(logits(small), logits(built))
    assert number_of_blocks(net) == 4  # the network itself is as it was
    assert not np.allclose(logits(small), logits(net))


@pytest.mark.parametrize("scan", [False, True])
def test_similarity_is_one_minus_the_mean_cosine(scan):
    graph, state = nnx.split(deep(scan))
    batches = [TOKENS, TOKENS[:1] + 1]
    streams = jax.jit(lambda state, x: jnp.stack(list(nnx.merge(graph, state).streams(x))))
    found = similarity_scores(streams, state, batches)
    cosines = []
    for batch in batches:
        x = np.asarray(streams(state, batch), np.float64).reshape(5, -1, 8)
        norm = np.linalg.norm(x, axis=-1)
        cosines.append((x[1:] * x[:-1]).sum(-1) / (norm[1:] * norm[:-1]))
    wanted = 1 - np.concatenate(cosines, 1).mean(1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    assert found.shape == (4,)
    assert (found > 0).all()


@pytest.mark.parametrize("scan", [False, True])
def test_losses_when_skipped_are_those_of_the_networks_without(scan):
    def loss(net, batch):
        return (net(batch) ** 2).mean()

    net = deep(scan)
    found = skipping_losses(loss, net, [jnp.asarray(TOKENS)])
    wanted = [
        (logits(keep_blocks(net, [j for j in range(4) if j != i])).astype(np.float64) ** 2).mean()
        for i in range(4)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_losses_of_any_pytree():
    params = {"net": {"layers": (1.0, 3.0, 2.0)}, "other": 5.0}
    found = skipping_losses(lambda p, x: sum(p["net"]["layers"]) * x, params, [2.0, 4.0], "net/layers")
    np.testing.assert_allclose(found, [15.0, 9.0, 12.0])
    assert keep_blocks(params, [1, 2], "net/layers") == {"net": {"layers": (3.0, 2.0)}, "other": 5.0}


def test_dicts_are_numbered_anew_in_order():
    params = {"h": {str(k): k for k in range(12)}}
    assert keep_blocks(params, [1, 2, 10], "h") == {"h": {"0": 1, "1": 2, "2": 10}}


def test_abstract_leaves_are_cut_too():
    small = keep_blocks({"blocks": {"w": jax.ShapeDtypeStruct((3, 2), "float32")}}, [1])
    assert small["blocks"]["w"].shape == (1, 2)


@pytest.mark.parametrize(
    ("scores", "count", "kept"), [([3, 1, 2, 1], 2, [0, 2]), ([1, 1, 1], 2, [0, 1]), ([2, 1], 2, [0, 1])]
)
def test_the_highest_scores_stay_and_ties_go_from_the_end(scores, count, kept):
    assert blocks_kept(scores, count) == kept


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [4], [-1, 0]])
def test_blocks_that_are_not_there_are_refused(keep):
    with pytest.raises(ValueError, match=r"keep is .*'blocks' holds blocks 0 to 3; name those that stay"):
        keep_blocks(deep(False), keep)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="nothing at 'layers'; name the path"):
        keep_blocks(deep(False), [0], "layers")
    with pytest.raises(ValueError, match="no common first axis"):
        number_of_blocks({"blocks": {"a": np.ones(2), "b": np.ones(3)}})
    with pytest.raises(ValueError, match="no batches to score blocks with; give at least one"):
        similarity_scores(lambda p, x: x, None, [])
    with pytest.raises(ValueError, match="no batches to score blocks with"):
        skipping_losses(lambda p, x: x, {"blocks": [1, 2]}, [])
    with pytest.raises(ValueError, match="one block alone"):
        skipping_losses(lambda p, x: x, {"blocks": [1]}, [1])
    with pytest.raises(ValueError, match="5 of 3 blocks can't stay; choose 1 to 3"):
        blocks_kept([1, 2, 3], 5)
    with pytest.raises(ValueError, match=r"scores of blocks \[1\] aren't finite"):
        blocks_kept([1, np.nan, 3], 2)
