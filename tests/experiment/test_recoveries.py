"""Recovery as the named last part of the action: statistics anew, and the control that inherits nothing."""

import jax
import numpy as np
import pytest
from small_runs import context_of, mlp_config

from prune_jax.experiment import networks, specs
from prune_jax.experiment.chain.evidence import training_batches
from prune_jax.experiment.chain.recovery import RECOVERIES, Action, recovered
from prune_jax.experiment.chain.rewind import survivors
from prune_jax.experiment.config import recovery as config_recovery
from prune_jax.experiment.config import sweep
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.training.cohort import member_key
from prune_jax.pruning import surgery

NORMED = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs, inputs, classes):
        self.first, self.head = nnx.Linear(inputs, 12, rngs=rngs), nnx.Linear(12, classes, rngs=rngs)
        self.norm = nnx.BatchNorm(12, momentum=0.9, rngs=rngs)

    def __call__(self, x, train=False):
        x = self.norm(self.first(x.reshape(len(x), -1)), use_running_average=not train)
        return self.head(nnx.relu(x))

def net(num_classes, input_shape, rngs):
    return Net(rngs, input_shape[0] * input_shape[1] * input_shape[2], num_classes)
"""


def arm_of(digits, name=None, **changes):
    config = mlp_config()
    config.seeds = (0,)
    if name is not None:
        config.model.name, config.model.options = name, {}
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


def cut(arm, seed=0, mask=None):
    """The arm's dense network, at random, without the channels that its action takes, the last ones."""
    widths = (
        networks.widths_of(arm.model, arm.chain[1].ratios) if arm.chain[1].granularity == "filter" else {}
    )
    keep = {name: np.arange(width) for name, width in widths.items()}
    dense = networks.fresh(arm.model, None, member_key(seed, "init"))
    small = surgery.shrink(dense, networks.groups_of(arm.model), keep)
    return StageNetwork(arm.model, arm.chain[0].data, small, keep, mask)


def acted(arm, digits, tmp_path, network, seed=0, number=""):
    return recovered(Action(context_of(tmp_path / "run", digits, arm), network, arm.chain[1], seed, number))


def test_recalibrated_statistics_are_those_of_the_batches(digits, tmp_path, write):
    name = f"{write(NORMED)}:net"
    changes = {"sparsify.recovery": "recalibrate", "sparsify.recalibration.batches": 3}
    arm = arm_of(
        digits, name, **changes, **{"sparsify.recalibration.batch_size": 40, "sparsify.layers": ("first",)}
    )
    assert arm.chain[1].recalibration == specs.Gathering(3, 40)
    before, context = cut(arm), context_of(tmp_path / "run", digits, arm)
    after = acted(arm, digits, tmp_path, before)
    assert all(
        map(np.array_equal, *map(jax.tree.leaves, (before.variables["params"], after.variables["params"])))
    )
    first, data = before.variables["params"]["first"], arm.chain[0].data
    means, variances = [], []
    for images, _ in training_batches(context.data, data, specs.Gathering(3, 40), 0):
        floats = (np.asarray(images, np.float64) / 255 - data.mean[0]) / data.std[0]
        made = floats.reshape(40, -1) @ np.asarray(first["kernel"], np.float64) + np.asarray(first["bias"])
        means.append(made.mean(0))
        variances.append(made.var(0))
    stats = after.variables["batch_stats"]["norm"]
    assert stats["mean"].shape == (6,)
    np.testing.assert_allclose(stats["mean"], np.mean(means, 0), rtol=1e-4, atol=1e-5)  # float32
    np.testing.assert_allclose(stats["var"], np.mean(variances, 0), rtol=1e-4)


def test_the_control_has_the_law_of_its_own_size_and_nothing_else(digits, tmp_path):
    arm = arm_of(digits, **{"sparsify.recovery": "reinit"})
    before = cut(arm)
    after = acted(arm, digits, tmp_path, before)
    assert after.keep == before.keep
    assert jax.tree.map(np.shape, after.variables) == jax.tree.map(np.shape, before.variables)
    for name in (0, 1):  # this network's law: orthogonal, times sqrt 2
        small = np.asarray(after.variables["params"]["layers"][name]["kernel"], np.float64)
        np.testing.assert_allclose(np.linalg.svd(small)[1], 2**0.5, rtol=1e-5)
        inherited = np.asarray(before.variables["params"]["layers"][name]["kernel"], np.float64)
        assert not np.isclose(small, inherited).any()
    assert abs(np.linalg.svd(inherited)[1] - 2**0.5).max() > 0.1  # cut on both sides
    again = acted(arm, digits, tmp_path, before)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (after.variables, again.variables))))
    later = acted(arm, digits, tmp_path, before, number="/2").variables["params"]["layers"][0]["kernel"]
    assert not np.array_equal(later, after.variables["params"]["layers"][0]["kernel"])


