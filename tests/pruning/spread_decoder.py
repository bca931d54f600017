"""Run in a process with 8 simulated devices: a decoder is loaded spread over them and cut where it lies."""

import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prune_jax import find_groups, models, shrink
from prune_jax.models.checkpoints import reading
from prune_jax.models.decoder import Decoder
from prune_jax.pruning.spread import fitting, taken

SIZES = {"hidden": 16, "depth": 2, "heads": 16, "kv_heads": 16, "head_dim": 2, "mlp": 48, "scan": True}


def fsdp(path, shape):
    """The largest axis that 8 devices divide, over all of them."""
    fits = [axis for axis, size in enumerate(shape) if size % 8 == 0]
    spec = [None] * len(shape)
    if fits:
        spec[max(fits, key=lambda axis: shape[axis])] = "fsdp"
    return NamedSharding(Mesh(np.array(jax.devices()), ("fsdp",)), PartitionSpec(*spec))


def held(cut):
    """Bytes that a device works with in a program that cuts both last axes of a stacked kernel."""
    shape, stay = (32, 64, 128), ((1, tuple(range(0, 64, 2))), (2, tuple(range(5, 101))))
    leaf = jax.ShapeDtypeStruct(shape, "float32", sharding=fsdp("", shape))
    after = fitting(leaf.sharding, (32, 32, 96))
    program = jax.jit(lambda x: cut(x, stay, leaf.sharding), out_shardings=after).lower(leaf).compile()
    return program.memory_analysis().temp_size_in_bytes


def as_it_lies(leaf, stay, sharding):
    for axis, positions in stay:
        leaf = jnp.take(leaf, np.asarray(positions), axis)
    return leaf


def main(folder):
    assert jax.device_count() == 8
    small = 32 * 32 * 96 * 4
    assert held(as_it_lies) >= small  # every device holds all that is left
    assert held(taken) < small  # parts of it alone
    dense = Decoder(num_classes=24, input_shape=(4,), rngs=nnx.Rngs(0), **SIZES)
    models.save_checkpoint(folder, dense)
    sizes, whole = [], reading._whole

    def watched(*arguments):
        read = whole(*arguments)

        def told(index):
            found = read(index)
            sizes.append(found.size)
            return found

        return told

    with mock.patch.object(reading, "_whole", watched):
        spread = models.load_checkpoint(folder, scan=True, sharding=fsdp)
    leaves = dict(reading.leaf_shapes(spread))
    assert max(sizes) * 8 <= max(leaf.size for leaf in leaves.values())  # no tensor was read whole
    network = models.functional(spread)
    groups = find_groups(network.apply, network.variables, np.zeros((1, 4), np.int32))
    keep = {
        "blocks/attention/q": np.arange(8) * 2,
        "blocks/mlp/gate": np.arange(32),
        "embed": np.arange(1, 13),
    }
    expected = shrink(models.functional(dense).variables, groups, keep)

    def refuse(leaf, *arguments, **how):
        assert not (isinstance(leaf, jax.Array) and not leaf.is_fully_replicated), "gathered on the host"
        return plain(leaf, *arguments, **how)

    plain = np.asarray
    with mock.patch("prune_jax.pruning.cutting.np.asarray", refuse):
        small = shrink(network.variables, groups, keep)
    for path, leaf in jax.tree_util.tree_leaves_with_path(small["params"]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        parts = {shard.data.size for shard in leaf.addressable_shards}
        divides = any(size % 8 == 0 for size in leaf.shape)
        assert not divides or parts == {leaf.size // 8}, (name, leaf.shape, leaf.sharding)
    jax.tree.map(np.testing.assert_array_equal, small, expected)
    logits = jax.jit(network.apply)(small, np.zeros((1, 4), np.int32))
    wanted = jax.jit(network.apply)(expected, np.zeros((1, 4), np.int32))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)
    print("cut where it lies")


if __name__ == "__main__":
    main(sys.argv[1])
