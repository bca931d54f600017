"""Language models in experiments: bits per byte by hand, what is refused, a Jacobian of embeddings, budgets."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from prune_jax import data, fairness, models
from prune_jax.experiment import specs
from prune_jax.experiment.config import resolve
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.protocols.language import epochs_after, removal, what_is_left
from prune_jax.experiment.training import judging
from prune_jax.fairness import facts
from prune_jax.report.budgets import budgets

TEXT = specs.DataSpec("text_folder", (), (), window=4)
OPTIONS = {"hidden": 8, "depth": 1, "heads": 4, "kv_heads": 2, "head_dim": 2, "mlp": 8}


@functools.cache
def dataset():
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 256, (20, 5)).astype(np.uint8)
    split = data.Split(windows[:, :-1], windows[:, 1:].astype(np.int32))
    return data.Dataset("text_folder", split, split, 256, "hash")


def config_of(**given):
    config = default_config()
    config.dataset.name, config.dataset.window = "text_folder", 4
    config.model.name, config.model.options = "decoder", ConfigDict(OPTIONS)
    config.optimizer.batch_size = 4
    for key, value in given.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


def test_bits_per_byte_by_hand():
    """Two windows of two bytes; logits whose probabilities are 1/2, 1/4, 1/8 and 1/8."""
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.125, 0.125]] * 4)).reshape(2, 2, 4)
    labels = jnp.array([[0, 1], [2, 3]])
    found = judging.judged(TEXT, logits, labels)
    np.testing.assert_allclose(found, [(1 + 2) / 2, (3 + 3) / 2], rtol=1e-6)
    assert judging.metric_of(TEXT).text == "bits per byte in bits, lower is better"


def test_images_are_judged_by_accuracy():
    spec = specs.DataSpec("digits", (0.3,), (0.4,))
    found = judging.judged(spec, jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.array([0, 0]))
    assert found.tolist() == [100.0, 0.0]
    assert judging.metric_of(spec) == fairness.METRICS["top-1 accuracy"]


def test_the_jacobian_is_of_the_last_logits_to_the_embeddings():
    key = jax.random.key(0)
    network = models.functional(models.create("decoder", num_classes=7, input_shape=(4,), key=key, **OPTIONS))
    tokens = dataset().test.images[:2] % 7
    function, inputs = judging.jacobian_of(network, TEXT, network.variables, jnp.asarray(tokens))
    assert inputs.shape == (2, 4, 8)
    whole = jax.jit(network.apply)(network.variables, tokens)
    np.testing.assert_allclose(jax.jit(function)(inputs), whole[:, -1], rtol=1e-5, atol=1e-6)


def test_a_run_states_its_text_and_its_tokens():
    arm = resolve.resolve(config_of(), dataset())
    spec = arm.chain[0].data
    assert (spec.window, spec.content, spec.mean, spec.std) == (4, "hash", (), ())
    assert arm.config["tokens_per_epoch"] == 20 * 4
    assert arm.model.input_shape == (4,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model__name": "mlp7_relu", "model__options": ConfigDict()},
            "takes images, .* is a text; .*: decoder",
        ),
        (
            {"sparsify__ratio": 0.3},
            r"sparsify.ratio: ratio 0.3 of the 2 heads of 'blocks/0/.*allowed: 0, 0.5",
        ),
        ({"sparsify__criterion": "synflow"}, "which sends ones through the network; decoder takes tokens"),
        (
            {
                "model__options": ConfigDict({**OPTIONS, "scan": True}),
                "sparsify__in_turn": True,
                "sparsify__criterion": "wanda",
                "sparsify__granularity": "unstructured",
            },
            "sparsify.in_turn is True, and blocks/attention/q holds the kernels of all blocks of decoder, stacked",
        ),
        ({"dataset__flip": True}, "dataset.flip is True, but text_folder is a text"),
    ],
)
def test_what_does_not_fit_a_text_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        resolve.resolve(config_of(**given), dataset())


def test_a_decoder_refuses_images():
    config = config_of(dataset__name="digits")
    split = data.Split(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20, dtype=np.int32) % 10)
    with pytest.raises(ValueError, match=r"decoder takes tokens: input_shape must be \(length,\)"):
        resolve.resolve(config, data.Dataset("digits", split, split, 10))


@pytest.mark.parametrize(("total", "wanted", "speedup"), [(8, 4, 1.32), (8, 4, 1.95), (12, 6, 3.7)])
def test_a_split_of_epochs_has_scratchs_flops(total, wanted, speedup):
    after = epochs_after(total, wanted, speedup)
    dense = round((total - after) / speedup)
    assert 1 <= after < total
    assert abs(dense * speedup + after - total) <= 0.015 * total


def test_what_a_removal_leaves_is_known_before_any_data_is_read():
    config = config_of(model__options=ConfigDict({**OPTIONS, "depth": 2}))
    config.removals = ConfigDict(
        {
            "heads": {"layers": ("blocks/*attention/q",), "criterion": "taylor"},
            "others": {"layers": ("blocks/*attention/q",), "criterion": "l1"},
            "depth": {"granularity": "depth", "criterion": "last"},
        }
    )
    heads, others, depth = (
        what_is_left(config, removal(config, name, 0.5)) for name in ("heads", "others", "depth")
    )
    assert heads == others
    assert heads.widths == (("blocks/0/attention/q", 1), ("blocks/1/attention/q", 1))
    assert depth.widths == (("blocks:depth", 1),)
    # A token's MACs. Embeddings cost none. Logits: 8 * 256. A block: projections 8 * (8 + 4 + 4 + 8), scores and sums
    # 2 * 4 * 8 over all 4 positions, MLP 3 * 8 * 8. Half of the heads leave half of all but the MLP.
    block, head = 8 * 24 + 64 + 192, 8 * 256
    assert depth.speedup == (2 * block + head) / (block + head)
    assert heads.speedup == (2 * block + head) / (2 * (192 + 128) + head)
    with pytest.raises(ValueError, match=r"removed: 'hedas'.*heads"):
        removal(config, "hedas", 0.5)


def test_speedups_that_fit_no_split_are_refused():
    with pytest.raises(
        ValueError, match=r"at speedup 1.56 no split of 4 epochs has scratch's FLOPs; take more"
    ):
        epochs_after(4, 2, 1.56)


def record(name, method, stages, values, regime=""):
    costs = fairness.Costs("macs", 1000.0, 500.0, 100.0, 50.0)
    results = tuple(fairness.SeedResult(i, value) for i, value in enumerate(values))
    config = {"tokens_per_epoch": 80, "dataset": {"window": 4}, "regime": regime}
    axes = fairness.Axes(ratio="0.5")
    return fairness.RunRecord(
        name, "text", "decoder", method, axes, costs, stages, results, config=config,
        metric=fairness.METRICS["bits per byte"],
    )  # fmt: skip


def test_budgets_are_in_tokens_and_flops():
    stage = fairness.Stage
    pruned = record(
        "l1", "l1", (stage("pretrain", ("a", "b"), 2, "0:0.1", 1000.0), stage("sparsify", ("c", "d"), 0, None, 500.0),
        stage("retrain", ("e", "f"), 2, "0:0.1", 500.0)), (2.0, 2.01), "SX-A",
    )  # fmt: skip
    scratch = record("scratch", "scratch", (stage("scratch", ("g", "h"), 4, "0:0.1", 500.0),), (3.0, 3.02))
    text = budgets([pruned, scratch])
    # 80 bytes an epoch are 20 windows: 6 (2 * 20 * 1000 + 2 * 20 * 500) and 6 * 4 * 20 * 500 FLOPs.
    assert "| l1 | 0.5 | 2.005 ± 0.007 | 160 | 160 | 320 | 3.6e+05 | 1.12e+03 |" in text
    assert "| scratch | 0.5 | 3.010 ± 0.014 | 0 | 320 | 320 | 2.4e+05 | 750 |" in text
    assert "l1: 320 tokens at 1.12e+03 FLOPs each, scratch: 320 at 750." in text
    assert "l1 is ahead of scratch by 1.00 bits in bits per byte (lower is better) under SX-A" in text
    assert "Setups that hold: S1, SX-A" in text
    assert budgets([]) == ""


def test_setups_of_texts_are_read_in_tokens_and_flops():
    """Equal epochs of unlike length are unlike, and twice as many epochs of half the length are alike."""

    def scratch(name, epochs, tokens):
        made = record(name, "scratch", (fairness.Stage("scratch", (name,), epochs, "0:0.1", 500.0),), (3.0,))
        return dataclasses.replace(made, config={**made.config, "tokens_per_epoch": tokens})

    one, longer, alike = scratch("one", 4, 80), scratch("longer", 4, 160), scratch("alike", 2, 160)
    found = fairness.strictest_setup(one, longer)
    assert "total_epochs 320 tokens against 640 tokens" in found.explain("SX-A")
    assert "total_compute 2.4e+05 FLOPs against 4.8e+05 FLOPs" in found.explain("SX-B")
    same = fairness.strictest_setup(one, alike)
    assert same.holds("SX-A")
    assert same.holds("SX-B")
    assert facts.facts(one)["total_epochs"][0][1] == "320 tokens"
    assert facts.facts(one)["total_epochs"] == facts.facts(alike)["total_epochs"]
    assert facts.facts(longer)["total_compute"][0] == [4.8e5, "4.8e+05 FLOPs"]
    plain = dataclasses.replace(one, config={})
    assert facts.facts(plain)["total_epochs"][0][1] == "4"


def test_scratch_beside_a_pruned_run_is_of_its_architecture():
    stage = fairness.Stage
    heads = record("heads", "taylor", (stage("retrain", ("a", "b"), 4, "0:0.1", 500.0),), (2.0, 2.01), "SX-A")
    one = record("as heads", "scratch", (stage("scratch", ("c", "d"), 4, "0:0.1", 500.0),), (3.0, 3.02))
    costs = dataclasses.replace(
        one.costs, pruned_macs=400.0, pruned_params=40.0, speedup=None, compression=None
    )
    two = dataclasses.replace(one, name="as depth", costs=costs)
    three = dataclasses.replace(
        heads, name="depth", costs=dataclasses.replace(costs, pruned_macs=300.0, speedup=None)
    )
    text = budgets([heads, two, one, three])
    assert "heads is ahead of as heads by" in text
    assert "as depth" not in text.split("Pruned beside scratch")[1]  # of another size, and not the only one
    alone = budgets([two, heads]).split("Pruned beside scratch")[1]
    assert "as depth" in alone
    assert "rate (speedup)" in alone  # S1 and stricter don't hold of another size
