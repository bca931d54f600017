"""A training step in every precision and in microbatches, against what is computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import models
from prune_jax.experiment import networks, specs
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.training.optimizers import sgd
from prune_jax.experiment.training.step import StepPlan, TrainState, make_step

IMAGES = specs.DataSpec("made up", (0.5,), (0.25,))
NOWHERE = mesh.placement(mesh.APART)
BATCH, INPUTS, CLASSES = 12, 4, 3


def linear(normed):
    """x -> normed(x) W: a network small enough to follow by hand; its running mean is all that is recorded."""
    kernel = jax.random.normal(jax.random.key(0), (INPUTS, CLASSES))
    variables = {
        "params": {"norm": {"scale": jnp.full((INPUTS,), 1.5)}, "head": {"kernel": kernel}},
        "batch_stats": {"norm": {"mean": jnp.zeros(INPUTS)}} if normed else {},
    }

    def apply_train(v, x, key=None):
        x = x.reshape(len(x), INPUTS)
        stats = v["batch_stats"]
        if normed:
            mean = x.astype(jnp.float32).mean(0)
            stats = {"norm": {"mean": 0.9 * stats["norm"]["mean"] + 0.1 * mean}}
            x = (x - mean[None]).astype(x.dtype)
        return (x * v["params"]["norm"]["scale"][None].astype(x.dtype)) @ v["params"]["head"]["kernel"], stats

    return models.Network(variables, lambda v, x: apply_train(v, x)[0], apply_train)


def stepped(network, plan, lr=0.1):
    """One step from the network's variables: the new state and the loss."""
    optimizer = sgd(0.0, 0.0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 2, 2, 1)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
    state = TrainState(
        network.variables["params"],
        network.variables["batch_stats"],
        optimizer.init(network.variables["params"]),
    )
    step = make_step(network, optimizer, IMAGES, plan, NOWHERE)
    return jax.jit(step)(state, images, labels, jnp.float32(lr), jax.random.key(0)), images, labels


@pytest.mark.parametrize(("accumulate", "unroll"), [(2, True), (4, False)])
def test_without_batch_norm_microbatches_give_the_one_shot_gradient(accumulate, unroll):
    (whole, loss), *_ = stepped(linear(False), StepPlan())
    (parts, same), *_ = stepped(linear(False), StepPlan(accumulate=accumulate, unroll=unroll))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    # float32 sums taken in another order
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), parts.params, whole.params)


def test_with_batch_norm_each_microbatch_has_its_own_statistics():
    network = linear(True)
    (state, loss), images, labels = stepped(network, StepPlan(accumulate=3))
    x = ((images.astype(np.float64) / 255 - 0.5) / 0.25).reshape(BATCH, INPUTS)
    kernel = np.asarray(network.variables["params"]["head"]["kernel"], np.float64)
    running, losses, gradient = np.zeros(INPUTS), [], np.zeros_like(kernel)
    for first in range(3):  # every third example
        part, wanted = x[first::3], labels[first::3]
        running = 0.9 * running + 0.1 * part.mean(0)
        z = 1.5 * (part - part.mean(0))
        p = np.exp(z @ kernel)
        p /= p.sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(p)), wanted]).mean())
        gradient += z.T @ (p - np.eye(CLASSES)[wanted]) / len(p) / 3
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(state.batch_stats["norm"]["mean"], running, rtol=1e-5)
    np.testing.assert_allclose(state.params["head"]["kernel"], kernel - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_in_eight_bits_and_keeps_float32():
    (plain, loss), *_ = stepped(linear(True), StepPlan())
    (low, near), *_ = stepped(linear(True), StepPlan("bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(low)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert near.dtype == jnp.float32
    assert near != loss
    np.testing.assert_allclose(near, loss, rtol=2e-2)  # eight bits of mantissa
    np.testing.assert_allclose(low.batch_stats["norm"]["mean"], plain.batch_stats["norm"]["mean"], atol=1e-2)


def primitives(jaxpr, name):
    for equation in jaxpr.eqns:
        if equation.primitive.name == name:
            yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner, name)


def abstract_step(plan):
    spec = specs.ModelSpec("resnet8", (16, 16, 3), CLASSES)
    network = models.functional(networks.abstract_model(spec))
    optimizer = sgd(0.9, 1e-4)
    params, stats = network.variables["params"], network.variables["batch_stats"]
    state = TrainState(params, stats, jax.eval_shape(optimizer.init, params))
    step = make_step(network, optimizer, specs.DataSpec("x", (0.5,) * 3, (0.5,) * 3), plan, NOWHERE)
    images = jax.ShapeDtypeStruct((8, 16, 16, 3), "uint8")
    labels, lr = jax.ShapeDtypeStruct((8,), "int32"), jax.ShapeDtypeStruct((), "float32")
    return jax.make_jaxpr(step, return_shape=True)(state, images, labels, lr, jax.random.key(0)), state


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_convolution_of_a_network_runs_in_the_precision(precision):
    (jaxpr, (after, loss)), before = abstract_step(StepPlan(precision))
    found = [v.aval.dtype for eqn in primitives(jaxpr.jaxpr, "conv_general_dilated") for v in eqn.invars]
    assert len(found) >= 2 * 3 * 7 - 2  # input, weights and both gradients; none of the images
    assert {str(dtype) for dtype in found} == {precision}
    assert loss.dtype == jnp.float32
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) for state in (before, after)]
    assert shapes[0] == shapes[1]


def test_recomputation_keeps_convolutions_alone_and_changes_no_number():
    (whole, loss), *_ = stepped(linear(True), StepPlan())
    (again, same), *_ = stepped(linear(True), StepPlan(remat="elementwise"))
    np.testing.assert_allclose(same, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), again.params, whole.params)
    counts = [
        len(list(primitives(abstract_step(StepPlan(remat=remat))[0][0].jaxpr, name)))
        for remat in ("none", "elementwise")
        for name in ("conv_general_dilated", "rsqrt")
    ]
    assert counts[0] == counts[2]  # no convolution twice
    assert counts[3] > counts[1]  # norms twice
