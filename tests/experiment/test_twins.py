"""Networks whose code can't run at small sizes are trained through a twin, as the masked dense network trains."""

import json

import jax
import numpy as np
import pytest

from prune_jax import expand, shrink
from prune_jax.experiment import launch, networks, specs, twins
from prune_jax.experiment.chain import restore
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.storage import folder
from prune_jax.experiment.training import trainer as training_trainer

IMAGES = specs.DataSpec("made up", (0.5,), (0.25,))
RESNET = specs.ModelSpec("resnet8", (8, 8, 1), 3)
KEY = jax.random.key(0)
HEADS = """
import jax
from flax import nnx
class Heads(nnx.Module):
    def __init__(self, num_classes, input_shape, rngs):
        self.q, self.out = nnx.Linear(4, 12, rngs=rngs), nnx.Linear(12, num_classes, rngs=rngs)
    def __call__(self, x):
        heads = self.q(x.reshape(len(x), -1)).reshape(len(x), 4, -1)
        return self.out(nnx.softmax(heads, -1).reshape(len(x), -1))
"""
LINEN = """
import numpy as np
from flax import linen as nn
class Net(nn.Module):
    classes: int
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(6, (3, 3), name="conv")(x))
        return nn.Dense(self.classes)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean((1, 2))))
def net(num_classes):
    return Net(num_classes)
def load():
    rng = np.random.default_rng(0)
    return tuple((rng.integers(0, 256, (n, 4, 4, 1), np.uint8), np.arange(n) % 3) for n in (24, 12))
"""


def half(spec, seed):
    """Half of the channels of every group, drawn at random."""
    rng = np.random.default_rng(seed)
    widths = networks.widths_of(spec, networks.uniform_ratios(spec, ("*",), 0.5))
    sizes = {group.name: group.size for group in networks.groups_of(spec)}
    return {name: np.sort(rng.choice(sizes[name], width, replace=False)) for name, width in widths.items()}


def three_steps(recipe, variables, mask=None):
    trainer = training_trainer.make_trainer(recipe)
    one_of = lambda tree: jax.tree.map(lambda leaf: np.asarray(leaf)[None], tree)  # noqa: E731
    state, rng = trainer.init(one_of(variables), one_of(mask)), np.random.default_rng(0)
    for _ in range(3):
        images = rng.integers(0, 256, (6, *recipe.model.input_shape)).astype(np.uint8)
        labels = rng.integers(0, 3, 6).astype(np.int32)
        state, loss = trainer.step(state, images, labels, jax.random.split(KEY, 1), np.float32(0.05))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], variables), float(loss[0])


@pytest.mark.slow
def test_a_resnet_cut_at_its_shortcuts_trains_as_the_masked_one_does():
    groups, dense = networks.groups_of(RESNET), networks.fresh(RESNET, None, KEY)
    keep = half(RESNET, 0)
    recipe = training_trainer.Recipe(IMAGES, RESNET, 6, 0.9, 1e-3, Execution("step", "vmap"))
    mask = expand(dense["params"], groups, keep)
    masked, loss = three_steps(recipe, dense, mask)
    channels = twins.channels_of(RESNET, keep)
    assert channels, "its code pads to the dense width"
    small, small_loss = three_steps(recipe._replace(channels=channels), shrink(dense, groups, keep))
    assert small_loss == pytest.approx(loss, rel=1e-4)
    # Float32 sums over half as many terms, through eight layers and three steps.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        small,
        shrink(masked, groups, keep),
    )


def test_a_twin_is_taken_only_where_the_networks_own_code_is_wrong(write):
    inside = {name: kept for name, kept in half(RESNET, 0).items() if name.startswith("stages/0/0/conv1")}
    assert twins.channels_of(RESNET, inside) == twins.channels_of(RESNET, {}) == ()
    whole = {group.name: np.arange(group.size) for group in networks.groups_of(RESNET) if not group.frozen}
    assert twins.channels_of(RESNET, whole) == ()


def test_own_code_that_runs_and_mixes_its_heads_is_not_trusted(write):
    name = write(HEADS)
    spec = specs.ModelSpec(
        f"{name}:Heads", (2, 2, 1), 3, (), own_parts.source_of(f"{name}:Heads", "model.name")
    )
    (heads,) = (group for group in networks.groups_of(spec) if group.frozen is None and group.size == 4)
    keep = {heads.name: np.array([0, 3])}
    network = twins.network_at(spec, twins.channels_of(spec, keep))
    dense = networks.fresh(spec, None, KEY)
    x = jax.random.normal(KEY, (5, 2, 2, 1))
    small = shrink(dense, networks.groups_of(spec), keep)
    # by hand: two of four heads of three, each through its own softmax
    q, out = (jax.tree.map(np.asarray, dense["params"][layer]) for layer in ("q", "out"))
    h = (np.asarray(x).reshape(5, 4) @ q["kernel"] + q["bias"]).reshape(5, 4, 3)[:, [0, 3]]
    h = np.exp(h) / np.exp(h).sum(-1, keepdims=True)
    wanted = np.einsum("nhd,hdk->nk", h, out["kernel"].reshape(4, 3, 3)[[0, 3]]) + out["bias"]
    np.testing.assert_allclose(network.apply(small, x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_linen_network_is_cut_trained_and_found_again(write, tmp_path):
    name = write(LINEN)
    given = {
        "model.name": f"{name}:net",
        "dataset.name": f"{name}:load",
        "sparsify.ratio": 0.5,
        "seeds": (0, 1),
    }
    given |= {f"{stage}.epochs": 1 for stage in ("pretrain", "retrain")}
    config = sweep.override(
        default_config(),
        given
        | {"experiment": "linen", "optimizer.batch_size": 12, "measure.jsv": True, "measure.examples": 5},
    )
    launch.launch(config, None, tmp_path / "run", "a test", lambda *_: None)
    (path,) = (tmp_path / "run" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["costs"]["pruned_macs"] * 2 == record["costs"]["dense_macs"]
    store = folder.open_workdir(tmp_path / "run", "linen")
    for its_id in record["stages"][-1]["ids"]:
        network = restore.load(store, its_id)
        assert network.variables["params"]["conv"]["kernel"].shape == (3, 3, 1, 3)
        assert twins.evaluated(network)(np.zeros((2, 4, 4, 1), np.float32)).shape == (2, 3)
