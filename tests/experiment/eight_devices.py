"""Checks that need several devices; run by test_placement.py in a process of its own that simulates eight."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from prune_jax import data, models, trainability
from prune_jax.experiment import networks, specs
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.devices.mesh import MeshShape
from prune_jax.experiment.devices.replicas import stacked
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.training import trainer as training_trainer
from prune_jax.experiment.training.masking import MaskPlan, rule_of
from prune_jax.experiment.training.optimizers import Rule
from prune_jax.experiment.training.penalties import Pushing
from prune_jax.experiment.training.step import StepPlan
from prune_jax.pruning import coupling, surgery
from prune_jax.pruning.mask_rules.table import begin
from prune_jax.pruning.regularizers.table import REGULARIZERS, arguments_of

SHAPE = (12, 12, 1)
IMAGES = specs.DataSpec("made up", (0.5,), (0.25,), crop_pad=1, flip=True)
MLP = specs.ModelSpec("mlp7_relu", SHAPE, 3, (("depth", 3), ("hidden", 8)))
RESNET = specs.ModelSpec("resnet8", SHAPE, 3)


def made_up_data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 26).astype(np.int32)
    images = (60 * labels[:, None, None, None] + rng.integers(0, 90, (26, *SHAPE))).astype(np.uint8)
    split = data.Split(images, labels)
    return data.Dataset("made up", split, split, 3)


def variables_of(spec, seed):
    module = models.create(
        spec.name, num_classes=3, input_shape=SHAPE, key=jax.random.key(seed), **dict(spec.options)
    )
    return models.functional(module).variables


def trained(spec, how, shape, replicas=1, masked=False, **options):
    """Two epochs of three steps; the state as it lies on the devices, losses, accuracy and mean JSV."""
    shape = shape.for_cohort(replicas)
    on = training_trainer.to_device(made_up_data(), shape)
    recipe = training_trainer.Recipe(IMAGES, spec, 8, 0.9, 1e-3, how, shape, **options)
    trainer = training_trainer.make_trainer(recipe)
    start = stacked([variables_of(spec, seed) for seed in range(replicas)])
    state = trainer.init(start, jax.tree.map(lambda leaf: leaf > 0, start["params"]) if masked else None)
    keys = jax.random.split(jax.random.key(7), (2, replicas))
    losses = []
    for epoch in range(2):
        key = mesh.put_whole(mesh.placement(shape), keys[epoch])
        state, loss = trainer.epoch(state, on, key, np.full(3, 0.05, np.float32))
        losses.append(loss)
    return state, (losses, trainer.accuracy(state, on), trainer.jsv(state, on.test_images[:4]))


def assert_close(mine, wanted):
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(wanted), strict=True):
        # six steps of float32 whose sums are taken in another order
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("spec", "how", "replicas", "shape"),
    [
        (MLP, Execution("scan", "vmap"), 2, MeshShape(2, 2, 2)),
        (MLP, Execution("step", "vmap"), 3, MeshShape(2, 1, 4)),  # replicas that the mesh does not divide
        (RESNET, Execution("step", "loop"), 1, MeshShape(1, 2, 4)),  # batch norm over the global batch
    ],
)
def test_the_sharded_run_gives_the_single_devices_numbers(spec, how, replicas, shape):
    state, found = trained(spec, how, shape, replicas)
    alone, wanted = trained(spec, how, MeshShape(1, 1, 1), replicas)
    assert_close(found, wanted)
    assert_close(state, alone)
    leaves = jax.tree.leaves(state.params)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in leaves)
    spread = shape.replicas if replicas % shape.replicas == 0 else 1
    kept = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
    total = sum(leaf.size for leaf in leaves)
    assert kept <= total / spread / (1 if shape.fsdp == 1 else shape.fsdp * 0.6)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(alone.params))


@pytest.mark.parametrize(
    ("sizes", "part"),
    [
        ((), ()),
        ((7,), (7,)),
        ((8,), (2,)),
        ((3, 3, 16, 32), (3, 3, 16, 8)),
        ((3, 3, 64, 30), (3, 3, 16, 30)),
        ((6, 10), (6, 10)),
    ],
)
def test_a_leaf_is_split_along_its_largest_axis_that_divides(sizes, part):
    leaf = np.zeros((1, *sizes), np.float32)
    for shape, wanted in ((MeshShape(1, 2, 4), part), (MeshShape(1, 8, 1), sizes)):
        put = mesh.put_state(mesh.placement(shape), leaf)
        assert put.addressable_shards[0].data.shape == (1, *wanted)
        inside = jax.jit(lambda x, shape=shape: mesh.parameters(mesh.placement(shape), x))(leaf[0])
        assert inside.addressable_shards[0].data.shape == wanted


@pytest.mark.parametrize(("rows", "part"), [(12, 3), (10, 10)])
def test_a_batch_that_does_not_divide_stays_whole(rows, part):
    place = mesh.placement(MeshShape(2, 2, 2))
    split = jax.jit(lambda x: mesh.batch(place, x))(np.zeros((rows, 3), np.float32))
    assert split.addressable_shards[0].data.shape == (part, 3)


def test_a_masked_step_of_any_optimiser_is_sharded_as_well():
    how = Execution("scan", "vmap")
    options = {"rule": Rule("adamw", (("eps", 1e-3),), clip_norm=0.1), "plan": StepPlan(ema=0.5)}
    state, found = trained(MLP, how, MeshShape(2, 2, 2), 2, masked=True, **options)
    alone, wanted = trained(MLP, how, MeshShape(1, 1, 1), 2, masked=True, **options)
    assert_close(found, wanted)
    assert_close(state, alone)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.mask)} == {"bool"}
    for values, mask in zip(jax.tree.leaves(state.params), jax.tree.leaves(state.mask), strict=True):
        assert not np.asarray(values)[~np.asarray(mask)].any()


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [("rigl", {"interval": 2, "end": 1.0}), ("gmp", {"interval": 2, "end": 1.0}), ("sfp", {})],
)
def test_a_mask_rule_is_sharded_as_well(rule, arguments):
    """Six steps: the masks are the single device's, weights to the order of sums."""
    given = tuple(sorted({"ratio": 0.5, **arguments}.items()))
    plan = MaskPlan(specs.Masking(rule, ("*",), given), 6, 3)
    ends = []
    for shape in (MeshShape(2, 2, 2), MeshShape(1, 1, 1)):
        shape = shape.for_cohort(2)
        recipe = training_trainer.Recipe(
            IMAGES, MLP, 8, 0.9, 1e-3, Execution("scan", "vmap"), shape, masking=plan
        )
        trainer, on = training_trainer.make_trainer(recipe), training_trainer.to_device(made_up_data(), shape)
        made = []
        for seed in range(2):
            variables = variables_of(MLP, seed)
            params, state = begin(rule_of(plan), variables["params"], jax.random.key(seed))
            made.append(({**variables, "params": params}, *state))
        state, turns = trainer.init(*stacked(made)), rule_of(plan).turns
        for epoch in range(2):
            keys = mesh.put_whole(mesh.placement(shape), jax.random.split(jax.random.key(epoch), 2))
            lrs = np.full(3, 0.05, np.float32)
            state, _ = trainer.epoch(state, on, keys, lrs, turns[3 * epoch : 3 * epoch + 3])
        ends.append(state)
    spread, alone = ends
    jax.tree.map(np.testing.assert_array_equal, spread.mask, alone.mask)
    assert_close(spread.params, alone.params)
    assert not all(np.asarray(leaf).all() for leaf in jax.tree.leaves(spread.mask))
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(spread.mask))


