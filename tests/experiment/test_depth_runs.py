"""Blocks removed from a config: the network that is left, along a chain and back from disk, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from ml_collections import ConfigDict
from small_runs import KilledError, Killer, context_of

from prune_jax import data, models
from prune_jax.experiment import depth, dry_run, networks, specs
from prune_jax.experiment.arm import links
from prune_jax.experiment.chain import blocks, modules, record, restore, run, train
from prune_jax.experiment.chain.kinds import kind_of
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.networks import StageNetwork
from prune_jax.models import functional

OPTIONS = {"hidden": 8, "depth": 4, "heads": 2, "kv_heads": 2, "head_dim": 2, "mlp": 8}
TOKENS = np.array([[3, 1, 4, 1], [9, 2, 6, 5]], np.int32)
TEXT = specs.DataSpec("text_folder", (), (), window=4)
NAME = "blocks:depth"


def model_of(scan=False, **changed):
    return specs.ModelSpec("decoder", (4,), 256, tuple(sorted({**OPTIONS, "scan": scan, **changed}.items())))


@pytest.fixture(scope="module")
def text():
    windows = np.random.default_rng(0).integers(0, 256, (24, 5)).astype(np.uint8)
    split = data.Split(windows[:, :-1], windows[:, 1:].astype(np.int32))
    return data.Dataset("text_folder", split, split, 256, "hash")


def network_at(model, dtype=np.float32):
    """A dense network whose weights NumPy draws."""
    variables = functional(drawn(lambda _: networks.abstract_model(model))).variables
    return StageNetwork(model, TEXT, jax.tree.map(lambda leaf: np.asarray(leaf, dtype), variables))


def built_without(variables, scan, kept):
    """The leaves of the network with these blocks alone, by hand."""
    found = variables["params"]["blocks"]
    if scan:
        mine = jax.tree.map(lambda leaf: leaf[np.array(kept)], found)
    else:
        mine = {number: found[k] for number, k in enumerate(kept)}
    return {**variables, "params": {**variables["params"], "blocks": mine}}


def spec_of(criterion, ratio=0.5, batches=2):
    return specs.Sparsify(
        criterion, ((NAME, ratio),), granularity="depth", evidence=specs.Gathering(batches, 4)
    )


@pytest.mark.parametrize("scan", [False, True])
def test_the_network_that_is_left_is_the_one_built_without_the_blocks(scan, text, tmp_path):
    """In float64, by the function that later stages run, for blocks that two cuts name by their own numbers."""
    with jax.enable_x64(True):
        before = network_at(model_of(scan), np.float64)
        context = context_of(tmp_path, text, sweep.plan_arms(config_of(scan), None, text)[0])
        once = blocks.cut(context, before, spec_of("random", 0.25), 3, "")
        twice = blocks.cut(context, once, spec_of("random", 0.5), 3, "/2")
        kept = twice.blocks[NAME].tolist()
        assert len(kept) == 2
        assert set(kept) < set(once.blocks[NAME].tolist())
        small = networks.network_of(model_of(scan, depth=2))
        wanted = jax.jit(small.apply)(built_without(before.variables, scan, kept), TOKENS)
        found = jax.jit(networks.network_of(twice.model).apply)(twice.variables, TOKENS)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scan", [False, True])
def test_costs_are_those_of_the_network_of_that_depth(scan):
    cost = networks.cost_of(model_of(scan), {NAME: 3})
    assert cost == networks.cost_of(model_of(scan, depth=3))
    assert cost.params < networks.cost_of(model_of(scan)).params


def test_scores_choose_the_blocks(text, tmp_path):
    """Against NumPy: block influence from the streams, the loss without each block from its own network."""
    before = network_at(model_of())
    context = context_of(tmp_path, text, sweep.plan_arms(config_of(), None, text)[0])
    batches = list(blocks.training_batches(context.data, TEXT, specs.Gathering(2, 4), 0))
    tokens = np.concatenate([np.asarray(batch[0]) for batch in batches])
    labels = np.concatenate([np.asarray(batch[1]) for batch in batches])
    streams = np.asarray(networks.network_of(before.model).streams(before.variables, tokens), np.float64)
    norms = np.linalg.norm(streams, axis=-1)
    influence = 1 - ((streams[1:] * streams[:-1]).sum(-1) / norms[1:] / norms[:-1]).mean((1, 2))
    found = blocks.cut(context, before, spec_of("block_influence", 0.25), 0, "")
    assert found.blocks[NAME].tolist() == [k for k in range(4) if k != influence.argmin()]
    losses = []
    for gone in range(4):
        mine = built_without(before.variables, False, [k for k in range(4) if k != gone])
        logits = jax.jit(networks.network_of(model_of(depth=3)).apply)(mine, tokens)
        logs = np.asarray(jax.nn.log_softmax(logits), np.float64)
        losses.append(-np.take_along_axis(logs, labels[..., None], -1).mean())
    found = blocks.cut(context, before, spec_of("skipping_loss", 0.25), 0, "")
    assert found.blocks[NAME].tolist() == [k for k in range(4) if k != np.argmin(losses)]
    last = blocks.cut(context, before, spec_of("last"), 0, "")
    assert last.blocks[NAME].tolist() == [0, 1]


def config_of(scan=False, **given):
    config = default_config()
    config.dataset.name, config.dataset.window = "text_folder", 4
    config.model.name, config.model.options = "decoder", ConfigDict({**OPTIONS, "scan": scan})
    config.optimizer.batch_size, config.seeds = 4, (0, 1)
    config.pretrain.epochs = config.retrain.epochs = config.scratch.epochs = 1
    config.sparsify.granularity, config.sparsify.criterion = "depth", "block_influence"
    config.sparsify.evidence.batches = 2
    for key, value in given.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text):
    """Scratch, and a chain of two seeds that loses half of its blocks, goes back to its first weights and is taught.

    It is killed in its retraining and gone on with.
    """
    root = tmp_path_factory.mktemp("depth")
    config = config_of(rewind__to=0)
    config.retrain.distill.weight = 0.5
    (arm,) = sweep.plan_arms(config, None, text)
    config = config_of()
    config.pipeline = "scratch"
    (scratch,) = sweep.plan_arms(config, None, text)
    with pytest.raises(KilledError):
        run.run_chain(context_of(root, text, arm, progress=Killer(1)), arm)
    context = context_of(root, text, arm, scratch)
    for each in (arm, scratch):
        run.run_chain(context, each)
    return context, arm, scratch


@pytest.mark.slow
def test_a_run_goes_from_the_config_to_a_record_and_back_from_disk(finished, text):
    context, arm, scratch = finished
    for seed, (first, cut, back, end) in zip(arm.seeds, arm.ids, strict=True):
        stated = json.loads((context.store.root / "stages" / cut / "stage.json").read_text())
        assert len(stated["keep"][NAME]) == 2
        after, done = restore.load(context.store, cut), restore.load(context.store, end)
        base = restore.load(context.store, first)
        assert done.blocks[NAME].tolist() == stated["keep"][NAME]
        assert done.model.blocks == ("blocks", 2)
        wanted = built_without(base.variables, False, stated["keep"][NAME])
        jax.tree.map(np.testing.assert_array_equal, after.variables, wanted)
        start = built_without(train.fresh(arm.model, None, seed), False, stated["keep"][NAME])
        jax.tree.map(np.testing.assert_array_equal, restore.load(context.store, back).variables, start)
        again = restore.load(context.store, cut, before_recovery=True)
        jax.tree.map(np.testing.assert_array_equal, again.variables, wanted)
    one, other = (record.make_record(context.store, each, "a test") for each in (arm, scratch))
    small = networks.cost_of(model_of(depth=2))
    assert (one.costs.pruned_macs, one.costs.pruned_params) == (small.macs, small.params)
    assert (one.axes.granularity, one.axes.ratio, one.method) == ("depth", "0.5", "block_influence+rewind0")
    assert (other.costs.pruned_macs, other.costs.dense_macs) == (small.macs, one.costs.dense_macs)
    lines = list(dry_run.describe((arm, scratch), text))
    assert any("block_influence, depth, ratio 0.5" in line for line in lines)
    assert f"-> {small.macs:,} MACs" in lines[0]


@pytest.mark.slow
def test_what_is_left_is_written_for_others(finished, tmp_path):
    context, arm, _ = finished
    network = restore.load(context.store, arm.ids[0][-1])
    folder = models.save_checkpoint(tmp_path / "small", modules.module_of(network), model_type="mistral")
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    read = functional(models.load_checkpoint(folder))
    found = jax.jit(read.apply)(read.variables, jnp.asarray(TOKENS))
    wanted = jax.jit(networks.network_of(network.model).apply)(network.variables, TOKENS)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsify__ratio": 0.9}, r"sparsify.ratio is 0.9, by which none of the 4 blocks at 'blocks' is left; .*0.75"),
        ({"sparsify__criterion": "l1"}, r"sparsify.criterion \(of sparsify.granularity 'depth'\) .*block_influence"),
        ({"sparsify__allocation": "global"}, "sparsify.allocation is 'global', and sparsify.granularity 'depth'"),
        ({"sparsify__iterations": 3}, "sparsify.iterations is 3, and .*leave it out"),
        ({"sparsify__layers": ("blocks/*",)}, "it names the path of the blocks, one and without patterns"),
        ({"sparsify__layers": ("layers",)}, r"sparsify.layers is \('layers',\): its blocks are at 'blocks'"),
        ({"model__options": ConfigDict({**OPTIONS, "depth": 1})}, "'blocks' of decoder holds one block alone"),
        ({"model__name": "mlp7_relu", "model__options": ConfigDict()}, "takes images"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(given, message, text):
    with pytest.raises(ValueError, match=message):
        sweep.plan_arms(config_of(**given), None, text)


def test_a_network_without_such_blocks_is_refused(digits):
    config = default_config()
    config.model.name = "mlp7_relu"
    config.sparsify.granularity, config.sparsify.criterion = "depth", "random"
    with pytest.raises(
        ValueError, match=r"removes blocks that are built alike from mlp7_relu.*it has none; decoder has"
    ):
        sweep.plan_arms(config, None, digits)


OWN = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, num_classes, rngs, unlike=False):
        self.stem = nnx.Linear(64, 6, rngs=rngs)
        self.tower = nnx.List([nnx.Linear(6, 6, use_bias=not (unlike and k), rngs=rngs) for k in range(3)])
        self.head = nnx.Linear(6, num_classes, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x.reshape(len(x), -1))
        for layer in self.tower:
            x = x + nnx.relu(layer(x))
        return self.head(x)
"""


