"""Every architecture of the zoo, halved and changed since, is saved, loaded and exported."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_architectures
from drawn import drawn
from flax import nnx

import prune_jax


@pytest.fixture(autouse=True)
def _as_authors_write():
    with jax.numpy_rank_promotion("allow"):
        yield


def arrays(shapes, seed, copies=1):
    rng = np.random.default_rng(seed)

    def one(shape, dtype):
        shape = (shape[0] * copies, *shape[1:])
        return jnp.asarray(rng.integers(0, 13, shape) if dtype == "int32" else rng.normal(size=shape), dtype)

    return tuple(one(shape, dtype) for shape, dtype in shapes)


CASES = [
    name if name == "two-tower" else pytest.param(name, marks=pytest.mark.slow)
    for name in zoo_architectures.NETS
]


@pytest.mark.parametrize("name", CASES)
def test_it_is_saved_loaded_and_exported(name, tmp_path):
    make, shapes = zoo_architectures.NETS[name]
    pruned = prune_jax.prune(drawn(make), *arrays(shapes, 1), ratio=0.5)
    state = nnx.state(pruned.model, nnx.Param)
    nnx.update(
        pruned.model, jax.tree.map(lambda a: jnp.asarray(np.asarray(a) + np.float32(0.01)), state)
    )  # as training does, in place
    path = prune_jax.save(tmp_path / "small.safetensors", pruned)
    loaded = prune_jax.load(path, lambda: make(nnx.Rngs(1)))
    now = nnx.state(pruned.model)
    assert jax.tree.structure(nnx.state(loaded.model)) == jax.tree.structure(now)
    for a, b in zip(jax.tree.leaves(nnx.state(loaded.model)), jax.tree.leaves(now), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)
    file = prune_jax.export(loaded, arrays(shapes, 1), tmp_path / "small")
    other = arrays(shapes, 2, copies=2)  # other numbers in a larger batch
    found = jax.export.deserialize(bytearray(file.read_bytes())).call(*other)
    wanted = jax.jit(loaded.apply)(loaded.variables, *other)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # sums in another order, through blocks
