import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.plateau import plateau_start, plateau_step
from prune_jax.experiment.specs import Plateau

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
