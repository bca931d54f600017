"""Optimisers by name, and the options of a step, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prune_jax import models
from prune_jax.experiment import specs
from prune_jax.experiment.devices import mesh
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.storage import checkpoints, folder
from prune_jax.experiment.training import optimizers
from prune_jax.experiment.training import trainer as training_trainer
from prune_jax.experiment.training.optimizers import Rule
from prune_jax.experiment.training.step import StepPlan, TrainState, make_step, variables_of

SHAPE, CLASSES, BATCH, STEPS = (3, 3, 1), 3, 8, 3
IMAGES = specs.DataSpec("made up", (0.5,), (0.25,))
NOWHERE = mesh.placement(mesh.APART)
LRS = (0.1, 0.05, 0.2)


def batch(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, *SHAPE)).astype(np.uint8)
    return images, rng.integers(0, CLASSES, BATCH).astype(np.int32)


def kernel():
    return np.random.default_rng(9).normal(size=(9, CLASSES))


def linear():
    def apply_train(variables, x, key=None):
        return x.reshape(len(x), -1) @ variables["params"]["w"], {}

    params = {"w": jnp.asarray(kernel(), jnp.float32)}
    return models.Network(
        {"params": params, "batch_stats": {}}, lambda v, x: apply_train(v, x)[0], apply_train
    )


def trained(optimizer, **options):
    """The states and losses of three steps at three LRs."""
    plan = StepPlan(**options)
    params = linear().variables["params"]
    state = TrainState(params, {}, optimizer.init(params), ema=params if plan.ema else None)
    step, out = jax.jit(make_step(linear(), optimizer, IMAGES, plan, NOWHERE)), []
    for number, lr in enumerate(LRS):
        state, loss = step(state, *batch(number), jnp.float32(lr), jax.random.key(0))
        out.append((state, float(loss)))
    return out


def gradient_of(w, number, smoothing=0.0):
    """Gradient and mean cross-entropy of x W in float64, a share of each label spread over the classes."""
    images, labels = batch(number)
    x = (images.reshape(BATCH, -1) / 255.0 - 0.5) / 0.25
    wanted = np.full((BATCH, CLASSES), smoothing / CLASSES)
    wanted[np.arange(BATCH), labels] += 1 - smoothing
    logits = x @ w
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return x.T @ (np.exp(log_p) - wanted) / BATCH, -(wanted * log_p).sum(1).mean()


def adam(decay):
    """Adam as in its paper (Algorithm 1), with decoupled weight decay."""
    w, m, v = kernel(), 0.0, 0.0
    for t, lr in enumerate(LRS, 1):
        g, _ = gradient_of(w, t - 1)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        w = w - lr * (m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3) + decay * w)
    return w


def nesterov():
    """SGD with Nesterov's momentum as PyTorch writes it, decay added to the gradient."""
    w, v = kernel(), 0.0
    for number, lr in enumerate(LRS):
        g = gradient_of(w, number)[0] + 0.01 * w
        v = 0.7 * v + g
        w = w - lr * (g + 0.7 * v)
    return w


ADAM = (("b1", 0.8), ("b2", 0.9), ("eps", 1e-3))


@pytest.mark.parametrize(
    ("rule", "usual", "wanted"),
    [
        (Rule("adam", ADAM), (), adam(0.0)),
        (Rule("adamw", (*ADAM, ("weight_decay", 0.1))), (), adam(0.1)),
        (Rule("sgd", (("nesterov", True),)), (0.7, 0.01), nesterov()),
    ],
)
def test_an_optimiser_by_name_follows_its_formula_at_every_lr(rule, usual, wanted):
    state, _ = trained(optimizers.make(rule, *usual))[-1]
    # three float32 steps; Adam divides by roots of small numbers
    np.testing.assert_allclose(state.params["w"], wanted, rtol=1e-4, atol=1e-5)


def test_clipping_scales_the_gradient_before_decay_and_momentum():
    w, v = kernel(), 0.0
    norms = []
    for number, lr in enumerate(LRS):
        g, _ = gradient_of(w, number)
        norms.append(np.linalg.norm(g))
        v = 0.9 * v + g * min(1.0, 0.9 / norms[-1]) + 0.01 * w
        w = w - lr * v
    assert max(norms) > 0.9
    state, _ = trained(optimizers.make(Rule(clip_norm=0.9), 0.9, 0.01))[-1]
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-4, atol=1e-5)


def test_label_smoothing_spreads_a_share_over_all_classes():
    w = kernel()
    for number, (_, loss) in enumerate(trained(optimizers.sgd(0.0, 0.0), label_smoothing=0.2)):
        g, wanted = gradient_of(w, number, smoothing=0.2)
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)
        w = w - LRS[number] * g


