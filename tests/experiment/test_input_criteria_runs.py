"""Runs with criteria that look at activations and inputs: each stage recomputed in NumPy, and what is refused."""

import jax
import numpy as np
import pytest
from small_runs import context_of, mlp_config

from prune_jax.experiment import specs
from prune_jax.experiment.arm import links
from prune_jax.experiment.chain import record, restore
from prune_jax.experiment.chain.kinds import kind_of
from prune_jax.experiment.config import sweep
from prune_jax.experiment.training.cohort import member_key

EVIDENCE = {"sparsify.evidence.batches": 3, "optimizer.batch_size": 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One workdir for the file: the base model is trained once."""
    return tmp_path_factory.mktemp("runs")


def arm_of(digits, **changes):
    config = mlp_config()
    config.seeds = (0,)
    config.pretrain.epochs = config.retrain.epochs = 1
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


def finished(root, digits, **changes):
    """The store, the ids of a run's stages, and the inputs that evidence was gathered from, in float64.

    Of the run all stages up to the last sparsifying action are brought to their ends.
    """
    arm = arm_of(digits, **EVIDENCE | changes)
    context = context_of(root, digits, arm)
    for link in links(arm)[:-1]:
        kind_of(link.spec).finish(context, link)
    rows = jax.random.permutation(member_key(0, "evidence"), len(digits.train.labels))[: 3 * 64]
    data = arm.chain[0].data
    images = np.asarray(digits.train.images, np.float64)[np.asarray(rows)]
    x = ((images / 255 - np.asarray(data.mean)) / np.asarray(data.std)).reshape(len(rows), -1)
    return context.store, arm.ids[0], x


def layers(network):
    """Layer -> kernel and bias in float64, in order; a layer without a bias has zeros."""
    params = network.variables["params"]
    found = {f"layers/{i}": params["layers"][i] for i in sorted(params["layers"])} | {"head": params["head"]}
    return {
        name: tuple(
            np.asarray(layer.get(part, np.zeros(layer["kernel"].shape[1])), np.float64)
            for part in ("kernel", "bias")
        )
        for name, layer in found.items()
    }


def inputs(network, x):
    """Layer -> what its kernel multiplies."""
    found = {}
    for name, (kernel, bias) in layers(network).items():
        found[name], x = x, np.maximum(x @ kernel + bias, 0)
    return found


def masks(network):
    tree = network.mask
    return {f"layers/{i}": np.asarray(one["kernel"]) for i, one in tree["layers"].items()}


@pytest.mark.slow
def test_wanda_takes_the_same_part_of_every_output_in_every_round(root, digits):
    changes = {"sparsify.criterion": "wanda", "sparsify.granularity": "unstructured"}
    store, ids, x = finished(root, digits, **changes, **{"sparsify.ratio": 0.5, "sparsify.rounds": 2})
    gone: dict[str, np.ndarray] = {}
    for place, ratio in ((1, 0.25), (3, 0.5)):
        before, after = (restore.load(store, ids[i]) for i in (place - 1, place))
        given = inputs(before, x)
        for name, stays in masks(after).items():
            kernel = layers(before)[name][0]
            if stays.size < kernel.size:
                continue  # not among the layers that are pruned
            scores = np.abs(kernel) * np.sqrt((given[name] ** 2).sum(0))[:, None]
            scores[kernel == 0] = -1
            count = np.ceil(ratio * len(kernel) - 1e-9)
            assert np.abs((~stays).sum(0) - count).max() <= 1
            assert abs((~stays).sum() - ratio * stays.size) < 1
            for column in range(kernel.shape[1]):
                out = scores[:, column][~stays[:, column]]
                assert out.max() <= scores[:, column][stays[:, column]].min() * (1 + 1e-5)
            if name in gone:
                assert not (gone[name] & stays).any()
            gone[name] = ~stays
    assert gone


@pytest.mark.parametrize("recovery", ["none", "orthp"])
def test_flap_adds_what_is_missing_to_the_biases(root, digits, recovery):
    changes = {"sparsify.criterion": "flap", "sparsify.recovery": recovery}
    store, ids, x = finished(root, digits, **changes)
    before, after = (
        restore.load(store, ids[0]),
        restore.load(store, ids[1], before_recovery=recovery != "none"),
    )
    given, old, new = inputs(before, x), layers(before), layers(after)
    keep = {name: after.keep.get(name, np.arange(old[name][0].shape[1])) for name in old}
    for name, reader in (("layers/0", "layers/1"), ("layers/1", "head")):
        kernel, bias = old[reader]
        stays = np.isin(np.arange(len(kernel)), keep[name])
        assert (~stays).any()
        missing = given[reader].mean(0)[~stays] @ kernel[~stays]
        np.testing.assert_allclose(new[reader][1], (bias + missing)[keep[reader]], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(new[reader][0], kernel[stays][:, keep[reader]])


def half_of_every_output(kernel, given):
    """Wanda's mask: of each output the half of weights with the lowest abs(w) norm(x) goes."""
    scores = np.abs(kernel) * np.sqrt((given**2).sum(0))[:, None]
    order = np.argsort(scores, axis=0, kind="stable")
    stays = np.ones(kernel.shape, bool)
    np.put_along_axis(stays, order[: len(kernel) // 2], False, axis=0)
    return stays


def test_wanda_in_turn_judges_each_layer_by_what_the_masked_ones_before_it_make(root, digits):
    changes = {"sparsify.criterion": "wanda", "sparsify.granularity": "unstructured"}
    store, ids, x = finished(root, digits, **changes, **{"sparsify.in_turn": True})
    base, after = (restore.load(store, i) for i in ids[:2])
    at_once = restore.load(store, finished(root, digits, **changes)[1][1])
    x_dense, found = x, masks(after)
    for name in ("layers/0", "layers/1"):
        kernel, bias = layers(base)[name]
        stays = half_of_every_output(kernel, x)
        np.testing.assert_array_equal(found[name], stays)
        np.testing.assert_array_equal(masks(at_once)[name], half_of_every_output(kernel, x_dense))
        np.testing.assert_array_equal(layers(after)[name][0], np.where(stays, kernel, 0))
        x, x_dense = np.maximum(x @ (kernel * stays) + bias, 0), np.maximum(x_dense @ kernel + bias, 0)
    assert (found["layers/1"] != masks(at_once)["layers/1"]).any()


def test_flap_in_turn_adds_what_is_missing_after_the_layers_before(root, digits):
    store, ids, x = finished(root, digits, **{"sparsify.criterion": "flap", "sparsify.in_turn": True})
    before, after = (restore.load(store, i) for i in ids[:2])
    old, new = layers(before), layers(after)
    rows, corrected = np.arange(x.shape[1]), old["layers/0"][1]
    for name, reader in (("layers/0", "layers/1"), ("layers/1", "head")):
        kernel, kept = old[name][0][rows], after.keep[name]
        whole = np.maximum(x @ kernel + corrected, 0)
        gone = np.setdiff1d(np.arange(kernel.shape[1]), kept)
        corrected = old[reader][1] + whole.mean(0)[gone] @ old[reader][0][gone]
        wanted = corrected[after.keep.get(reader, slice(None))]
        np.testing.assert_allclose(new[reader][1], wanted, rtol=1e-4, atol=1e-5)
        x, rows = whole[:, kept], kept


def test_layers_in_turn_are_another_stage_and_say_so(digits):
    plain = arm_of(digits, **{"sparsify.criterion": "flap"})
    turned = arm_of(digits, **{"sparsify.criterion": "flap", "sparsify.in_turn": True})
    assert "in_turn" not in specs.stated(plain.chain[1])
    assert specs.stated(turned.chain[1])["in_turn"] is True
    assert kind_of(turned.chain[1]).line(links(turned)[1]).startswith("flap, layer after layer, ratio 0.5")
    assert record.method_name(turned.chain) == "flap in turn"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "l1"}, "and sparsify.criterion 'l1' looks at no examples, so that the order changes nothing"),
        ({"criterion": "wanda", "allocation": "global"}, "and sparsify.allocation 'global' compares the scores"),
        ({"criterion": "wanda", "iterations": 2}, "by which layers are judged one by one, and sparsify.iter.* is 2"),
    ],
)  # fmt: skip
def test_layers_in_turn_that_make_no_sense_are_refused(digits, changes, message):
    with pytest.raises(ValueError, match=f"sparsify.in_turn is True, {message}"):
        arm_of(
            digits,
            **{f"sparsify.{key}": value for key, value in changes.items()} | {"sparsify.in_turn": True},
        )


