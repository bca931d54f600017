"""Pruned models on disk: round trips, other processes, and what is refused by name."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx

import prune_jax
from prune_jax.pruning.shipping import tensors

X = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)
CODE = """
import jax
from flax import nnx


def net(width=6, last="out"):
    class Net(nnx.Module):
        def __init__(self):
            self.wide, self.norm = nnx.Linear(4, width, rngs=nnx.Rngs(0)), nnx.BatchNorm(width, rngs=nnx.Rngs(0))
            self.drop = nnx.Dropout(0.1, rngs=nnx.Rngs(2))
            setattr(self, last, nnx.Linear(width, 2, rngs=nnx.Rngs(1)))

        def __call__(self, x):
            return getattr(self, last)(self.drop(nnx.relu(self.norm(self.wide(x)))))

    return Net()
"""
SCOPE = {}
exec(CODE, SCOPE)
net = SCOPE["net"]
KEEP = {"wide": [0, 2, 5]}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(6, name="wide")(x))
        return nn.Dense(2)(nn.relu(x))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Callable:
    """What an Equinox module is to JAX: a pytree that is called."""

    wide: jax.Array
    out: jax.Array

    def __call__(self, x):
        return jnp.tanh(x @ self.wide) @ self.out


def plain(params, x):
    return jnp.tanh(x @ params["wide"]) @ params["rest"][0]


WIDE, OUT = (
    np.linspace(-1, 1, 24, dtype="float32").reshape(4, 6),
    np.linspace(1, 2, 12, dtype="float32").reshape(6, 2),
)
NETS = {
    "nnx": lambda: net(),
    "linen": lambda: (Linen(), law.numbers(jax.eval_shape(Linen().init, jax.random.key(0), X))),
    "plain": lambda: (plain, {"wide": jnp.asarray(WIDE), "rest": (jnp.asarray(OUT),)}),
    "callable": lambda: Callable(jnp.asarray(WIDE), jnp.asarray(OUT)),
}


@functools.cache
def pruned(kind, masked=False):
    return prune_jax.prune(NETS[kind](), X, keep=KEEP, masked=masked)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("masked", [False, True], ids=["cut", "masked"])
@pytest.mark.parametrize("kind", NETS)
def test_a_round_trip_gives_the_same_model(kind, masked, tmp_path):
    before = pruned(kind, masked)
    path = prune_jax.save(tmp_path / "net.safetensors", before)
    after = prune_jax.load(path, NETS[kind]())
    equal(after.variables, before.variables)
    equal(after.mask, before.mask)
    assert after.keep.keys() == before.keep.keys()
    assert (after.before, after.after, after.wrapped) == (before.before, before.after, before.wrapped)
    np.testing.assert_array_equal(after.apply(after.variables, X), before.apply(before.variables, X))
    if kind == "nnx":
        after.model.eval()
        np.testing.assert_array_equal(after.model(X), after.apply(after.variables, X))
        assert not any(isinstance(a, jax.ShapeDtypeStruct) for a in jax.tree.leaves(nnx.state(after.model)))
    if kind == "callable":
        np.testing.assert_array_equal(after.model(X), after.apply(after.variables, X))


def test_what_a_module_learned_since_is_saved(tmp_path):
    mine = prune_jax.prune(net(), X, keep=KEEP)
    mine.model.out.bias[...] += 3
    mine.model.norm.mean[...] += 1
    after = prune_jax.load(prune_jax.save(tmp_path / "a", mine), net)
    equal(after.variables, nnx.to_pure_dict(nnx.state(mine.model)))


def test_trained_variables_are_given_apart_and_checked(tmp_path):
    mine = pruned("linen")
    new = jax.tree.map(lambda a: a + 1, mine.variables)
    after = prune_jax.load(prune_jax.save(tmp_path / "a", mine, new), Linen())
    equal(after.variables, new)
    with pytest.raises(ValueError, match=r"leaf 'batch_stats/BatchNorm_0/mean' is missing in variables"):
        prune_jax.save(tmp_path / "b", mine, {"params": new["params"]})
    with pytest.raises(
        ValueError, match=r"'batch_stats/BatchNorm_0/mean' of variables has shape \(6,\), in the pruned"
    ):
        prune_jax.save(tmp_path / "b", mine, NETS["linen"]()[1])
    assert not (tmp_path / "b").exists()


def test_free_ends_stay_free(tmp_path):
    keep = {"out": [1]}
    before = prune_jax.prune(net(), X, keep=keep, free=("outputs",))
    after = prune_jax.load(prune_jax.save(tmp_path / "a", before), net)
    assert after.dense.free == ("outputs",)
    np.testing.assert_array_equal(after.apply(after.variables, X), before.apply(before.variables, X))


OTHER_PROCESS = (
    CODE
    + """
