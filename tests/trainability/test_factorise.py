import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.trainability.cpu import each


def values(matrices):
    return jnp.linalg.svd(matrices, compute_uv=False)


@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3), (0,)])
def test_leading_axes_stay(leading):
    matrices = jax.random.normal(jax.random.key(0), (*leading, 5, 3))
    np.testing.assert_allclose(each(values, matrices), np.linalg.svd(matrices, compute_uv=False), rtol=1e-5)
    left, found, right = jax.jit(lambda m: each(jnp.linalg.svd, m))(matrices)
    assert (left.shape, found.shape, right.shape) == ((*leading, 5, 5), (*leading, 3), (*leading, 3, 3))


def test_matrices_without_columns_have_no_values():
    left, found, _ = each(jnp.linalg.svd, jnp.ones((4, 3, 0)))
    assert found.shape == (4, 0)
    np.testing.assert_array_equal(left, jnp.broadcast_to(jnp.eye(3), (4, 3, 3)))


def test_it_is_differentiable_and_goes_under_vmap():
    matrices = jax.random.normal(jax.random.key(0), (2, 4, 3, 3))
    total = lambda m: each(values, m).sum()  # noqa: E731
    wanted = jax.grad(lambda m: values(m).sum())(matrices)
    np.testing.assert_allclose(jax.vmap(jax.grad(total))(matrices), wanted, rtol=1e-4, atol=1e-5)


# Two devices of a process share two threads. Given batches, LAPACK's calls wait for one another here for ever.
TWO_DEVICES = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import Mesh, PartitionSpec
from prune_jax.trainability.singular_values import singular_values
mesh = Mesh(np.asarray(jax.devices()), ("parts",))
split = PartitionSpec(None, "parts")
apart = jax.shard_map(
    lambda j: singular_values(j, "gram"), mesh=mesh, in_specs=split, out_specs=PartitionSpec("parts"), check_vma=False
)
program, jacobians = jax.jit(apart), jax.random.normal(jax.random.key(0), (10, 1024, 50))
for _ in range(200):
    found = jax.block_until_ready(program(jacobians))
print(np.asarray(found).shape)
"""


@pytest.mark.slow
def test_devices_that_share_threads_do_not_stand_still():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1024, 10)"