def test_sparsegpt_without_compensation_is_another_stage_with_the_same_mask(root, digits):
    changes = {"sparsify.criterion": "sparsegpt", "sparsify.granularity": "unstructured"}
    store, ids, _ = finished(root, digits, **changes)
    _, control, _ = finished(root, digits, **changes, **{"sparsify.compensate": False})
    assert ids[0] == control[0]
    assert ids[1] != control[1]
    one, other, base = (restore.load(store, i) for i in (ids[1], control[1], ids[0]))
    jax.tree.map(np.testing.assert_array_equal, one.mask, other.mask)
    stays, kernels = (
        masks(one)["layers/1"],
        [layers(network)["layers/1"][0] for network in (one, other, base)],
    )
    assert not any(kernel[~stays].any() for kernel in kernels[:2])
    np.testing.assert_array_equal(kernels[1][stays], kernels[2][stays])
    assert (kernels[0][stays] != kernels[2][stays]).any()


def test_compensate_is_stated_only_where_it_says_something(digits):
    def spec(**changes):
        return arm_of(digits, **{f"sparsify.{key}": value for key, value in changes.items()}).chain[1]

    assert spec(compensate=False) == spec()  # l1 has no compensation
    assert "compensate" not in specs.stated(spec(criterion="flap"))
    assert specs.stated(spec(criterion="flap", compensate=False))["compensate"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"criterion": "hrank"},
            "'hrank', which has no scores of layers/0: no convolution over two axes makes it",
        ),
        ({"criterion": "sparsegpt"}, "'sparsegpt', which scores single weights"),
        (
            {"criterion": "flap", "granularity": "unstructured"},
            "'flap', which scores whole channels, and sparsify.granularity 'unstructured'",
        ),
        (
            {"criterion": "wanda", "evidence.batches": 10**6},
            "'wanda', which needs inputs: sparsify.evidence.batches is 1000000",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(digits, changes, message):
    with pytest.raises(ValueError, match=f"sparsify.criterion is {message}") as caught:
        arm_of(digits, **{f"sparsify.{key}": value for key, value in changes.items()})
    assert "\n" not in str(caught.value)
