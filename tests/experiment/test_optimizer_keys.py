"""What config.optimizer may say: arguments of any optimiser, which None stand for what, and what is refused."""

import sys

import pytest
from small_runs import context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import specs
from prune_jax.experiment.chain import record, run
from prune_jax.experiment.config import optimizer_keys, resolve, sweep
from prune_jax.experiment.config.defaults import default_config

SGD = {"momentum": 0.9, "weight_decay": 0.0}


def spec_of(digits, change):
    """The retraining of the default config changed by a function, as a config file changes it."""
    config = default_config()
    change(config.optimizer)
    return resolve.resolve(config, digits).chain[-1].train


def setting(**keys):
    return lambda section: section.update(keys)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, SGD),
        ({"momentum": 0, "weight_decay": 1e-4}, {"momentum": 0.0, "weight_decay": 1e-4}),
        ({"nesterov": True}, {**SGD, "arguments": (("nesterov", True),)}),
        ({"name": "adam"}, {"optimizer": "adam", "arguments": ()}),
        ({"name": "adam", "weight_decay": 0.0, "b1": 0.95}, {"optimizer": "adam", "arguments": (("b1", 0.95),)}),
        # optax's own decay is stated, so that another default of a later optax is another experiment
        ({"name": "adamw"}, {"optimizer": "adamw", "arguments": (("weight_decay", 1e-4),)}),
        ({"name": "lion", "weight_decay": 0.0}, {"optimizer": "lion", "arguments": (("weight_decay", 0.0),)}),
        ({"name": "rmsprop"}, {"optimizer": "rmsprop", "arguments": ()}),
        ({"name": "rmsprop", "momentum": 0.9}, {"optimizer": "rmsprop", "arguments": (("momentum", 0.9),)}),
        ({"name": "adam", "arguments": {"b2": 0.9}, "b1": 0.8}, {"arguments": (("b1", 0.8), ("b2", 0.9))}),
        ({"clip_norm": 1, "label_smoothing": 0.1, "ema": 0.999}, {"clip_norm": 1.0, "ema": 0.999, **SGD}),
    ],
)  # fmt: skip
def test_keys_become_the_fields_of_a_stage(digits, keys, wanted):
    train = spec_of(digits, setting(**keys))
    assert {key: getattr(train, key) for key in wanted} == wanted
    if "name" in keys:
        assert (train.momentum, train.weight_decay) == (0.0, 0.0)


def test_the_default_states_nothing_new(digits):
    train = spec_of(digits, setting())
    assert specs.stated(train).keys() == {"schedule", "epochs", "batch_size", "momentum", "weight_decay"}


def test_a_file_may_replace_the_whole_section(digits):
    config = default_config()
    config.optimizer = {"name": "adamw", "b1": 0.95, "batch_size": 50}
    train = resolve.resolve(config, digits).chain[-1].train
    assert (train.optimizer, train.batch_size, train.accumulate) == ("adamw", 50, 1)
    assert dict(train.arguments) == {"b1": 0.95, "weight_decay": 1e-4}
    assert "accumulate" not in config.optimizer  # the file's own is left alone


def test_a_sweep_gives_arguments_where_no_key_can_be_added(digits):
    arm = resolve.resolve(
        sweep.override(default_config(), {"optimizer.name": "adam", "optimizer.arguments": {"b1": 0.5}}),
        digits,
    )
    assert arm.chain[-1].train.arguments == (("b1", 0.5),)