@pytest.mark.parametrize("name", ["greg2", "tpp", "group_lasso_proximal"])
def test_a_step_under_a_penalty_is_sharded_as_well(name):
    how = Execution("scan", "vmap")
    layers = ("layers/0", "layers/1")
    growth = {"step": 0.5, "every": 1, "strength": 0.5, "pick_step": 0.5, "pick_limit": 1.0}
    own = arguments_of(REGULARIZERS[name].make)
    given = tuple(sorted((own | {key: growth[key] for key in own if key in growth}).items()))
    ratios = tuple((layer, 0.5) for layer in layers) if REGULARIZERS[name].chooses else ()
    pushing = Pushing((name, given, layers, ratios, 1, ""), ())
    state, found = trained(MLP, how, MeshShape(2, 2, 2), 2, pushing=pushing)
    alone, wanted = trained(MLP, how, MeshShape(1, 1, 1), 2, pushing=pushing)
    assert_close(found, wanted)
    assert_close(state, alone)
    plain, _ = trained(MLP, how, MeshShape(1, 1, 1), 2)
    moved = zip(*map(jax.tree.leaves, (alone.params, plain.params)), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in moved)


def test_spectrum_coupling_and_surgery_take_sharded_parameters():
    variables = variables_of(RESNET, 0)
    place = mesh.placement(MeshShape(1, 2, 4))
    sharded = jax.tree.map(lambda leaf: leaf[0], mesh.put_state(place, stacked([variables])))
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(sharded))
    apply = models.functional(networks.abstract_model(RESNET)).apply
    x = jax.random.normal(jax.random.key(1), (8, *SHAPE))
    split = jax.device_put(x, NamedSharding(place.mesh, PartitionSpec(("data", "fsdp"))))

    def spectrum(values, inputs):
        return jax.jit(lambda v, i: trainability.jacobian_singular_values(lambda batch: apply(v, batch), i))(
            values, inputs
        )

    wanted = spectrum(variables, x)
    np.testing.assert_allclose(spectrum(sharded, split), wanted, rtol=1e-4, atol=1e-6 * wanted.max())
    groups = coupling.find_groups(apply, sharded, x)
    plain = coupling.find_groups(apply, variables, x)
    assert [(group.name, group.size) for group in groups] == [(group.name, group.size) for group in plain]
    keep = {group.name: np.arange(0, group.size, 2) for group in groups if not group.frozen}
    small, same = surgery.shrink(sharded, groups, keep), surgery.shrink(variables, plain, keep)
    jax.tree.map(np.testing.assert_array_equal, small, same)


def test_a_config_on_eight_devices_is_spread_or_refused(tmp_path):
    config = default_config()
    config.dataset.name = "digits"
    dataset = data.load("digits", data_dir=str(tmp_path))
    assert sweep.plan_arms(config, None, dataset)[0].mesh == mesh.APART
    config.mesh.data = 8
    with pytest.raises(ValueError, match=r"batch_size is 100, but the mesh splits a batch into 8 parts"):
        sweep.plan_arms(config, None, dataset)
    config.optimizer.batch_size = 96
    assert sweep.plan_arms(config, None, dataset)[0].mesh[:3] == (1, 8, 1)
    config.seeds, config.mesh.data, config.mesh.fsdp = (0, 1, 2, 3), 0, 2
    assert sweep.plan_arms(config, None, dataset)[0].mesh[:3] == (4, 1, 2)
