"""The sparsifying action on disk, each choice recomputed in NumPy from the network before it."""

import json

import jax
import numpy as np
import pytest
from every_network import EVERY
from small_runs import context_of, mlp_config

from prune_jax.experiment import networks, specs
from prune_jax.experiment.chain import record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.training.cohort import member_key
from prune_jax.pruning import allocation, cost, surgery

LAYERS = ("0", "1", "head")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One workdir for the file: the base model is trained once."""
    return tmp_path_factory.mktemp("runs")


def finished(root, digits, **changes):
    """A run, its context, and for each seed the networks before and after every sparsify stage."""
    config = mlp_config()
    config.seeds = (0,)
    config.pretrain.epochs = config.retrain.epochs = 1
    (arm,) = sweep.plan_arms(sweep.override(config, changes), None, digits)
    context = context_of(root, digits, arm)
    run.run_chain(context, arm)
    places = [i for i, spec in enumerate(arm.chain) if isinstance(spec, specs.Sparsify)]
    cuts = [
        [(restore.load(context.store, ids[i - 1]), restore.load(context.store, ids[i])) for i in places]
        for ids in arm.ids
    ]
    return arm, context, cuts


def kernels(network):
    """Layer name -> kernel (inputs, outputs) in float64."""
    params = network.variables["params"]
    found = {f"layers/{i}": layer for i, layer in params["layers"].items()} | {"head": params["head"]}
    return {name: np.asarray(layer["kernel"], np.float64) for name, layer in found.items()}


def biases(network):
    params = network.variables["params"]
    found = {f"layers/{i}": layer for i, layer in params["layers"].items()} | {"head": params["head"]}
    return {name: np.asarray(layer["bias"], np.float64) for name, layer in found.items() if "bias" in layer}


def test_a_small_network_holds_its_parents_numbers_at_the_kept_places(root, digits):
    _, _, cuts = finished(root, digits, **{"sparsify.round_to": 4, "sparsify.ratio": 0.45})
    for ((before, after),) in cuts:
        old, new, keep = kernels(before), kernels(after), after.keep
        assert {name: len(kept) for name, kept in keep.items()} == {"layers/0": 8, "layers/1": 8}  # 5 up to 8
        first, second = keep["layers/0"], keep["layers/1"]
        np.testing.assert_array_equal(new["layers/0"], old["layers/0"][:, first])
        np.testing.assert_array_equal(new["layers/1"], old["layers/1"][first][:, second])
        np.testing.assert_array_equal(new["head"], old["head"][second])
        for name, bias in biases(before).items():
            np.testing.assert_array_equal(biases(after)[name], bias[keep.get(name, slice(None))])


def test_single_weights_of_all_layers_go_by_magnitude_and_stay_gone(root, digits):
    changes = {"sparsify.granularity": "unstructured", "sparsify.allocation": "global", "sparsify.ratio": 0.7}
    arm, context, cuts = finished(root, digits, **changes, **{"sparsify.rounds": 2, "seeds": (0, 1)})
    chosen = networks.unit_sizes(arm.model, (), "unstructured")
    for seed in cuts:
        gone = {name: np.zeros(size, bool) for name, size in chosen.items()}
        for (before, after), ratio in zip(seed, (0.35, 0.7), strict=True):
            size = np.abs(np.concatenate([kernels(before)[name].ravel() for name in chosen]))
            size[np.concatenate(list(gone.values()))] = -1  # what is gone goes first
            order = np.argsort(size, kind="stable")[: int(np.ceil(ratio * len(size) - 1e-9))]
            flat = np.zeros(len(size), bool)
            flat[order] = True
            ends = np.cumsum(list(chosen.values()))[:-1]
            gone = dict(zip(chosen, np.split(flat, ends), strict=True))
            for name, zeros in gone.items():
                layer = after.mask["layers"][int(name.split("/")[1])] if "/" in name else after.mask[name]
                np.testing.assert_array_equal(~np.asarray(layer["kernel"]).ravel(), zeros)
                assert not kernels(after)[name].ravel()[zeros].any()
    kept = record.make_record(context.store, arm, "a test")
    assert (
        kept.costs.pruned_macs < kept.costs.dense_macs or kept.costs.pruned_params < kept.costs.dense_params
    )


def test_the_record_holds_the_seconds_of_all_actions_and_none_where_an_older_stage_tells_none(root, digits):
    changes = {"sparsify.granularity": "unstructured", "sparsify.allocation": "global", "sparsify.ratio": 0.7}
    arm, context, _ = finished(root, digits, **changes, **{"sparsify.rounds": 2, "seeds": (0, 1)})
    places = [i for i, spec in enumerate(arm.chain) if isinstance(spec, specs.Sparsify)]
    files = [[root / "stages" / ids[i] / "stage.json" for i in places] for ids in arm.ids]
    told = [[json.loads(path.read_text())["seconds"] for path in paths] for paths in files]
    assert min(map(min, told)) > 0
    assert record.make_record(context.store, arm, "a test").seconds == {"sparsify": [a + b for a, b in told]}
    whole = files[1][0].read_text()
    files[1][0].write_text(json.dumps({k: v for k, v in json.loads(whole).items() if k != "seconds"}))
    assert record.make_record(context.store, arm, "a test").seconds == {}
    files[1][0].write_text(whole)


def test_a_target_speedup_is_met_and_one_channel_more_would_miss_it(root, digits):
    changes = {"sparsify.allocation": "speedup", "sparsify.speedup": 2.5, "sparsify.round_to": 2}
    arm, context, cuts = finished(root, digits, **changes)
    dense = networks.cost_of(arm.model).macs
    network = networks.network_of(arm.model)
    told = record.make_record(context.store, arm, "a test").costs.pruned_macs
    for ((_, after),) in cuts:
        macs = cost.count(network.apply, after.variables, networks.example_of(arm.model)).macs
        assert told == macs
        assert macs * 2.5 <= dense
        wider = {name: len(kept) + 2 for name, kept in after.keep.items()}
        assert networks.cost_of(arm.model, wider).macs * 2.5 > dense


def test_taylor_is_the_gradient_of_the_loss_by_hand(root, digits):
    changes = {"sparsify.criterion": "taylor", "sparsify.evidence.batches": 3}
    arm, _, cuts = finished(root, digits, **changes)
    data = arm.chain[0].data
    for seed, ((before, after),) in zip(arm.seeds, cuts, strict=True):
        rows = jax.random.permutation(member_key(seed, "evidence"), len(digits.train.labels))[: 3 * 100]
        images = np.asarray(digits.train.images, np.float64)[np.asarray(rows)]
        x = ((images / 255 - np.asarray(data.mean)) / np.asarray(data.std)).reshape(len(rows), -1)
        scores = taylor_by_hand(before, x, np.asarray(digits.train.labels)[np.asarray(rows)])
        for name in ("layers/0", "layers/1"):
            best = np.sort(np.argsort(-scores[name], kind="stable")[:5])
            assert after.keep[name].tolist() == best.tolist()


def taylor_by_hand(network, x, labels):
    """abs(sum of w * g over a unit's incoming weights and bias): back-propagation through a ReLU MLP in float64."""
    weights, bias = kernels(network), biases(network)
    names, inputs, h = list(weights), [], x
    for name in names:
        inputs.append(h)
        z = h @ weights[name] + bias.get(name, 0.0)
        h = z if name == "head" else np.maximum(z, 0)
    p = np.exp(h - h.max(1, keepdims=True))
    error = (p / p.sum(1, keepdims=True) - np.eye(h.shape[1])[labels]) / len(x)
    scores = {}
    for name, before in zip(reversed(names), reversed(inputs), strict=True):
        total = (weights[name] * (before.T @ error)).sum(0)
        scores[name] = np.abs(total)
        error = (error @ weights[name].T) * (before > 0)
    return scores


@EVERY
def test_every_group_of_every_network_of_the_catalog_can_be_priced(name):
    spec = specs.ModelSpec(name, (6,) if name == "decoder" else (32, 32, 3), 10)
    widths = networks.widths_of(spec, networks.uniform_ratios(spec, ("*",), 0.5))
    groups, network, x = networks.groups_of(spec), networks.network_of(spec), networks.example_of(spec)
    assert set(widths) == {group.name for group in allocation.chosen(groups, ("*",))}
    keep = {name: np.arange(width) for name, width in widths.items()}
    apply = surgery.slim(network.apply, network.variables, groups, keep, x)
    assert networks.cost_of(spec, widths) == cost.count(apply, networks.small_variables(spec, widths), x)


def test_a_small_network_with_cut_shortcuts_is_initialised_at_its_own_size():
    spec = specs.ModelSpec("resnet8", (8, 8, 1), 10)
    widths = networks.widths_of(spec, networks.uniform_ratios(spec, ("*",), 0.5))
    fresh = networks.fresh(spec, widths, jax.random.key(0))
    wanted = networks.small_variables(spec, widths)
    assert jax.tree.map(np.shape, fresh) == jax.tree.map(np.shape, wanted)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fresh))


PINNED_DATA = specs.DataSpec("digits", (0.3,), (0.4,))
PINNED_MODEL = specs.ModelSpec("mlp7_linear", (8, 8, 1), 10)
PINNED_TRAIN = specs.TrainSpec("0:0.01", 3, 100, 0.9, 0.0)
HALF = specs.Sparsify("l1", (("layers/0", 0.5),))
