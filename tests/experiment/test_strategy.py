import jax
import jax.numpy as jnp
import pytest
from every_network import EVERY

from prune_jax import models
from prune_jax.experiment.devices import strategy


@pytest.mark.parametrize(
    ("backend", "convolutional", "wanted"),
    [
        ("cpu", False, ("scan", "vmap")),
        ("cpu", True, ("step", "loop")),
        ("gpu", True, ("scan", "vmap")),
        ("tpu", False, ("scan", "vmap")),
    ],
)
def test_the_decision_table(backend, convolutional, wanted):
    assert strategy.decide(backend, convolutional) == (*wanted, "run")


def test_the_config_overrides_each_part():
    assert strategy.decide("cpu", True, epoch="scan") == ("scan", "loop", "run")
    assert strategy.decide("cpu", False, replicas="loop") == ("scan", "loop", "run")
    assert strategy.decide("cpu", True, together="sweep") == ("step", "vmap", "sweep")
    with pytest.raises(ValueError, match=r"execution.epoch is 'unroll'; allowed: auto, scan, step"):
        strategy.decide("cpu", False, epoch="unroll")


@EVERY
def test_convolutions_are_found_at_any_depth(name):
    shape = (8, 8, 3) if name.startswith("mlp") else (32, 32, 3)
    network = models.functional(models.abstract(name, num_classes=4, input_shape=shape))
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    assert strategy.is_convolutional(network.apply, network.variables, x) == (not name.startswith("mlp"))
