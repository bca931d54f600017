"""The contract of a regulariser, over every one in the table: a new one is tested by being added."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.regularizers import penalty
from prune_jax.pruning.regularizers.channels import named_leaves_of
from prune_jax.pruning.regularizers.table import REGULARIZERS, arguments_of, penalty_of

STEPS = 5
# Growth that shows within a few steps, for those that have it.
FAST = {
    "step": 0.05,
    "pick_step": 0.05,
    "pick_limit": 0.1,
    "every": 2,
    "hold": 2,
    "limit": 0.3,
    "strength": 0.2,
}


def params_of(seed=0):
    """A convolution with a norm, a second one, and a dense layer."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jax.device_put(rng.normal(size=shape).astype(np.float32))

    conv = {"kernel": draw(3, 3, 2, 6), "bias": draw(6), "scale": draw(6), "shift": draw(6)}
    return {
        "conv": conv,
        "next": {"kernel": draw(1, 1, 6, 5)},
        "head": {"kernel": draw(5, 3), "bias": draw(3)},
    }


def apply(params, x):
    def convolved(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    first = params["conv"]
    x = convolved(x, first["kernel"]) + first["bias"].reshape(1, 1, 1, -1)
    x = (x - 0.5) * first["scale"].reshape(1, 1, 1, -1) + first["shift"].reshape(1, 1, 1, -1)
    x = convolved(jax.nn.relu(x), params["next"]["kernel"])
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"].reshape(1, -1)


@functools.cache
def groups():
    return find_groups(apply, params_of(), jnp.ones((1, 5, 5, 2)))


def made(name, found=None, **arguments):
    """The penalty with fast growth; ratio 0.5 where it chooses channels."""
    known = arguments_of(REGULARIZERS[name].make)
    fast = {key: value for key, value in FAST.items() if key in known}
    how = {"ratio": 0.5} if REGULARIZERS[name].chooses else {}
    return penalty_of(name, groups() if found is None else found, **how, **fast | arguments)


def gradients(params, step):
    """Some gradient of a loss, another at each step."""
    return jax.tree.map(lambda w: 0.1 * jnp.cos(3.0 * w + step), params)


def stepped(optimizer):
    """One step: (params, state, its number) -> (params, state)."""

    def step(params, state, number):
        updates, state = optimizer.update(gradients(params, number), state, params)
        return optax.apply_updates(params, updates), state

    return step


def trained(step, params, state, numbers=range(STEPS)):
    for number in numbers:
        params, state = step(params, state, number)
    return params, state


@functools.cache
def plain(steps):
    """The params of seed 1 after so many steps without any penalty."""
    sgd, start = optax.sgd(0.05, 0.9), params_of(1)
    return trained(jax.jit(stepped(sgd)), start, sgd.init(start), range(steps))[0]


def optimizer_of(name, **arguments):
    return penalty.regularized(optax.sgd(0.05, 0.9), made(name, **arguments), 0.05)


class Fit(NamedTuple):
    """A regulariser's name, its compiled functions, and where its training came to from seeds 0 and 1, each alone."""

    name: str
    init: Callable
    step: Callable
    ends: list


@pytest.fixture(scope="module", params=REGULARIZERS)
def fit(request):
    optimizer = optimizer_of(request.param)
    init, step = jax.jit(optimizer.init), jax.jit(stepped(optimizer))
    ends = [trained(step, params_of(seed), init(params_of(seed))) for seed in (0, 1)]
    return Fit(request.param, init, step, ends)


def assert_same(one, other, **close):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **close)


def own_state(state):
    (found,) = [
        leaf
        for leaf in jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, penalty.PenaltyState))
        if isinstance(leaf, penalty.PenaltyState)
    ]
    return found


def test_the_gradient_is_that_of_the_value_which_is_never_negative(fit):
    params, state = fit.ends[1]
    # What GReg-2 gives back to kept channels is negative by design.
    own = own_state(state).own
    if fit.name == "greg2":
        own = own._replace(strength={key: jnp.maximum(each, 0) for key, each in own.strength.items()})
    rule, leaves = made(fit.name), named_leaves_of(params, groups())

    @jax.jit
    def both(own, leaves):
        return rule.gradient(own, leaves), jax.value_and_grad(rule.value, argnums=1)(own, leaves)

    found, (value, wanted) = jax.device_get(both(own, leaves))
    assert found.keys() <= leaves.keys()
    for path, leaf in leaves.items():
        # float32 sums in another order
        atol = 1e-5 * (1 + abs(wanted[path]).max())
        np.testing.assert_allclose(found.get(path, np.zeros_like(leaf)), wanted[path], rtol=2e-4, atol=atol)
    assert float(value) > 0


