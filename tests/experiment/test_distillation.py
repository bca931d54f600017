"""Distillation as a retraining loss: its gradient in float64, its teacher, its place in the record, bad input."""

import dataclasses
import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import context_of, mlp_config

from prune_jax import fairness
from prune_jax.experiment import specs
from prune_jax.experiment.chain import kinds, record, restore, run
from prune_jax.experiment.config import sweep
from prune_jax.experiment.protocols import equal_compute
from prune_jax.experiment.specs import Distillation
from prune_jax.experiment.training import distillation
from prune_jax.experiment.training.distillation import distilled


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("spec", [Distillation(0.9, 4.0), Distillation(0.3, 1.0), Distillation(0.0, 2.0)])
def test_its_gradient_is_the_written_one(spec):
    """d/dz of (1 - w) CE + w T^2 KL is (1 - w) (p - onehot) + w T (p_T - q_T), in float64."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 7)) * 3
    labels = rng.integers(0, 7, 5)
    with jax.enable_x64(True):

        def loss(z):
            towards_labels = -jax.nn.log_softmax(z)[jnp.arange(5), labels]
            return distilled(towards_labels, z, jnp.asarray(teacher), spec).sum()

        value, found = jax.jit(jax.value_and_grad(loss))(student)
        taught = jax.jit(jax.grad(lambda q: distilled(jnp.zeros(5), jnp.asarray(student), q, spec).sum()))(
            teacher
        )
    w, t = spec.weight, spec.temperature
    p, q = softmax(student / t), softmax(teacher / t)
    wanted = (1 - w) * (softmax(student) - np.eye(7)[labels]) + w * t * (p - q)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    towards = -np.log(softmax(student)[np.arange(5), labels])
    divergence = (q * (np.log(q) - np.log(p))).sum(-1)
    np.testing.assert_allclose(value, ((1 - w) * towards + w * t**2 * divergence).sum(), rtol=1e-12)
    assert not np.asarray(taught).any()  # the teacher isn't trained


def planned(digits, **given):
    config = mlp_config()
    config.dataset.name, config.seeds = "digits", (0, 1)
    config.dataset.train_examples = 0
    config.pretrain.epochs = config.retrain.epochs = 1
    config.optimizer.batch_size = 400
    return sweep.plan_arms(config, lambda _: [given], digits)[0]


def test_a_run_with_a_teacher_is_in_no_setup_of_retraining_with_one_without(digits, tmp_path):
    plain = planned(digits, label="plain")
    taught = planned(digits, label="taught", **{"retrain.distill.weight": 0.5})
    assert plain.ids[0][:2] == taught.ids[0][:2]
    assert plain.ids[0][2] != taught.ids[0][2]
    context = context_of(tmp_path / "w", digits, plain, taught)
    made = []
    for arm in (plain, taught):
        run.run_chain(context, arm)
        made.append(record.make_record(context.store, arm, "a test"))
    verdict = fairness.strictest_setup(*made)
    assert verdict.holds("S3.1")
    assert str(verdict.breaks["S3.2"][0]).startswith(
        "settings distillation=no against distillation=from the base model"
    )
    assert made[1].stages[-1].spec["distill"] == {"weight": 0.5, "temperature": 4.0}
    # the teacher's forward pass, a third of a dense epoch's compute, for one epoch
    assert made[1].stages[-1].extra_macs == made[1].costs.dense_macs
    kinds_of = fairness.chain.AFTER_BASE
    more = fairness.chain.dense_epochs(made[1], kinds_of) - fairness.chain.dense_epochs(made[0], kinds_of)
    assert more == pytest.approx(1 / 3)
    ends = [restore.load(context.store, arm.ids[0][2]).variables for arm in (plain, taught)]
    pairs = zip(*map(jax.tree.leaves, ends), strict=True)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


def test_the_teacher_is_the_base_model_of_each_seed(digits, tmp_path):
    """At weight 1 the untouched base model is its own teacher: loss and gradient are zero, and nothing moves."""
    arm = planned(digits, label="alone", **{"retrain.distill.weight": 1.0})
    chain = (arm.chain[0], dataclasses.replace(arm.chain[-1]))
    arm = arm._replace(chain=chain, ids=tuple(specs.chain_ids(chain, seed) for seed in arm.seeds))
    context = context_of(tmp_path / "w", digits, arm)
    run.run_chain(context, arm)
    for ids in arm.ids:
        before, after = (restore.load(context.store, its_id).variables["params"] for its_id in ids)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)  # float32: two softmaxes of the same logits


def test_ids_without_a_teacher_are_as_before(digits):
    retrain = planned(digits).chain[-1]
    assert "distill" not in specs.stated(retrain)
    assert kinds.kind_of(retrain).trains


@pytest.mark.parametrize("module", [distillation, equal_compute])
def test_examples_of_docstrings(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"retrain.distill.weight": 1.5}, "retrain.distill.weight is 1.5"),
        (
            {"retrain.distill.weight": 0.5, "retrain.distill.temperature": 0.0},
            "retrain.distill.temperature is 0",
        ),
        (
            {"retrain.distill.weight": 0.5, "pipeline": "prune_at_init"},
            "retrain.distill.weight is 0.5 in stage 2 of the chain, which begins without a trained base model",
        ),
        (
            {"retrain.distill.weight": 0.5, "retrain.distill.teacher": "no.safetensors"},
            "retrain.distill.teacher is 'no",
        ),
    ],
)
def test_bad_input_is_refused_with_the_key(digits, given, says):
    with pytest.raises(ValueError, match=says):
        planned(digits, **given)