def test_the_running_mean_begins_at_the_initial_weights_and_stands_in_for_them():
    mean = kernel()
    states = trained(optimizers.sgd(0.9, 0.0), ema=0.75)
    for state, _ in states:
        mean = 0.75 * mean + 0.25 * np.asarray(state.params["w"], np.float64)
        # float32, weights of order 1
        np.testing.assert_allclose(variables_of(state)["params"]["w"], mean, rtol=1e-5, atol=1e-6)
    plain = trained(optimizers.sgd(0.9, 0.0))[-1][0]
    np.testing.assert_array_equal(states[-1][0].params["w"], plain.params["w"])
    assert variables_of(plain)["params"] is plain.params


def test_what_is_measured_of_a_trained_state_is_its_running_mean():
    spec = specs.ModelSpec("mlp7_relu", SHAPE, CLASSES, (("hidden", 5), ("depth", 2)))
    how = Execution("scan", "vmap")
    recipe = training_trainer.Recipe(IMAGES, spec, BATCH, 0.9, 0.0, how, plan=StepPlan(ema=0.9))
    trainer = training_trainer.make_trainer(recipe)
    module = models.create(
        spec.name, num_classes=3, input_shape=SHAPE, key=jax.random.key(0), **dict(spec.options)
    )
    begun = trainer.init(jax.tree.map(lambda leaf: leaf[None], models.functional(module).variables))
    jax.tree.map(np.testing.assert_array_equal, begun.ema, begun.params)
    state, _ = trainer.step(begun, *batch(0), jax.random.split(jax.random.key(0), 1), np.float32(0.1))
    assert not np.array_equal(jax.tree.leaves(state.ema)[-1], jax.tree.leaves(state.params)[-1])
    shown = jnp.asarray(batch(1)[0][:4])
    np.testing.assert_array_equal(
        trainer.jsv(state, shown), trainer.jsv(state._replace(params=state.ema, ema=None), shown)
    )
    seen = training_trainer.each_variables(state)[0]["params"]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[0]), seen, state.ema)


NAMES = (
    "adam",
    "adamw",
    "lion",
    "rmsprop",
    "adagrad",
    "adafactor",
    "lamb",
    "lars",
    "novograd",
    "radam",
    "yogi",
    "sm3",
)


def with_each(states):
    """One state that holds those of all optimisers."""
    fields = {field: {name: getattr(state, field) for name, state in states.items()} for field in STORED}
    return TrainState(batch_stats={}, **fields)


STORED = ("params", "opt_state", "mask", "ema")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The mask, and states before, after a step, read back from a checkpoint, and after one more; in one program."""
    network, optimizer = linear(), {name: optimizers.make(Rule(name, clip_norm=1.0)) for name in NAMES}
    mask = {"w": jnp.asarray(np.random.default_rng(1).random((1, 9, CLASSES)) > 0.4)}
    params = {"w": network.variables["params"]["w"][None] * mask["w"]}

    @jax.jit
    def begun(params):
        init = {name: jax.vmap(each.init)(params) for name, each in optimizer.items()}
        return {name: TrainState(params, {}, state, mask, params) for name, state in init.items()}

    @jax.jit
    def step(states, images, labels):
        out, how = {}, (jnp.float32(0.1), jax.random.key(0))
        for name, state in states.items():
            one = make_step(network, optimizer[name], IMAGES, StepPlan(ema=0.5), NOWHERE)
            out[name], _ = jax.vmap(one, in_axes=(0, None, None, None, None))(state, images, labels, *how)
        return out

    start = begun(params)
    first = step(start, *batch(0))
    with checkpoints.open_partial(folder.open_workdir(tmp_path_factory.mktemp("w"), "test"), "c", 1) as kept:
        checkpoints.save(kept, 1, with_each(first), {})
        checkpoints.settle(kept)
        whole = checkpoints.load(kept, with_each(start))
    back = {
        name: TrainState(batch_stats={}, **{f: getattr(whole, f)[name] for f in STORED}) for name in NAMES
    }
    return np.asarray(mask["w"]), start, first, back, step(back, *batch(1))


@pytest.mark.parametrize("name", NAMES)
def test_any_optimiser_of_optax_trains_under_a_mask_and_goes_through_a_checkpoint(name, runs):
    optimizers.refuse_unfit(Rule(name, clip_norm=1.0))
    mask, start, first, back, last = runs
    jax.tree.map(np.testing.assert_array_equal, back[name], first[name])
    for each in (first[name], last[name]):
        for tree in (each.params, each.ema):
            assert not np.asarray(tree["w"])[~mask].any()
    assert (np.asarray(last[name].params["w"]) != np.asarray(start[name].params["w"]))[mask].all()


def test_the_names_are_those_of_optax():
    assert {"sgd", "adam", "adamw", "lion", "rmsprop", "lamb"} <= set(optimizers.names())
    assert all(hasattr(optax, name) for name in optimizers.names())
