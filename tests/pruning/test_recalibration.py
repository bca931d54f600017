"""Statistics of batch normalisation against averages in NumPy's float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from prune_jax.pruning.recalibration import recalibrate

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(2, 3, (n, 3)).astype("float32") for n in (8, 8, 4)]  # a short last batch


class Net(nn.Module):
    momentum: float = 0.9
    frozen: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(x)
        x = nn.Dense(4)(nn.relu(x))
        return nn.BatchNorm(use_running_average=self.frozen or not train, momentum=0.5)(x)


def averages(first, second):
    """By hand: per batch, the mean and variance of each normalised layer's input, weighted by examples."""
    rows = []
    for x in BATCHES:
        h = np.asarray(x, np.float64) @ np.asarray(first["kernel"], np.float64) + np.asarray(first["bias"])
        normal = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
        g = np.maximum(normal, 0) @ np.asarray(second["kernel"], np.float64) + np.asarray(second["bias"])
        rows.append([h.mean(0), h.var(0), g.mean(0), g.var(0)])
    return np.average(rows, axis=0, weights=[len(x) for x in BATCHES])


def linen(**options):
    model = Net(**options)
    return model, jax.jit(model.init)(jax.random.key(0), BATCHES[0])


def train(model):
    return lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("momentum", [0.9, 0.997])
def test_linen_statistics_are_the_averages_whatever_they_were(momentum):
    model, variables = linen(momentum=momentum)
    variables["batch_stats"] = jax.tree.map(lambda a: a * 7 - 1, variables["batch_stats"])
    new = recalibrate(train(model), variables, iter(BATCHES))
    wanted = averages(variables["params"]["Dense_0"], variables["params"]["Dense_1"])
    got = [
        new["batch_stats"][layer][name]
        for layer in ("BatchNorm_0", "BatchNorm_1")
        for name in ("mean", "var")
    ]
    for a, b in zip(got, wanted, strict=True):
        # float32; Flax computes a variance as E[x^2] - E[x]^2, which loses digits
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
    assert jax.tree.structure(new) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, new["params"], variables["params"])


def test_a_frozen_layer_stays_as_it_is():
    model, variables = linen(frozen=True)
    new = recalibrate(train(model), variables, BATCHES)
    jax.tree.map(
        np.testing.assert_array_equal,
        new["batch_stats"]["BatchNorm_1"],
        variables["batch_stats"]["BatchNorm_1"],
    )
    assert (new["batch_stats"]["BatchNorm_0"]["mean"] != 0).all()


def test_a_module_of_nnx_comes_back_in_its_mode_and_stays_as_it_was():
    net = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        nnx.relu,
        nnx.Dropout(0.0, rngs=nnx.Rngs(0)),
        nnx.Linear(4, 4, rngs=nnx.Rngs(1)),
        nnx.BatchNorm(4, momentum=0.5, rngs=nnx.Rngs(0)),
    )
    net.eval()
    before = nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))
    new = recalibrate(lambda net, x: net(x), net, BATCHES)
    first, second = ({k: getattr(net.layers[i], k)[...] for k in ("kernel", "bias")} for i in (0, 4))
    got = [getattr(new.layers[i], name)[...] for i in (1, 5) for name in ("mean", "var")]
    for a, b in zip(got, averages(first, second), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
    assert new.layers[1].use_running_average
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)))


def test_what_is_wrong_is_named():
    model, variables = linen()
    with pytest.raises(ValueError, match="batches is empty"):
        recalibrate(train(model), variables, [])
    with pytest.raises(ValueError, match="returns no statistics; of Linen"):
        recalibrate(lambda v, x: (x, {}), variables, BATCHES)
    with pytest.raises(ValueError, match="returns 'extra', which is not in the variables"):
        recalibrate(lambda v, x: {"extra": jnp.ones(3)}, variables, BATCHES)
    with pytest.raises(ValueError, match=r"statistic 'total' is no running average.* is 1 more in the new"):
        recalibrate(lambda v, x: {"total": v["total"] + x.sum()}, {"total": jnp.zeros(())}, BATCHES)
