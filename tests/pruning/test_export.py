"""Exported files run without the network's code, at any batch size, and give the network's values."""

import functools
import subprocess
import sys
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx
from jax import lax

import prune_jax
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.shipping.export import export
from prune_jax.pruning.shipping.plain import by_example
from prune_jax.pruning.surgery import shrink, slim

pytest.importorskip(
    "flatbuffers", reason="jax.export serialises with flatbuffers: pip install 'prune_jax[export]'"
)
IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3, 3))(x)))
        x = nn.Conv(4, (3, 3), strides=2)(nn.max_pool(x, (3, 3), (2, 2), padding="SAME"))
        return nn.Dense(3)(nn.relu(x).reshape(x.shape[0], -1))


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4)(x)
        x = x.reshape(x.shape[0], -1, 8)
        x = x + self.param("position", nn.initializers.normal(), (1, 4, 8))
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(16, name="hidden")(nn.LayerNorm()(x))))
        return nn.Dense(3)(x.mean(1))


@functools.cache
def pruned(kind):
    """The twin of a Linen module: code that looks into its batch size."""
    model, (size, name) = {"cnn": (CNN(), (6, "Conv_0")), "vit": (ViT(), (16, "hidden"))}[kind]
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)

    def apply(v, x):
        return model.apply(v, x)

    groups = find_groups(apply, variables, IMAGES[:2])
    (group,) = [g for g in groups if g.size == size and not g.frozen and g.name.startswith(name)]
    keep = {group.name: np.arange(0, size, 2)}
    twin = slim(apply, variables, groups, keep, IMAGES[:2])
    return SimpleNamespace(apply=twin, variables=shrink(variables, groups, keep))


WITHOUT_CODE = """
import sys
for name in ("flax", "prune_jax", "optax"):
    sys.modules[name] = None  # importing it raises ImportError
import jax.export, numpy as np
network = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
np.save(sys.argv[3], network.call(np.load(sys.argv[2])))
"""


def test_a_file_runs_in_a_process_without_the_networks_code(tmp_path):
    small = pruned("cnn")
    path = export(small, IMAGES[:2], tmp_path / "net.stablehlo")
    np.save(tmp_path / "x.npy", IMAGES)
    files = [str(tmp_path / name) for name in ("net.stablehlo", "x.npy", "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CODE, *files], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert str(path) == files[0]
    wanted = jnp.concatenate([small.apply(small.variables, IMAGES[k : k + 2]) for k in (0, 2)])
    np.testing.assert_allclose(np.load(files[2])[:4], wanted, rtol=1e-5, atol=1e-6)


def test_several_inputs_and_outputs(tmp_path):
    net = SimpleNamespace(variables=jnp.float32(2), apply=lambda v, a, b: {"sum": v * a + b, "first": a})
    a, b = np.ones((3, 2), "float32"), np.arange(6, dtype="float32").reshape(3, 2)
    path = export(net, (a, b), tmp_path / "net")
    read = jax.export.deserialize(bytearray(path.read_bytes()))
    out = read.call(a[:1], b[:1])
    np.testing.assert_array_equal(out["sum"], [[2, 3]])


def test_what_a_module_learned_since_is_exported(tmp_path):
    layers = (nnx.Linear, 2, 4), (nnx.Dropout, 0.5), (nnx.Linear, 4, 2)
    net = drawn(lambda rngs: nnx.Sequential(*(make(*how, rngs=rngs) for make, *how in layers)))
    small = prune_jax.prune(net, np.ones((1, 2), "float32"), ratio=0.5)
    small.model.layers[2].bias[...] += 3
    x = np.ones((3, 2), "float32")
    read = jax.export.deserialize(bytearray(export(small, x, tmp_path / "net").read_bytes()))
    small.model.eval()
    np.testing.assert_allclose(read.call(x[:2]), small.model(x[:2]), rtol=1e-6)


def test_rewritten_operations_are_the_same_operations():
    def network(x):
        y = nn.max_pool(x, (3, 2), (2, 1), padding="SAME")
        y = jnp.pad(y, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5)
        unused = jax.random.split(jax.random.key(0))
        odd = jnp.where(y > 0, y > 0.3, y < -0.3)
        return (
            jax.nn.relu(jax.jit(lambda y: y - 1)(y)),
            odd,
            lax.slice_in_dim(y, 0, 2, axis=1),
            unused.shape[0] * y,
        )

    replayed = by_example(network, (IMAGES,))
    jax.tree.map(np.testing.assert_array_equal, jax.jit(replayed)(IMAGES), network(IMAGES))
    left = str(jax.make_jaxpr(replayed)(IMAGES))
    assert not [name for name in ("reduce_window", "pad[", "random") if name in left]


def test_what_can_not_be_exported_is_refused_and_writes_nothing(tmp_path):
    mixing = SimpleNamespace(variables=0.0, apply=lambda v, x: x - np.arange(x.shape[0]).mean())
    with pytest.raises(ValueError, match="would give other values than the network"):
        export(mixing, np.ones((4, 2), "float32"), tmp_path / "net")
    with pytest.raises(ValueError, match="first axis, the batch, of one size"):
        export(mixing, (np.ones((4, 2)), np.ones((3, 2))), tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["cnn", "vit"])
def test_onnx_gives_the_networks_values_in_onnxruntime(kind, tmp_path):
    pytest.importorskip("jax2onnx", reason="ONNX is written by jax2onnx: pip install 'prune_jax[export]'")
    runtime = pytest.importorskip(
        "onnxruntime", reason="ONNX is run by onnxruntime: pip install 'prune_jax[export]'"
    )
    small = pruned(kind)
    running = runtime.InferenceSession(export(small, IMAGES[:2], tmp_path / "net.onnx").read_bytes())
    (found,) = running.run(None, {"input_0": IMAGES})
    wanted = small.apply(small.variables, IMAGES)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_missing_packages_are_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    net = SimpleNamespace(variables=1.0, apply=lambda v, x: v * x)
    with pytest.raises(ImportError, match=r"needs jax2onnx.*pip install 'prune_jax\[export\]'"):
        export(net, np.ones((2, 2), "float32"), tmp_path / "net.onnx")
