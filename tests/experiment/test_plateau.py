import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import data, models, trainability
from prune_jax.experiment import networks, specs
from prune_jax.experiment.devices.replicas import stacked
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.specs import Plateau
from prune_jax.experiment.training import trainer as training_trainer
from prune_jax.experiment.training.feed import open_feed
from prune_jax.experiment.training.lr_course import course_of
from prune_jax.experiment.training.plateau import plateau_start, plateau_step
from prune_jax.experiment.training.step import floats

RULE = Plateau(window=3, loss=0.02, jsv=0.05, minimum=7, examples=1)
LONGEST = (30, 12)


def by_hand(losses, jsvs, rule, longest):
    """The rule in Python lists: the stage of every epoch that is trained."""
    stages, stage, seen = [], 0, []
    for pair in zip(losses, jsvs, strict=True):
        if stage == len(longest):
            break
        stages.append(stage)
        seen.append(pair)
        w, n = rule.window, len(seen)
        over = n >= longest[stage]
        if n % w == 0 and n >= max(2 * w, rule.minimum):
            before, now = np.mean(seen[-2 * w : -w], 0), np.mean(seen[-w:], 0)
            moved = abs(now - before)
            over = over or (moved[0] <= rule.loss and moved[1] <= rule.jsv * before[1])
        if over:
            stage, seen = stage + 1, []
    return stages


def in_a_scan(losses, jsvs, rule, longest):
    def body(state, signal):
        return plateau_step(state, *signal, rule, longest), (state.stage, state.done)

    signal = (jnp.asarray(losses, jnp.float32), jnp.asarray(jsvs, jnp.float32))
    _, (stages, done) = jax.lax.scan(body, plateau_start(), signal)
    return np.asarray(stages)[~np.asarray(done)].tolist()


def signals(seed, epochs=60):
    rng = np.random.default_rng(seed)
    decay = np.exp(-np.arange(epochs) / rng.uniform(0.5, 20))
    noise = rng.uniform(0, 0.03, 2)
    losses = 0.1 + 2 * decay + noise[0] * rng.normal(size=epochs)
    jsvs = (2 - 1.9 * decay) * np.exp(noise[1] * rng.normal(size=epochs))
    return losses, jsvs


def test_the_rule_in_a_scan_and_under_vmap_equals_the_rule_in_lists():
    pairs = [signals(seed) for seed in range(12)]
    wanted = [by_hand(*pair, RULE, LONGEST) for pair in pairs]
    scanned = jax.jit(lambda a, b: jax.vmap(lambda x, y: _stages(x, y))(a, b))
    stages, done = scanned(*(jnp.asarray(np.array(side), jnp.float32) for side in zip(*pairs, strict=True)))
    for row, ended, expected in zip(np.asarray(stages), np.asarray(done), wanted, strict=True):
        assert row[~ended].tolist() == expected
    lengths = {(stages.count(0), stages.count(1)) for stages in wanted}
    assert len(lengths) > 4  # the replicas go their own ways


def _stages(losses, jsvs):
    def body(state, signal):
        return plateau_step(state, *signal, RULE, LONGEST), (state.stage, state.done)

    return jax.lax.scan(body, plateau_start(), (losses, jsvs))[1]


@pytest.mark.parametrize(
    ("losses", "jsvs", "first"),
    [
        (np.ones(50), np.ones(50), 9),  # still: the first window's end that the minimum allows
        (np.ones(50), 1.02 ** np.arange(50), 30),  # the JSV moves 6 % a window: the longest
        (2 - 0.01 * np.arange(50), np.ones(50), 30),  # the loss moves 0.03 a window
        (2 - 0.006 * np.arange(50), 1.016 ** np.arange(50), 9),  # both within their tolerances
    ],
)
def test_a_stage_lasts_while_either_signal_moves(losses, jsvs, first):
    stages = in_a_scan(losses, jsvs, RULE, LONGEST)
    assert stages.count(0) == first


