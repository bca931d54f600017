"""A decoder of 7 billion parameters, scored and cut over 8 devices: memory on paper, and really at 1/1000 width.

python -m benchmarks.decoder_7b [--criteria l1 taylor activation wanda] [--out FILE]

Nothing of the large network is allocated. Its shapes are spread over 8 simulated devices (FSDP: every leaf along its
largest axis), and the programs that score and cut it are compiled for them. Reported is what each device holds: the
program's inputs, outputs and working memory, as the compiler plans them. It is XLA's compiler for CPUs, which widens
bfloat16. Scoring takes 8 windows of 512 tokens, one a device. Leaves are cut one by one.

The small network has as many blocks and a thousandth of the parameters. It is really scored and cut on the 8 devices.
These share the machine's cores, so seconds show that it runs and how they compare with each other.
"""

import argparse
import functools
import json
import math
import os
import time

DEVICES = 8
LLAMA_7B = {"hidden": 4096, "depth": 32, "heads": 32, "kv_heads": 32, "head_dim": 128, "mlp": 11008}
THOUSANDTH = {"hidden": 128, "depth": 32, "heads": 8, "kv_heads": 8, "head_dim": 16, "mlp": 344}
VOCABULARIES = {"large": 32000, "small": 1000}
LENGTHS = {"large": 512, "small": 64}
RATIO = 0.25
# What goes together: heads, inner channels, residual channels.
GROUPS = ("blocks/attention/q", "blocks/mlp/gate", "embed")
CRITERIA = ("l1", "taylor", "activation", "wanda")


def network_of(sizes, vocabulary, length, dtype):
    """The decoder without arrays: functions, and variables as shapes of this type."""
    import jax
    import jax.numpy as jnp

    from prune_jax import models

    net = models.abstract("decoder", num_classes=vocabulary, input_shape=(length,), scan=True, **sizes)
    network = models.functional(net)
    to_type = functools.partial(_typed, dtype=jnp.dtype(dtype))
    return network._replace(variables=jax.tree.map(to_type, network.variables))


def _typed(leaf, dtype):
    import jax

    return jax.ShapeDtypeStruct(leaf.shape, dtype)