def test_it_moves_weights_and_at_its_neutral_arguments_none(fit):
    neutral, start = optimizer_of(fit.name, **REGULARIZERS[fit.name].neutral), params_of(1)
    found, _ = jax.jit(stepped(neutral))(start, jax.jit(neutral.init)(start), 0)
    # a proximal step of length 0 still takes an update away and adds it
    assert_same(found, plain(1), rtol=1e-6, atol=1e-7)
    pairs = zip(*map(jax.tree.leaves, (fit.ends[1][0], plain(STEPS))), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in pairs)


def test_replicas_under_vmap_are_those_alone(fit):
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), params_of(0), params_of(1))
    states = jax.tree.map(lambda *leaves: np.stack(leaves), *(fit.init(params_of(seed)) for seed in (0, 1)))
    found = trained(jax.jit(jax.vmap(fit.step, (0, 0, None))), stacked, states)
    wanted = jax.tree.map(lambda *leaves: np.stack(leaves), *fit.ends)
    assert_same(found, wanted, rtol=1e-4, atol=1e-5)  # batched products add up in another order


def test_its_state_goes_through_a_checkpoint_and_training_goes_on_bit_for_bit(fit):
    half = trained(fit.step, params_of(0), fit.init(params_of(0)), range(2))
    host = jax.tree.map(np.asarray, half)
    assert all(leaf.dtype != object for leaf in jax.tree.leaves(host))
    found = trained(fit.step, *jax.tree.map(jax.device_put, host), range(2, STEPS))
    assert jax.tree.structure(found) == jax.tree.structure(fit.ends[0])
    assert_same(found, fit.ends[0], rtol=0, atol=0)


class Net(nnx.Module):
    """A module that holds the same params."""

    def __init__(self, params):
        for layer, leaves in params.items():
            setattr(self, layer, nnx.Dict({name: nnx.Param(leaf) for name, leaf in leaves.items()}))


NAMES = {layer: list(leaves) for layer, leaves in params_of().items()}


def as_dict(trees):
    pairs = zip(NAMES.items(), trees, strict=True)
    return {layer: dict(zip(names, tree, strict=True)) for (layer, names), tree in pairs}


@functools.cache
def groups_of_tuples():
    tuples = tuple(tuple(leaves.values()) for leaves in params_of().values())
    return find_groups(lambda trees, x: apply(as_dict(trees), x), tuples, jnp.ones((1, 5, 5, 2)))


def test_the_form_of_the_tree_makes_no_difference(fit):
    params = params_of(1)
    tuples, state = tuple(tuple(leaves.values()) for leaves in params.values()), nnx.state(Net(params))
    of_tuples = penalty.regularized(optax.sgd(0.05, 0.9), made(fit.name, groups_of_tuples()), 0.05)

    @jax.jit
    def both(tuples, state):
        trees = [(of_tuples, tuples), (optimizer_of(fit.name), state)]
        return [stepped(each)(tree, each.init(tree), 0)[0] for each, tree in trees]

    of_tuples_now, of_state = both(tuples, state)
    wanted, _ = fit.step(params, fit.init(params), 0)
    assert_same(as_dict(of_tuples_now), wanted, rtol=1e-5, atol=1e-6)
    assert_same(nnx.to_pure_dict(of_state), wanted, rtol=1e-5, atol=1e-6)


def test_it_is_said_when_params_are_missing(fit):
    with pytest.raises(ValueError, match=r"params"):
        optimizer_of(fit.name).update(params_of(), fit.init(params_of()))


def test_every_default_is_a_number_or_a_word_and_negative_ones_are_refused(fit):
    known = arguments_of(REGULARIZERS[fit.name].make)
    assert all(isinstance(value, int | float | str) for value in known.values())
    refused = next(key for key in ("strength", "step") if key in known)
    with pytest.raises(ValueError, match=rf"{refused} is -1"):
        made(fit.name, **{refused: -1.0})
