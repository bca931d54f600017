import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.devices import replicas


@pytest.mark.parametrize(
    ("count", "devices", "wanted"),
    [
        (1, 1, (1, 1)),
        (5, 1, (1, 5)),
        (1, 8, (1, 1)),
        (4, 2, (2, 2)),
        (5, 2, (2, 3)),
        (5, 4, (3, 2)),
        (8, 8, (8, 1)),
    ],
)
def test_no_device_has_more_replicas_than_it_must(count, devices, wanted):
    assert replicas.spread(count, devices) == wanted


def test_alone_is_the_bare_function_on_a_leading_axis_of_one():
    x = np.arange(6.0).reshape(1, 2, 3)
    out = replicas.alone(lambda a, b: {"sum": a.sum() + b}, (0, None))(x, 2.0)
    assert out["sum"].shape == (1,)
    assert float(out["sum"][0]) == 17.0


def test_split_takes_apart_what_stacked_put_together():
    trees = [{"w": np.full((2, 3), i), "deep": (np.array(10 * i),)} for i in range(3)]
    together = replicas.stacked(trees)
    assert together["w"].shape == (3, 2, 3)
    assert together["deep"][0].tolist() == [0, 10, 20]
    apart = list(replicas.split(together))
    assert len(apart) == 3
    for tree, back in zip(trees, apart, strict=True):
        jax.tree.map(np.testing.assert_array_equal, tree, back)


ON_SEVERAL = """
import jax
from prune_jax.experiment.devices import replicas
replicas.one_device_per_core()  # what somebody chose stays
assert jax.local_device_count() == 3, jax.local_device_count()
import jax.numpy as jnp, numpy as np
def program(state, data, key):
    return {"w": state["w"] * data.sum(), "draw": jax.random.normal(key, (2,))}, state["w"].max()
run = jax.jit(replicas.together(program, (0, None, 0)), donate_argnums=0)
for count in (1, 2, 3, 4, 5, 7):
    w, keys = np.arange(count * 4.0).reshape(count, 4), jax.random.split(jax.random.key(1), count)
    out, top = run({"w": jnp.asarray(w)}, jnp.ones(3), keys)
    np.testing.assert_array_equal(out["w"], 3 * w)
    np.testing.assert_array_equal(top, w.max(axis=1))
    np.testing.assert_array_equal(out["draw"], np.stack([jax.random.normal(k, (2,)) for k in keys]))
    text = str(jax.make_jaxpr(run)({"w": jnp.asarray(w)}, jnp.ones(3), keys))
    assert ("shard_map" in text) == (count > 1), text
    again, _ = run(out, jnp.ones(3), keys)  # what one call gives, the next one takes
    np.testing.assert_array_equal(again["w"], 9 * w)
"""


@pytest.mark.slow
def test_replicas_spread_over_devices_are_what_each_is_alone():
    done = subprocess.run(
        [sys.executable, "-c", ON_SEVERAL],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "3"},
    )
    assert done.returncode == 0, done.stderr


def test_asking_for_a_device_per_core_too_late_changes_nothing():
    before = jax.local_devices()
    jnp.zeros(1).block_until_ready()
    replicas.one_device_per_core()
    assert jax.local_devices() == before