BAD = [
    ({"name": "adamm"}, r"optimizer.name is 'adamm', but optax has no such optimiser; did you mean 'adam'"),
    ({"name": "Adam"}, r"optimizer.name is 'Adam'.*did you mean .*'adam'"),
    ({"name": "polyak_sgd"}, r"optimizer.name is 'polyak_sgd', but optax.polyak_sgd is no optimiser"),
    ({"name": "lbfgs"}, r"optimizer.name is 'lbfgs', which can't be used here: its line search"),
    ({"name": "rprop"}, r"optimizer.name is 'rprop', which can't be used here: it takes the LR"),
    ({"name": "noisy_sgd"}, r"optimizer.name is 'noisy_sgd', which can't be used here: its state"),
    (
        {"name": "adam", "beta1": 0.9},
        r"optimizer.beta1 is 0.9, but adam takes no such argument; it takes b1, b2",
    ),
    (
        {"batchsize": 20},
        r"optimizer.batchsize is 20, but sgd takes no .*; did you mean optimizer.batch_size\?",
    ),
    (
        {"name": "adam", "b1": "big"},
        r"optimizer.name is 'adam' with optimizer.b1='big', which can't take a step",
    ),
    ({"name": "adam", "mu_dtype": "floaty"}, r"optimizer.name is 'adam' with optimizer.mu_dtype='floaty'"),
    (
        {"name": "adam", "weight_decay": 1e-4},
        r"optimizer.weight_decay is 0.0001, but adam takes no such argument",
    ),
    ({"name": "adam", "momentum": 0.9}, r"optimizer.momentum is 0.9, but adam takes no such argument"),
    ({"learning_rate": 0.1}, r"optimizer.learning_rate is no key: the LR is set by the schedule"),
    (
        {"name": "adamw", "mask": len},
        r"optimizer.mask is of type builtin_function_or_method; allowed: numbers",
    ),
    (
        {"name": "adam", "b1": 0.9, "arguments": {"b1": 0.8}},
        r"optimizer.b1 is 0.9, but optimizer.arguments has",
    ),
    ({"arguments": 3}, r"optimizer.arguments is 3; it holds names and values"),
    ({"momentum": "high"}, r"optimizer.momentum is 'high'; allowed: \[0, 1\)"),
    ({"weight_decay": -1.0}, r"optimizer.weight_decay is -1.0; allowed: \[0, inf\)"),
    ({"clip_norm": -1.0}, r"optimizer.clip_norm is -1.0; allowed: \[0, inf\)"),
    ({"label_smoothing": 1.0}, r"optimizer.label_smoothing is 1.0; allowed: \[0, 1\)"),
    ({"ema": 1.0}, r"optimizer.ema is 1.0; allowed: \[0, 1\)"),
    ({"name": "no_such_module_here:make"}, r"optimizer.name is 'no_such_module_here:make'"),
]


@pytest.mark.parametrize(("keys", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_optimisers_are_one_line_before_any_work(digits, keys, message):
    with pytest.raises(ValueError, match=message) as error:
        spec_of(digits, setting(**keys))
    assert "\n" not in str(error.value)


OWN = """
import optax
def heavy(learning_rate, drag=0.5):
    return optax.chain(optax.trace(drag), optax.scale(-1), optax.scale_by_learning_rate(learning_rate, flip_sign=False))
def number(learning_rate):
    return 3
def breaks(learning_rate):
    raise RuntimeError("no\\nsuch luck")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_rules_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_rules_of_a_test"
    sys.modules.pop("own_rules_of_a_test", None)


def test_a_function_of_the_users_own_is_an_optimiser(digits, own):
    train = spec_of(digits, setting(name=f"{own}:heavy", drag=0.25))
    assert (train.optimizer, train.arguments) == (f"{own}:heavy", (("drag", 0.25),))
    assert len(train.source) == 64  # the file's hash, so that a changed file is another experiment
    for name, message in (("number", "it returned int"), ("breaks", "RuntimeError: no such luck")):
        with pytest.raises(ValueError, match=message):
            spec_of(digits, setting(name=f"{own}:{name}"))


@pytest.mark.slow
def test_a_run_trains_and_states_what_it_was_told(digits, tmp_path):
    config = mlp_config()
    config.seeds, config.pretrain.epochs, config.retrain.epochs = (0, 1), 1, 1
    config.optimizer.update(
        {"name": "adamw", "b1": 0.8, "clip_norm": 1.0, "label_smoothing": 0.1, "ema": 0.9}
    )
    config.pretrain.schedule = config.retrain.schedule = "0:1e-3"
    arm = resolve.resolve(config, digits)
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    told = record.make_record(context.store, arm, "test").optimiser
    other = {"b1": 0.8, "clip_norm": 1.0, "ema": 0.9, "label_smoothing": 0.1}
    assert told == fairness.Optimiser("adamw", None, 1e-4, 100, other)


def test_sgd_is_stated_as_before(digits):
    train = spec_of(digits, setting(weight_decay=5e-4))
    assert optimizer_keys.stated_in_record(train) == fairness.Optimiser("sgd", 0.9, 5e-4, 100)
