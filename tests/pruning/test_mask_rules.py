"""Mask rules against a reference that is stepped by hand in float64, and the contract of every rule of the table."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mask_rule_net import (
    EPOCH,
    GIVEN,
    LR,
    MOMENTUM,
    SIZES,
    STEPS,
    batch,
    gradients,
    histories,
    key_at,
    rule_of,
    started,
)

from prune_jax.pruning.granularity import select
from prune_jax.pruning.layouts.n_of_m import Pattern, n_of_m_mask
from prune_jax.pruning.mask_rules import plans
from prune_jax.pruning.mask_rules.costs import held_macs, kernel_macs, training_macs
from prune_jax.pruning.mask_rules.exchange import moved
from prune_jax.pruning.mask_rules.rule import Turn, refuse_unfit
from prune_jax.pruning.mask_rules.table import RULES, Trained, begin, refuse_misplaced, take_step
from prune_jax.pruning.mask_rules.units import lowest_go


def kept(scores, stay):
    """The ``stay`` largest of an array, of equal ones the later, as bools of its shape."""
    order = np.argsort(-scores.reshape(-1)[::-1], kind="stable")
    mask = np.zeros(scores.size, bool)
    mask[scores.size - 1 - order[:stay]] = True
    return mask.reshape(scores.shape)


class Reference:
    """SGD with momentum on the two matrices and the bias, in float64."""

    def __init__(self, name, seed):
        now = started(name, seed)
        self.seed, self.velocity = seed, [0.0, 0.0, 0.0]
        params, mask = now.params, now.state.mask
        leaves = (params["a"]["kernel"], params["b"]["kernel"], params["b"]["bias"])
        self.weights = [np.asarray(leaf, np.float64) for leaf in leaves]
        self.masks = [np.asarray(mask[key]["kernel"]) for key in ("a", "b")]

    def gradients(self, step, masked=False):
        given = (
            [w * m for w, m in zip(self.weights, self.masks, strict=False)] if masked else self.weights[:2]
        )
        return list(
            gradients(*given, self.weights[2], *(each.astype(np.float64) for each in batch(step, self.seed)))
        )

    def descend(self, found):
        for i, gradient in enumerate(found):
            self.velocity[i] = MOMENTUM * self.velocity[i] + gradient
            self.weights[i] = self.weights[i] - LR * self.velocity[i]

    def zero(self):
        for i, mask in enumerate(self.masks):
            self.weights[i] = self.weights[i] * mask


def gmp(reference, step):
    reference.descend(
        [g * m for g, m in zip(reference.gradients(step), [*reference.masks, 1.0], strict=True)]
    )
    reference.zero()
    if (step + 1) % EPOCH == 0:
        turns = STEPS // EPOCH
        ratio = 0.8 + (0.0 - 0.8) * (1 - (step + 1) // EPOCH / turns) ** 3
        reference.masks = [
            kept(abs(w), w.size - int(np.ceil(ratio * w.size - 1e-9))) for w in reference.weights[:2]
        ]
        reference.zero()


def sfp(reference, step):
    reference.descend(reference.gradients(step))
    if (step + 1) % EPOCH == 0:
        norms = [np.sqrt((w**2).sum(0)) for w in reference.weights[:2]]
        stays = [kept(norm, norm.size // 2) for norm in norms]
        reference.masks = [
            np.broadcast_to(s, w.shape) for s, w in zip(stays, reference.weights, strict=False)
        ]
        reference.zero()


def iht(reference, step):
    reference.descend(reference.gradients(step))
    reference.masks = [kept(abs(w), w.size // 2) for w in reference.weights[:2]]
    reference.zero()


def exchanged(reference, counts, scores):
    """Drop the smallest, grow by scores; a weight that comes back begins at 0, its velocity too."""
    for i, (count, score) in enumerate(zip(counts, scores, strict=True)):
        weights, before = reference.weights[i], reference.masks[i]
        held = kept(np.where(before, abs(weights), -1.0), before.sum() - count)
        after = held | kept(np.where(held, -1.0, score), count)
        reference.masks[i] = after
        reference.weights[i] = weights * after
        reference.velocity[i] = np.where(after & ~before, 0.0, reference.velocity[i])


def set_rule(reference, step):
    reference.descend(
        [g * m for g, m in zip(reference.gradients(step), [*reference.masks, 1.0], strict=True)]
    )
    reference.zero()
    if (step + 1) % EPOCH == 0 and step + 1 < STEPS:
        key = key_at(reference.seed, step)
        scores = [np.asarray(jax.random.uniform(jax.random.fold_in(key, i), s)) for i, s in enumerate(SIZES)]
        exchanged(reference, [int(0.3 * m.sum() + 1e-9) for m in reference.masks], scores)


def rigl(reference, step):
    found, t = reference.gradients(step), step + 1
    if t % 2 == 0 and t < STEPS:  # in place of the step
        fraction = 0.3 / 2 * (1 + np.cos(t * np.pi / STEPS))
        counts = [int(fraction * m.sum() + 1e-9) for m in reference.masks]
        exchanged(reference, counts, [abs(g) for g in found[:2]])
        return
    reference.descend([g * m for g, m in zip(found, [*reference.masks, 1.0], strict=True)])
    reference.zero()


def two_of_four(weights):
    """Of each four in a row down the inputs the two largest."""
    groups = abs(weights).reshape(-1, 4, weights.shape[1])
    ranks = groups.argsort(1).argsort(1)
    return (ranks >= 2).reshape(weights.shape)


HISTORIES = {"gmp": gmp, "sfp": sfp, "iht": iht, "set": set_rule, "rigl": rigl}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_twelve_steps_are_those_of_the_reference(name, seed):
    (params, masks), _, _ = histories(name)
    reference = Reference(name, seed)
    changes = 0
    for step in range(STEPS):
        before = [mask.copy() for mask in reference.masks]
        HISTORIES[name](reference, step)
        changes += any((a != b).any() for a, b in zip(before, reference.masks, strict=True))
        for i, layer in enumerate("ab"):
            np.testing.assert_array_equal(
                masks[layer]["kernel"][seed, step], reference.masks[i], f"{layer} {step}"
            )
            # float32 against float64 over twelve steps
            np.testing.assert_allclose(
                params[layer]["kernel"][seed, step], reference.weights[i], rtol=2e-4, atol=2e-6
            )
        np.testing.assert_allclose(
            params["b"]["bias"][seed, step], reference.weights[2], rtol=2e-4, atol=2e-6
        )
    assert changes >= (1 if name == "sfp" else 2)  # whole filters change places seldom


def test_rigl_by_hand():
    """Ten weights, five alive; two change places. -0.1 and 0.2 are the smallest. Of what is then gone gradients 9, of
    the dropped -0.1, and 4, of a dead one, are the largest, so -0.1 comes back at once."""
    weights = jnp.array([0.5, -0.1, 0.3, 0.2, -0.9, 0.0, 0.0, 0.0, 0.0, 0.0])
    gradients = jnp.array([99.0, 9.0, 99.0, 1.0, 99.0, 3.0, 4.0, 2.0, 0.0, 3.5])
    after = moved(weights, weights != 0, gradients, 2)
    assert np.flatnonzero(after).tolist() == [0, 1, 2, 4, 6]
    assert np.array_equal(moved(weights, weights != 0, gradients, 0), weights != 0)


def test_rigls_drop_fraction_by_hand():
    """alpha = 0.3, T = 8, a turn every 2 steps: 0.15 (1 + cos(pi/4)), 0.15, 0.15 (1 - cos(pi/4)), and none at T."""
    turns = plans.turns_in(8, 2, 0.0, 1.0, before=True)
    assert turns.tolist() == [-1, 0, -1, 1, -1, 2, -1, -1]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(plans.cosine(turns, 0.3, 8), [0.15 * (1 + half), 0.15, 0.15 * (1 - half)])
    assert plans.exchanged(plans.cosine(turns, 0.3, 8), [100])[0].tolist() == [25, 15, 4]


def test_gmps_ratios_by_hand():
    """s_f = 0.8 from s_0 = 0.2 in two turns: 0.8 - 0.6 / 8, then 0.8."""
    np.testing.assert_allclose(plans.cubic(2, 0.8, 0.2), [0.725, 0.8])


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_sr_ste_follows_its_formula(decay):
    """W <- W - lr (g(masked W) + decay (1 - mask) W), the mask of the largest two of four; without momentum."""
    rule = RULES["sr_ste"].make(steps=4, epoch=2, decay=decay)
    optimizer = optax.sgd(LR)
    rng = np.random.default_rng(0)
    start, target = (rng.normal(size=(8, 3)).astype(np.float32) for _ in range(2))
    params, state = begin(rule, {"kernel": jnp.asarray(start)}, jax.random.key(0))
    np.testing.assert_array_equal(params["kernel"], start)  # nothing is set to zero
    now, weights = Trained(params, optimizer.init(params), state), start.astype(np.float64)
    for turn in rule.turns:
        mask = two_of_four(weights)
        np.testing.assert_array_equal(now.state.mask["kernel"], mask)
        shown = jnp.where(now.state.mask["kernel"], now.params["kernel"], 0.0)
        now = take_step(rule, optimizer, now, {"kernel": shown - target}, jnp.int32(turn), jax.random.key(0))
        weights = weights - LR * (weights * mask - target + decay * ~mask * weights)
        np.testing.assert_allclose(now.params["kernel"], weights, rtol=1e-5)  # float32


def test_choices_are_those_of_the_hosts_functions():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (5, 6)).astype(np.float32)  # many are equal
    for gone in (0, 7, 29):
        np.testing.assert_array_equal(lowest_go(jnp.asarray(scores), gone), select(scores, gone))
    kernel = {"kernel": rng.integers(-3, 4, (2, 2, 8, 3)).astype(np.float32)}
    mine = RULES["ste"].make(steps=1, epoch=1).init(kernel, jax.random.key(0)).mask["kernel"]
    theirs = n_of_m_mask(kernel, {"kernel": abs(kernel["kernel"])}, Pattern(2, 4))["kernel"]
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", RULES)
def test_one_program_serves_all_masks_and_seeds_under_vmap(name):
    assert name in GIVEN
    _, _, traces = histories(name)
    assert traces == 1


@pytest.mark.parametrize("name", RULES)
def test_pruned_weights_are_zero_as_the_rule_says(name):
    (params, masks), _, _ = histories(name)
    rule = rule_of(name)
    for layer in "ab":
        values, alive = (np.asarray(tree[layer]["kernel"]) for tree in (params, masks))
        at = np.ones(STEPS, bool) if rule.between == "held" else rule.turns >= 0
        pruned = values[:, at][~alive[:, at]]
        assert pruned.size
        assert pruned.any() == (rule.between == "straight")
    assert np.asarray(masks["b"]["bias"]).all()


@pytest.mark.parametrize("name", RULES)
def test_density_is_as_scheduled(name):
    """What the forward pass of step i + 1 uses is what the mask leaves after step i, unless weights have grown back."""
    (params, masks), _, _ = histories(name)
    rule = rule_of(name)
    density = rule.density(started(name, 0).params)
    for layer in "ab":
        used = np.asarray(params[layer]["kernel"] if rule.between == "free" else masks[layer]["kernel"]) != 0
        found = used.reshape(2, STEPS, -1).mean(-1)
        np.testing.assert_allclose(found[:, :-1], np.broadcast_to(density[layer][1:], (2, STEPS - 1)))


@pytest.mark.parametrize("name", RULES)
def test_any_tree_will_do_and_its_state_is_plain_arrays(name):
    rule = rule_of(name)
    tree = ([jnp.ones((8, 4))], {"x": (jnp.ones((4, 4, 3)), jnp.ones(3))})
    refuse_unfit(rule, tree)
    params, state = begin(rule, tree, jax.random.key(0))
    assert jax.tree.structure(params) == jax.tree.structure(state.mask) == jax.tree.structure(tree)
    assert all(leaf.dtype in (bool, jnp.int32) for leaf in jax.tree.leaves(state))
    if (rule.turns >= 0).any():
        facts = (params, params, state, jnp.int32(0), jax.random.key(1))
        after = rule.update(Turn(*facts))
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("rigl", {"ratio": 0.5, "interval": 12}, "interval is 12 steps, and 8 of the 12 steps"),
        ("rigl", {"ratio": 0.5, "interval": 2, "drop": 1.5}, "drop is 1.5"),
        ("gmp", {"ratio": 1.0}, r"ratio is 1.0; the fraction removed lies in \[0, 1\)"),
        ("gmp", {"ratio": 0.5, "end": 2.0}, "end is 2.0; it is a fraction of training"),
        ("gmp", {"ratio": 0.5, "initial": 0.6}, "initial is 0.6"),
        ("gmp", {"ratio": 0.5, "granularity": "block"}, "granularity is 'block'"),
        ("set", {"ratio": 0.5, "distribution": "odd"}, "distribution is 'odd'"),
        ("sfp", {"ratio": 0.5, "interval": 5}, "interval is 5 steps and training has 12"),
        ("sr_ste", {"decay": -1.0}, "decay is -1.0"),
        ("ste", {"granularity": "4:4"}, "no pattern N:M"),
        ("ste", {"granularity": "2:5"}, "pattern 2:5 doesn't fit layer 'a'"),
        ("static", {"ratio": 0.5, "layers": ("odd",)}, "no layer's name fits 'odd'"),
    ],
)
def test_bad_arguments_are_refused_by_name(name, given, says):
    with pytest.raises(ValueError, match=says):
        refuse_unfit(RULES[name].make(steps=STEPS, epoch=EPOCH, **given), started("static", 0).params)


def test_a_granularity_that_a_rule_cant_keep_is_refused():
    for name, granularity in (("rigl", "2:4"), ("ste", "unstructured"), ("set", "filter")):
        with pytest.raises(
            ValueError, match=f"granularity is '{granularity}', which rule '{name}' can't keep"
        ):
            refuse_misplaced(name, granularity)


def test_costs_are_those_of_the_papers_accounting():
    """RigL: (3 f_S n + 2 f_S + f_D) / (n + 1) for n steps between turns. Here n + 1 = 2, five turns in twelve steps."""
    params = started("static", 0).params
    macs = kernel_macs(lambda p, x: x @ p["a"]["kernel"] @ p["b"]["kernel"], params, np.ones((1, 4)))
    assert macs == {"a": 32, "b": 32}
    total = 84  # 20 of something that no rule prunes
    sparse = 20 + sum(macs[name] * rule_of("rigl").density(params)[name][0] for name in "ab")
    found = training_macs(rule_of("rigl"), params, macs, total)
    assert found.masked == pytest.approx(sparse)
    assert 3 * found.masked + found.extra == pytest.approx((7 * 3 * sparse + 5 * (2 * sparse + total)) / 12)
    assert training_macs(rule_of("static"), params, macs, total).extra == 0
    straight = training_macs(rule_of("ste"), params, macs, total)
    assert (straight.masked, straight.extra) == (52, 32)
    mask = begin(rule_of("static"), params, jax.random.key(0))[1].mask
    assert held_macs(mask, macs, total) == pytest.approx(sparse)
