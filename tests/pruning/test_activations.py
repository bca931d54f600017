"""Activations by group, against networks written out in NumPy and against Linen's own capture."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import pytest

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.evidence import gather

RNG = np.random.default_rng(0)
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums against float64


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def measured(apply, params, data):
    groups = find_groups(apply, params, data[0])
    evidence = gather({"activations"}, params, data, apply=apply, groups=groups)
    assert set(evidence.activations) == {group.name for group in groups if group.frozen is None}
    return evidence.activations


def check(found, *tensors):
    """Each tensor has its channels last; several are averaged over all their entries."""
    flat = np.concatenate([np.asarray(t, np.float64).reshape(-1, t.shape[-1]) for t in tensors])
    np.testing.assert_allclose(found.mean_abs, np.abs(flat).mean(0), **ROUNDING)
    np.testing.assert_allclose(found.norm, np.sqrt((flat**2).sum(0)), **ROUNDING)


def test_two_layers_over_batches_of_different_sizes():
    params = {"a": draw(4, 6), "bias": draw(6), "b": draw(6, 5), "c": draw(5, 2)}

    def apply(p, x):
        h = jax.nn.relu(x @ p["a"] + p["bias"].reshape(1, -1))
        return jax.nn.relu(h @ p["b"]) @ p["c"]

    data = [draw(3, 4), draw(2, 4)]
    x = np.concatenate(data).astype(np.float64)
    found = measured(apply, params, data)
    check(found["a"], x @ params["a"])  # before the bias
    check(found["b"], np.maximum(x @ params["a"] + params["bias"], 0) @ params["b"])


def test_channels_with_several_positions_on_the_axis():
    params = {"w": draw(3, 8), "v": draw(4, 2)}

    def apply(p, x):
        gate, h = jnp.split(x @ p["w"], 2, -1)
        return (jnp.tanh(gate) * h) @ p["v"]

    x = draw(5, 3)
    made = x.astype(np.float64) @ params["w"]
    check(measured(apply, params, [x])["w"], made[:, :4], made[:, 4:])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "remat"])
def test_a_weight_that_is_used_twice_inside_other_programs_counts_twice(wrap):
    params = {"shared": draw(4, 6), "last": draw(6, 2)}

    def apply(p, x):
        layer = wrap(lambda w, h: jax.nn.relu(h @ w))
        return (layer(p["shared"], x) + layer(p["shared"], jnp.flip(x, -1))) @ p["last"]

    x = draw(5, 4)
    wide = x.astype(np.float64)
    found = measured(apply, params, [x])["shared"]
    check(found, wide @ params["shared"], wide[:, ::-1] @ params["shared"])


def test_a_scan_over_stacked_layers():
    params = {"up": draw(3, 4, 6), "down": draw(3, 6, 4), "last": draw(4, 2)}

    def apply(p, x):
        def block(h, layer):
            up, down = layer
            return h + jax.nn.relu(h @ up) @ down, None

        return jax.lax.scan(block, x, (p["up"], p["down"]))[0] @ p["last"]

    x = draw(5, 4)
    h, made = x.astype(np.float64), []
    for up, down in zip(params["up"], params["down"], strict=True):
        made.append(h @ up)
        h = h + np.maximum(made[-1], 0) @ down
    check(measured(apply, params, [x])["up"], *made)


def test_an_embedding_makes_its_channels_where_it_is_looked_up():
    params = {"table": draw(10, 6), "head": draw(6, 3)}

    def apply(p, tokens):
        return jnp.take(p["table"], tokens, axis=0).mean(1) @ p["head"]

    tokens = RNG.integers(0, 10, (4, 7))
    check(measured(apply, params, [tokens])["table"], params["table"][tokens])


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, name="one")(x)
        x = nn.relu(nn.GroupNorm(8, name="norm")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(5, (3, 3), strides=2, use_bias=False, name="two")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


def test_a_convolutional_network_against_what_linen_captures():
    x = draw(4, 8, 8, 3)
    model = Convolutional()
    params = law.numbers(jax.eval_shape(model.init, jax.random.key(0), x))
    _, state = jax.jit(functools.partial(model.apply, capture_intermediates=True))(params, x)
    found = measured(model.apply, params, [x[:3], x[3:]])
    for name in ("one", "two"):
        check(found[name], np.asarray(state["intermediates"][name]["__call__"][0]))


def test_the_batch_may_hold_more_than_the_inputs():
    params = {"a": draw(4, 6), "b": draw(6, 3)}

    def apply(p, x):
        return jax.nn.relu(x @ p["a"]) @ p["b"]

    x, labels = draw(5, 4), np.arange(5)
    groups = find_groups(apply, params, x)
    evidence = gather(
        {"activations"}, params, [(x, labels)], apply=lambda p, batch: apply(p, batch[0]), groups=groups
    )
    check(evidence.activations["a"], x.astype(np.float64) @ params["a"])


def test_loops_of_unknown_length_hide_what_is_inside():
    params = {"a": draw(4, 6), "b": draw(6, 4), "c": draw(4, 2)}

    def apply(p, x):
        def body(state):
            k, h = state
            return k + 1, h + jax.nn.relu(h @ p["a"]) @ p["b"]

        return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, x))[1] @ p["c"]

    x = draw(5, 4)
    groups = find_groups(apply, params, x)
    assert any(group.name == "a" and group.frozen is None for group in groups)
    with pytest.raises(ValueError, match="group 'a': no array of the network has its activations"):
        gather({"activations"}, params, [x], apply=apply, groups=groups)


def test_groups_of_other_params_are_refused():
    def apply(p, x):
        return jax.nn.relu(x @ p["a"]) @ p["b"]

    params = {"a": draw(4, 6), "b": draw(6, 3)}
    groups = find_groups(apply, params, draw(5, 4))
    smaller = {"a": draw(4, 5), "b": draw(5, 3)}
    with pytest.raises(ValueError, match="find the groups for these params"):
        gather({"activations"}, smaller, [draw(5, 4)], apply=apply, groups=groups)
