import pytest

from prune_jax.experiment import specs
from prune_jax.experiment.config import resolve, sweep
from prune_jax.experiment.config.defaults import default_config

BAD = [
    ({"mesh.replicas": 2}, r"mesh.replicas is 2, but 3 train as one program: .*; allowed: 1, 3, 0: chosen"),
    ({"checkpoint.keep": 0}, r"checkpoint.keep is 0; at least 1 is kept"),
    (
        {"pipeline": "prunne"},
        r"pipeline is 'prunne'; allowed: prune, prune_at_init, scratch, gradual, sparse_scratch; did you mean 'prune'",
    ),
    ({"model.name": "mlp7_linaer"}, r"model: .*'mlp7_linaer'.*mlp7_linear"),
    ({"sparsify.criterion": "L1"}, r"sparsify.criterion is 'L1'; allowed: l1, l2"),
    ({"sparsify.ratio": 1.0}, r"sparsify.ratio is 1.0; allowed: \[0, 1\)"),
    ({"sparsify.ratio": -0.1}, r"sparsify.ratio is -0.1; allowed: \[0, 1\)"),
    ({"sparsify.stage_ratios": (0.5, 2.0)}, r"sparsify.stage_ratios is 2.0"),
    ({"sparsify.stage_ratios": (0.5,)}, r"sparsify.stage_ratios has 1 entries .* give 2 ratios"),
    (
        {"sparsify.layers": ("conv*",)},
        r"sparsify.layers: no group's name fits 'conv\*'; groups are .*layers/0",
    ),
    ({"sparsify.layers": ("head",)}, r"sparsify.layers: .*head.* frozen.*network output"),
    (
        {"sparsify.recovery": "orth"},
        r"sparsify.recovery is 'orth'; allowed: none, orthp, recalibrate, reinit, rescale; did you mean 'orthp'",
    ),
    ({"sparsify.granularity": "weight"}, r"sparsify.granularity is 'weight'; allowed: filter"),
    ({"retrain.schedule": "5:1e-2"}, r"retrain.schedule \(with retrain.epochs=30\): .*epoch 0"),
    ({"retrain.schedule": "0:1e-2,20:1e-3,10:1e-4"}, r"retrain.schedule .*20"),
    ({"retrain.schedule": "0:1e-2,40:1e-3"}, r"retrain.schedule \(with retrain.epochs=30\): .*40"),
    ({"retrain.schedule": "fast"}, r"retrain.schedule .*fast"),
    ({"retrain.epochs": 0}, r"retrain.epochs is 0; .* at least 1"),
    ({"optimizer.batch_size": 5000}, r"optimizer.batch_size is 5000; digits allows 1 to 1297"),
    ({"optimizer.momentum": 1.5}, r"optimizer.momentum is 1.5; allowed: \[0, 1\)"),
    ({"dataset.mean": (0.1, 0.2, 0.3)}, r"dataset.mean is .*; digits needs 1 values"),
    ({"dataset.std": (0.0,)}, r"dataset.std is .* all positive"),
    ({"seeds": ()}, r"seeds is \(\)"),
    ({"seeds": (1, 1)}, r"seeds is \(1, 1\)"),
    ({"measure.jsv": True, "measure.examples": 501}, r"measure.examples is 501; .* 1 to 500"),
    ({"measure.jsv": "spectra"}, r"measure.jsv is 'spectra'; allowed: .*did you mean 'spectrum'"),
    ({"measure.jsv": True, "measure.every": "step"}, r"measure.every is 'step'; allowed: 'epoch' or"),
    ({"measure.jsv": True, "measure.every": 0}, r"measure.every is 0; allowed"),
    ({"measure.jsv": True, "measure.budget": -1}, r"measure.budget is -1; allowed"),
    ({"measure.jsv": True, "measure.budget": 19}, r"measure.budget is 19; .* at least 20 pull-backs"),
    (
        {"measure.jsv": True, "measure.budget": 9, "measure.examples": 1},
        r"measure.budget is 9; .* at least 10 pull-backs",
    ),
    ({"measure.jsv": "spectrum", "measure.budget": 40}, r"measure.budget is 40, but measure.jsv='spectrum'"),
    ({"execution.epoch": "unroll"}, r"execution.epoch is 'unroll'"),
]


@pytest.mark.parametrize(
    ("changes", "message"), BAD, ids=[next(iter(c)) + str(i) for i, (c, _) in enumerate(BAD)]
)
def test_bad_input_is_named_before_any_work(digits, changes, message):
    with pytest.raises(ValueError, match=message):
        resolve.resolve(sweep.override(default_config(), changes), digits)


def test_an_override_of_a_missing_key_is_refused():
    with pytest.raises(ValueError, match="retrian"):
        sweep.override(default_config(), {"retrian.epochs": 3})


def test_a_config_becomes_the_chain_it_says(digits):
    config = sweep.override(default_config(), {"sparsify.ratio": 0.9, "retrain.schedule": "0:1e-2,20:1e-3"})
    arm = resolve.resolve(config, digits)
    pretrain, sparsify, retrain = arm.chain
    assert isinstance(pretrain, specs.Pretrain)
    assert sparsify.ratios == tuple((f"layers/{i}", 0.9) for i in range(6))
    assert retrain.train.schedule == "0:0.01,20:0.001"
    assert arm.ratios == sparsify.ratios


def test_a_stage_list_gives_each_stage_its_ratio(digits):
    config = sweep.override(default_config(), {"sparsify.stage_ratios": (0.5, 0.0)})
    assert resolve.resolve(config, digits).ratios == tuple((f"layers/{i}", 0.5) for i in range(6))


def test_schedules_that_are_equal_give_equal_ids(digits):
    texts = ("0:1e-2,20:1e-3", "0:0.01,20:0.001")
    arms = [resolve.resolve(sweep.override(default_config(), {"retrain.schedule": t}), digits) for t in texts]
    assert arms[0].chain == arms[1].chain


def test_what_is_measured_may_be_said_in_several_ways(digits):
    def measured(**changes):
        changes = {f"measure.{key}": value for key, value in changes.items()}
        config = sweep.override(sweep.override(default_config(), {"measure.every": 3}), changes)
        return resolve.resolve(config, digits).measure

    assert measured(jsv=False) == specs.Measure()
    assert measured(jsv=True) == measured(jsv="mean") == specs.Measure(500, 3)  # all that digits has
    assert measured(jsv="spectrum", every="epoch", examples=5) == specs.Measure(5, 1, "spectrum")
    assert measured(jsv=True, budget=20) == specs.Measure(500, 3, "mean", 20)