import sys, numpy as np, prune_jax
found = prune_jax.load(sys.argv[1], net)
found.model.eval()
np.save(sys.argv[3], found.model(np.load(sys.argv[2])))
"""
)


def test_another_process_gives_the_same_outputs(tmp_path):
    path = prune_jax.save(tmp_path / "net.safetensors", pruned("nnx"))
    np.save(tmp_path / "x.npy", X)
    files = [str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, *files], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(files[2]), pruned("nnx").apply(pruned("nnx").variables, X), rtol=1e-6)


def test_another_architecture_is_refused_by_name(tmp_path):
    path = prune_jax.save(tmp_path / "net", pruned("nnx"))
    with pytest.raises(ValueError, match=r"leaf 'norm/bias' has shape \(7,\) in this network and \(6,\)"):
        prune_jax.load(path, lambda: net(7))
    with pytest.raises(ValueError, match=r"leaf 'out/bias' of the file isn't in this network"):
        prune_jax.load(path, lambda: net(last="end"))

    def turned(params, x):  # the same leaves, other channels coupled
        return jnp.tanh(x @ params["wide"][:, ::-1]) @ params["rest"][0]

    path = prune_jax.save(tmp_path / "plain", pruned("plain"))
    with pytest.raises(ValueError, match="group 'wide' couples other channels"):
        prune_jax.load(path, (turned, NETS["plain"]()[1]))


def changed(path, change):
    """The file with something wrong in it."""
    arrays, header = tensors.read(path)
    arrays, header = dict(arrays), json.loads(json.dumps(header))
    change(arrays, header)
    tensors.write(path, arrays, header)
    return path


def test_a_damaged_file_is_refused_by_name(tmp_path):
    def saved():
        return prune_jax.save(tmp_path / "net", pruned("nnx"))

    def load():
        return prune_jax.load(tmp_path / "net", net)

    changed(saved(), lambda arrays, header: arrays.pop("wide/kernel"))
    with pytest.raises(ValueError, match="leaf 'wide/kernel' is missing in"):
        load()
    changed(saved(), lambda arrays, header: arrays.update({"wide/bias": np.zeros(4, "float32")}))
    with pytest.raises(
        ValueError, match=r"leaf 'wide/bias' has shape \(4,\) in .*, the network needs \(3,\)"
    ):
        load()
    changed(saved(), lambda arrays, header: header.update(format=99))
    with pytest.raises(ValueError, match="has format 99, this version reads up to 1"):
        load()
    changed(saved(), lambda arrays, header: header.update(inputs=None))
    with pytest.raises(
        ValueError, match=r"doesn't say what the network is called with: load\(path, net, \*inputs\)"
    ):
        load()
    prune_jax.load(tmp_path / "net", net, X)
    saved().write_bytes(saved().read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"is not a file of prune_jax.save, or was damaged"):
        load()
    safetensors.numpy.save_file({"a": X}, tmp_path / "net")
    with pytest.raises(ValueError, match=r"is not a file of prune_jax.save"):
        load()


def test_narrow_floats_come_back_and_unknown_ones_are_refused(tmp_path):
    def small(dtype):
        params = {"wide": jnp.asarray(WIDE).astype(dtype), "rest": (jnp.asarray(OUT),)}

        def apply(p, x):
            return plain({"wide": p["wide"].astype("float32"), "rest": p["rest"]}, x)

        return (apply, params), prune_jax.prune((apply, params), X, keep=KEEP)

    for dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float16"):
        target, before = small(dtype)
        equal(prune_jax.load(prune_jax.save(tmp_path / dtype, before), target).variables, before.variables)
    with pytest.raises(
        ValueError, match="leaf 'wide' is of dtype float8_e4m3b11fnuz, which safetensors can't hold"
    ):
        prune_jax.save(tmp_path / "other", small("float8_e4m3b11fnuz")[1])
    with pytest.raises(ValueError, match="leaf 'a' is of dtype float64, which JAX holds in 64-bit mode only"):
        tensors.on_device("a", np.zeros(2))


def test_orbax_writes_and_reads_the_same_variables_and_a_part_of_them_is_refused(tmp_path):
    before = pruned("linen")
    path = prune_jax.save(tmp_path / "net", before)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", before.variables)
        checkpointer.wait_until_finished()
        found = checkpointer.restore(tmp_path / "orbax", jax.eval_shape(lambda: before.variables))
    equal(found, prune_jax.load(path, Linen()).variables)
    part = {**found, "params": {"wide": found["params"]["wide"]}}
    with pytest.raises(ValueError, match="leaf 'params/BatchNorm_0/bias' is missing in variables"):
        prune_jax.save(tmp_path / "part", before, part)