def mesh_of():
    """All devices in a row."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    return Mesh(np.array(jax.devices()), ("fsdp",))


def sharding_of(mesh, shape):
    """A leaf along the largest axis that the devices divide."""
    from jax.sharding import NamedSharding, PartitionSpec

    fits = [axis for axis, size in enumerate(shape) if size % mesh.size == 0]
    largest = max(fits, key=lambda axis: shape[axis]) if fits else None
    names = ("fsdp" if axis == largest else None for axis in range(len(shape)))
    return NamedSharding(mesh, PartitionSpec(*names))


def spread(mesh, tree):
    """Shapes with the sharding that each is to have."""
    import jax

    def one(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding_of(mesh, leaf.shape))

    return jax.tree.map(one, tree)


def bytes_a_device(tree):
    """Bytes of a tree of spread shapes or arrays on one device."""
    import jax

    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def scorer(network, groups, name):
    """(variables, tokens) -> the scores of the channels that are to go, by group."""
    import optax

    from prune_jax.pruning.criteria.table import CRITERIA as TABLE
    from prune_jax.pruning.criteria.table import channel_scores
    from prune_jax.pruning.evidence import gather

    def loss(variables, tokens):
        logits = network.apply(variables, tokens)[:, :-1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def score(variables, tokens):
        needs = TABLE[name].needs
        found = gather(needs, variables, [tokens], loss=loss, apply=network.apply, groups=groups)
        scores = channel_scores(TABLE[name], found._replace(groups=groups))
        return {group: scores[group] for group in GROUPS}

    return score


def keep_of(groups, ratio=RATIO):
    """The first channels of each group stay. Which ones they are makes no difference to memory."""
    import numpy as np

    return {
        group.name: np.arange(group.size - math.ceil(ratio * group.size))
        for group in groups
        if group.name in GROUPS
    }


def planned(function, *shapes, **how):
    """What each device holds while a compiled program runs, in MiB, and the seconds of its compilation."""
    import jax

    began = time.perf_counter()
    memory = jax.jit(function, **how).lower(*shapes).compile().memory_analysis()
    parts = ("argument", "output", "temp")
    held = {f"{part}s_mib": getattr(memory, f"{part}_size_in_bytes") / 2**20 for part in parts}
    return {name: round(value, 1) for name, value in held.items()} | {"compile_s": _since(began)}


def cut_of_leaves(groups, keep, dense):
    """The program that cuts a leaf, of all leaves the one whose working memory is largest. They are cut one by one."""
    import numpy as np

    from prune_jax.pruning.jaxpr.reading import leaf_paths
    from prune_jax.pruning.keep import cuts
    from prune_jax.pruning.spread import fitting, taken

    wanted, found = cuts(groups, keep), {}
    for path, leaf in leaf_paths(dense):
        axes = wanted.get(path, {})
        stay = tuple((axis, tuple(np.flatnonzero(stays).tolist())) for axis, stays in axes.items())
        shape = tuple(int(axes[k].sum()) if k in axes else n for k, n in enumerate(leaf.shape))
        cut = functools.partial(taken, stay=stay, sharding=leaf.sharding)
        found[path] = planned(cut, leaf, out_shardings=fitting(leaf.sharding, shape))
    path = max(found, key=lambda path: found[path]["temps_mib"])
    return {"leaf": path, **found[path], "compile_s": round(sum(f["compile_s"] for f in found.values()), 3)}


def on_paper(sizes, vocabulary, length, criteria, dtype):
    """The large network: seconds to find its groups, sizes before and after, and each program's memory."""
    import jax

    from prune_jax import count, find_groups, shrink
    from prune_jax.pruning.depth import keep_blocks

    mesh = mesh_of()
    network = network_of(sizes, vocabulary, length, dtype)
    one = jax.ShapeDtypeStruct((1, length), "int32")
    began = time.perf_counter()
    groups = find_groups(network.apply, network.variables, one)
    seconds = {"groups": _since(began)}
    keep = keep_of(groups)
    began = time.perf_counter()
    small = shrink(network.variables, groups, keep)
    seconds["shapes after the cut"] = _since(began)
    dense, less = spread(mesh, network.variables), spread(mesh, small)
    depth = sizes["depth"]
    shallow = keep_blocks(network.variables, range(depth - depth // 4), "params/blocks")
    tokens = jax.ShapeDtypeStruct((DEVICES, length), "int32", sharding=sharding_of(mesh, (DEVICES, length)))
    programs = {name: planned(scorer(network, groups, name), dense, tokens) for name in criteria}
    programs["cut of the leaf that takes most"] = cut_of_leaves(groups, keep, dense)
    return {
        "parameters": count(network.apply, network.variables, one).params,
        "parameters_after": count(network.apply, small, one).params,
        "weights_mib_a_device": _mib(bytes_a_device(dense)),
        "weights_mib_a_device_after": _mib(bytes_a_device(less)),
        "weights_mib_a_device_without_a_quarter_of_the_blocks": _mib(bytes_a_device(spread(mesh, shallow))),
        "seconds": seconds,
        "programs": programs,
    }


def really(sizes, vocabulary, length, criteria):
    """The small network on the devices: seconds of scoring and cutting, compiled before, and what a device holds."""
    import jax
    import numpy as np

    from prune_jax import find_groups, shrink

    mesh = mesh_of()
    network = network_of(sizes, vocabulary, length, "float32")
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jax.device_put(
            rng.normal(0, 0.02, leaf.shape).astype(leaf.dtype), sharding_of(mesh, leaf.shape)
        ),
        network.variables,
    )
    shape = (DEVICES, length)
    tokens = jax.device_put(rng.integers(0, vocabulary, shape).astype(np.int32), sharding_of(mesh, shape))
    groups = find_groups(network.apply, network.variables, jax.ShapeDtypeStruct((1, length), "int32"))
    seconds = {name: _twice(jax.jit(scorer(network, groups, name)), variables, tokens) for name in criteria}
    seconds["cut"] = _twice(lambda tree: shrink(tree, groups, keep_of(groups)), variables)
    small = shrink(variables, groups, keep_of(groups))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables)),
        "parameters_after": sum(leaf.size for leaf in jax.tree.leaves(small)),
        "weights_mib_a_device": _mib(bytes_a_device(variables)),
        "weights_mib_a_device_after": _mib(bytes_a_device(small)),
        "seconds": seconds,
        "spread_after": all(not leaf.is_fully_replicated for leaf in jax.tree.leaves(small)),
    }


def _twice(function, *arguments):
    """Seconds of a second call. The first one compiles."""
    import jax

    jax.block_until_ready(function(*arguments))
    began = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return _since(began)


def _since(began):
    return round(time.perf_counter() - began, 3)


def _mib(size):
    return round(size / 2**20, 3)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--criteria", nargs="+", default=CRITERIA, choices=CRITERIA)
    parser.add_argument("--dtype", default="bfloat16", help="of the large network's weights (bfloat16)")
    parser.add_argument("--quick", action="store_true", help="a small network in the large one's place")
    parser.add_argument("--out", help="where the JSON goes")
    asked = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
    from benchmarks import provenance

    told = provenance.about("benchmarks.decoder_7b")
    large = (THOUSANDTH if asked.quick else LLAMA_7B) | ({"depth": 4} if asked.quick else {})
    small = THOUSANDTH | ({"depth": 4} if asked.quick else {})
    which = "small" if asked.quick else "large"
    found = {
        **told,
        "devices": DEVICES,
        "ratio": RATIO,
        "on_paper": on_paper(large, VOCABULARIES[which], LENGTHS[which], asked.criteria, asked.dtype),
        "really": really(small, VOCABULARIES["small"], LENGTHS["small"], asked.criteria),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if asked.out:
        with open(asked.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
