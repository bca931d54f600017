"""Positions held as vectors: every move against NumPy's on the whole array, and a network too large for these."""

import jax
import numpy as np
import pytest

from prune_jax import models
from prune_jax.pruning.in_turn import in_order
from prune_jax.pruning.inputs.grid import Grid, broadcast, copied, counted
from prune_jax.pruning.inputs.layout import layout_of


def moved(rng, grid, array):
    """Both after a move that is drawn."""
    kind = rng.integers(5)
    if kind == 0 and array.ndim:
        order = rng.permutation(array.ndim).tolist()
        return grid.transpose(order), array.transpose(order)
    if kind == 1:
        shape = rng.choice([1, 2, 3, 4, 6], 3).tolist()
        shape = [*shape, -1] if array.size % np.prod(shape) == 0 else [1, array.size]
        return grid.reshape(shape), array.reshape(shape)
    if kind == 2 and array.ndim:
        part = tuple(slice(int(rng.integers(n)), None, int(rng.choice([1, 2]))) for n in array.shape)
        return grid[part], array[part]
    if kind == 3 and array.ndim > 1:
        part = (slice(None, None, -1), int(rng.integers(array.shape[1])))
        return grid[part], array[part]
    if array.size < 500:
        shape = [4 if n == 1 else n for n in array.shape]
        return broadcast(grid, shape), np.broadcast_to(array, shape)
    return grid, array


@pytest.mark.parametrize("seed", range(40))
def test_every_move_is_that_of_the_whole_array(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 7, rng.integers(1, 5)).tolist()
    grid, array = counted(shape), np.arange(np.prod(shape)).reshape(shape)
    for _ in range(12):
        grid, array = moved(rng, grid, array)
        assert grid.shape == array.shape
        assert grid.size == array.size
        np.testing.assert_array_equal(np.asarray(grid), array)


def test_what_is_no_sum_becomes_a_plain_array():
    grid = counted((2, 3)).transpose((1, 0)).reshape((6,))
    assert isinstance(grid, Grid)
    plain = grid.reshape((2, 3))
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(plain, np.arange(6).reshape(2, 3).T.reshape(2, 3))


def test_copies_are_known():
    wide = broadcast(counted((3, 1)), (3, 4))
    assert [copied(wide, k) for k in (0, 1)] == [False, True]
    assert not copied(counted((1, 3)), 0)


def test_a_layout_is_that_of_the_whole_array():
    grid = counted((3, 4, 5)).transpose((1, 0, 2)).reshape((1, 4, 15))
    of_grid, of_array = (layout_of(at, (3, 4, 5)) for at in (grid, np.asarray(grid)))
    assert of_grid[0] == of_array[0]
    for name in ("blocks", "rows", "columns"):
        np.testing.assert_array_equal(getattr(of_grid[1], name), getattr(of_array[1], name))


def test_a_decoder_of_seven_billion_weights_is_traced_without_whole_arrays():
    """Whole arrays of 64-bit numbers would be 54 GB."""
    sizes = {"hidden": 4096, "depth": 32, "heads": 32, "kv_heads": 32, "head_dim": 128, "mlp": 11008}
    net = models.abstract("decoder", num_classes=32000, input_shape=(8,), scan=True, **sizes)
    network = models.functional(net)
    assert sum(leaf.size for leaf in jax.tree.leaves(network.variables)) > 6.7e9
    found = in_order(network.apply, network.variables, jax.ShapeDtypeStruct((1, 8), "int32"))
    attention, mlp = "params/blocks/attention/{}/kernel", "params/blocks/mlp/{}/kernel"
    named = [*map(attention.format, "qkvo"), *map(mlp.format, ("gate", "up", "down")), "params/head/kernel"]
    assert sorted(found) == sorted(named)
    assert found[-2:] == named[-2:]