def test_a_network_of_ones_own_names_its_blocks(write, digits, tmp_path):
    def arm(name, **options):
        config = default_config()
        config.model.name, config.model.options, config.seeds = name, ConfigDict(options), (0,)
        config.sparsify.update(granularity="depth", criterion="last", layers=("tower",), ratio=0.5)
        return sweep.plan_arms(config, None, digits)[0]

    name = f"{write(OWN)}:Net"
    mine = arm(name)
    assert mine.chain[1].ratios == (("tower:depth", 0.5),)
    cut = links(mine)[1]
    context = context_of(tmp_path / "run", digits, mine)
    before = StageNetwork(mine.model, mine.chain[0].data, networks.fresh(mine.model, None, jax.random.key(0)))
    after = blocks.cut(context, before, cut.spec, 0, "")
    assert after.model.blocks == ("tower", 1)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    found = networks.network_of(after.model).apply(after.variables, x)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), before.variables["params"])
    h = x.reshape(2, -1) @ p["stem"]["kernel"] + p["stem"]["bias"]
    h = h + np.maximum(h @ p["tower"][0]["kernel"] + p["tower"][0]["bias"], 0)
    np.testing.assert_allclose(found, h @ p["head"]["kernel"] + p["head"]["bias"], rtol=1e-5, atol=1e-6)
    assert kind_of(cut.spec).line(cut) == "last, depth, ratio 0.5, recovery none"
    with pytest.raises(ValueError, match=r"the blocks at 'tower' of .* aren't built alike"):
        arm(name, unlike=True)


def test_a_keep_of_blocks_is_composed_and_read_back():
    assert depth.then({NAME: np.array([0, 2, 3])}, NAME, [1, 2])[NAME].tolist() == [2, 3]
    left = depth.removed({"params": {"blocks": {0: 0, 1: 2, 2: 3}}}, {NAME: [0, 2, 3]}, {NAME: [2, 3]})
    assert left == {"params": {"blocks": {0: 2, 1: 3}}}