def test_the_control_has_the_variance_of_its_own_fan(digits, tmp_path, write):
    arm = arm_of(digits, f"{write(NORMED.replace('12', '200'))}:net", **{"sparsify.recovery": "reinit"})
    after = acted(arm, digits, tmp_path, cut(arm)).variables
    for layer, fan in (("first", 64), ("head", 100)):
        kernel = np.asarray(after["params"][layer]["kernel"], np.float64)
        # LeCun's law, 1 / fan. Of n weights the variance is known to sqrt(2 / n), four of which are 0.18 for 1,000.
        assert kernel.shape[0] == fan
        assert kernel.var() * fan == pytest.approx(1, rel=0.18)
    assert not np.asarray(after["batch_stats"]["norm"]["mean"]).any()


def test_the_control_keeps_a_mask(digits, tmp_path):
    arm = arm_of(digits, **{"sparsify.recovery": "reinit", "sparsify.granularity": "unstructured"})
    before = cut(arm)
    mask = jax.tree.map(lambda leaf: np.indices(leaf.shape).sum(0) % 2 == 0, before.variables["params"])
    after = acted(arm, digits, tmp_path, before._replace(mask=mask))
    for leaf, stays in zip(*map(jax.tree.leaves, (after.variables["params"], mask)), strict=True):
        assert not np.asarray(leaf)[~stays].any()
        assert np.ndim(leaf) == 1 or np.asarray(leaf)[stays].all()


def test_a_rewind_takes_statistics_along_with_the_weights(digits, write):
    arm = arm_of(digits, f"{write(NORMED)}:net", **{"sparsify.layers": ("first",)})
    now, dense = cut(arm), networks.fresh(arm.model, None, member_key(3, "init"))
    now = now._replace(keep={"first": np.array([1, 2, 5, 7, 8, 11])})
    dense = jax.tree.map(lambda leaf: np.asarray(leaf) + np.arange(leaf.shape[-1], dtype=np.float32), dense)
    after = survivors(now, dense)
    kept = now.keep["first"]
    for name in ("mean", "var"):
        assert np.array_equal(after["batch_stats"]["norm"][name], dense["batch_stats"]["norm"][name][kept])
    assert np.array_equal(after["params"]["head"]["kernel"], dense["params"]["head"]["kernel"][kept])
    assert np.array_equal(after["params"]["first"]["kernel"], dense["params"]["first"]["kernel"][:, kept])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsify.recovery": "recalibrate"}, "'recalibrate', and mlp7_relu has no batch statistics"),
        (
            {"sparsify.recovery": "reinitialise"},
            "allowed: none, orthp, recalibrate, reinit, rescale; did you mean 'reinit'",
        ),
        ({"sparsify.recovery": "orthp", "sparsify.recovery_gain": 0.0}, "recovery_gain is 0.0"),
    ],
)
def test_a_recovery_that_cannot_be_is_refused(digits, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **changes)
    assert "\n" not in str(error.value)


def test_more_batches_than_there_are_examples_are_refused(digits, write):
    changes = {"sparsify.recovery": "recalibrate", "sparsify.recalibration.batches": 1000}
    with pytest.raises(
        ValueError, match=r"sparsify.recalibration.batches is 1000 and batch_size 100; digits has"
    ):
        arm_of(digits, f"{write(NORMED)}:net", **changes, **{"sparsify.layers": ("first",)})


def test_rescaled_kernels_keep_their_directions_and_get_the_mean_square_of_orthp(digits, tmp_path):
    gain = 2**0.5
    arms = {
        name: arm_of(digits, **{"sparsify.recovery": name, "sparsify.recovery_gain": gain})
        for name in ("orthp", "rescale")
    }
    before = cut(arms["orthp"])
    after = {name: acted(arm, digits, tmp_path, before).variables["params"] for name, arm in arms.items()}
    for part in (0, 1, "head"):
        kernels = {
            name: params["layers"][part] if part != "head" else params["head"]
            for name, params in after.items()
        }
        old = before.variables["params"]
        old = np.asarray((old["layers"][part] if part != "head" else old["head"])["kernel"], np.float64)
        new, orthogonal = (np.asarray(kernels[name]["kernel"], np.float64) for name in ("rescale", "orthp"))
        ratio = new / old
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)  # float32
        assert np.linalg.norm(new) == pytest.approx(np.linalg.norm(orthogonal), rel=1e-5)
        if part == 1:  # cut on both sides, and so no isometry
            assert np.linalg.svd(new)[1].std() > 0.05


def test_only_orthp_states_a_gain_and_a_version(digits):
    told = specs.stated(
        arm_of(digits, **{"sparsify.recovery": "reinit", "sparsify.recovery_gain": 2.0}).chain[1]
    )
    assert "recovery_gain" not in told
    assert "recovery_version" not in told
    assert set(config_recovery.NAMES) == set(RECOVERIES)