def test_nothing_changes_after_the_end():
    state = plateau_start()
    for _ in range(9 + 9):
        state = plateau_step(state, 1.0, 1.0, RULE, LONGEST)
    assert bool(state.done)
    after = plateau_step(state, 5.0, 5.0, RULE, LONGEST)
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)


def _made_up(examples=24):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, examples).astype(np.int32)
    images = (60 * labels[:, None, None, None] + rng.integers(0, 90, (examples, 6, 6, 1))).astype(np.uint8)
    split = data.Split(images, labels)
    return training_trainer.to_device(data.Dataset("made up", split, split, 3))


@pytest.mark.slow
def test_two_seeds_train_to_their_plateaus_within_one_scan_as_the_course_trains_them():
    rule, longest, rates = Plateau(2, loss=0.2, jsv=0.6, minimum=2, examples=8), (8, 8), (0.05, 0.005)
    recipe = training_trainer.Recipe(
        specs.DataSpec("made up", (0.5,), (0.25,)),
        specs.ModelSpec("mlp7_relu", (6, 6, 1), 3, (("hidden", 8), ("depth", 3))),
        batch_size=8,
        momentum=0.9,
        weight_decay=1e-3,
        execution=Execution("scan", "vmap"),
    )
    spec = specs.TrainSpec("0:0.05,8:0.005", 16, 8, 0.9, 1e-3, extend=rule)
    on, trainer = _made_up(), training_trainer.make_trainer(recipe)
    network = models.functional(networks.abstract_model(recipe.model))
    keys = jnp.stack([jax.random.key(seed) for seed in (100, 103)])

    def start():
        made = [_variables(recipe.model, seed) for seed in (0, 3)]
        return trainer.init(stacked(made))

    def mean_jsv(state):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        x = floats(recipe.data, on.train_images[: rule.examples])
        return trainability.jacobian_singular_values(lambda v: network.apply(variables, v), x).mean()

    def epoch(carry, number):
        state, plateau = carry
        drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        lrs = jnp.repeat(jnp.asarray(rates, jnp.float32)[plateau.stage][:, None], 3, axis=1)
        new, losses = trainer.epoch(state, on, drawn, lrs)
        new = jax.tree.map(
            lambda a, b: jnp.where(plateau.done.reshape(-1, *[1] * (a.ndim - 1)), a, b), state, new
        )
        after = jax.vmap(lambda p, loss, jsv: plateau_step(p, loss, jsv, rule, longest))(
            plateau, losses, jax.vmap(mean_jsv)(new)
        )
        return (new, after), (plateau.stage, plateau.done)

    @jax.jit
    def whole(state):
        at_start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2,)), plateau_start())
        (state, _), told = jax.lax.scan(epoch, (state, at_start), jnp.arange(16))
        return state, told

    scanned, (stages, done) = whole(start())
    course = course_of(spec, trainer, on, [spec.schedule] * 2)
    feed = open_feed(trainer, recipe, on, keys, 0, {})
    state, lrs = course.begin(start()), []
    while course.going(state, len(lrs)).any():
        going = course.going(state, len(lrs))
        state, values = course.epoch(feed, state, len(lrs), None, None, None)
        lrs.append(np.where(going, values["lr"], np.nan))
    wanted = np.where(done, np.nan, np.asarray(rates)[stages])
    np.testing.assert_allclose(wanted[: len(lrs)], lrs, rtol=1e-5)
    assert np.isnan(wanted[len(lrs) :]).all()
    assert stages[6].tolist() == [0, 1]  # each seed at its own time, and one before the longest
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(course.network(state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)  # the same steps in another compiled program


def _variables(spec, seed):
    made = models.create(
        spec.name, num_classes=3, input_shape=(6, 6, 1), key=jax.random.key(seed), **dict(spec.options)
    )
    return models.functional(made).variables
