"""Regularisers one by one, against references that share no code with them."""

import functools
import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.regularizers import group_lasso, group_norm, orthogonality, penalty
from prune_jax.pruning.regularizers.channels import named_leaves_of
from prune_jax.pruning.regularizers.table import penalty_of

LR = 0.5


def chain_of(seed, *sizes):
    """Kernels of a chain of dense layers, and their groups, named after the layers."""
    rng = np.random.default_rng(seed)
    params = {
        f"layer{i}": {"kernel": jax.device_put(rng.normal(size=(a, b)).astype(np.float32))}
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    }
    return params, groups_at(sizes)


@functools.cache
def groups_at(sizes):
    shapes = {
        f"layer{i}": {"kernel": jax.ShapeDtypeStruct((a, b), jnp.float32)}
        for i, (a, b) in enumerate(itertools.pairwise(sizes))
    }
    return find_groups(forward, shapes, jax.ShapeDtypeStruct((1, sizes[0]), jnp.float32))


def named(groups, *names):
    return [group for group in groups if group.name in names]


def forward(params, x):
    for layer in params.values():
        x = x @ layer["kernel"]
    return x


def run(rule, params, steps, lr=LR):
    """Params and the penalty's state after each step of plain SGD on the penalty alone."""
    optimizer = penalty.regularized(optax.sgd(lr), rule, lr)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    begun = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=steps)[1])
    history, states = jax.device_get(begun(params))
    found = jax.tree.leaves(states, is_leaf=lambda leaf: isinstance(leaf, penalty.PenaltyState))
    return history, next(leaf for leaf in found if isinstance(leaf, penalty.PenaltyState))


def growing_by_hand(kernels, gone, steps, how, lr=LR):
    """GReg in float64 with Python's loops: strengths of each channel and whether it is over, after each step."""
    kernels = [np.asarray(kernel, np.float64) for kernel in kernels]
    picks = how.get("picks", 0)
    doomed = [set(np.argsort(np.abs(k).mean(0), kind="stable")[:gone].tolist()) for k in kernels]
    risen, average = [0] * len(kernels), [None] * len(kernels)
    finished, strength = [False] * len(kernels), [np.zeros(k.shape[1]) for k in kernels]
    held, out = 0, []
    for step in range(steps):
        if all(finished):
            held += 1
        elif step % how["every"] == 0:
            for i, kernel in enumerate(kernels):
                if finished[i]:
                    continue
                scores = np.abs(kernel).mean(0)
                if risen[i] < picks:
                    doomed[i] = set(np.argsort(scores, kind="stable")[:gone].tolist())
                mine = np.array([channel in doomed[i] for channel in range(len(scores))])
                ratio = scores[~mine].mean() / scores[mine].mean()
                average[i] = ratio if average[i] is None else 0.9 * average[i] + 0.1 * ratio
                if risen[i] < picks:
                    strength[i] = strength[i] + how["pick_step"]
                else:
                    kept = how.get("recover", 0.0)
                    strength[i] = np.where(mine, strength[i] + how["step"], kept)
                risen[i] += 1
            far = [a >= how["ratio_limit"] for a in average]
            if how["together"]:
                far = [all(far)] * len(far)
            for i in range(len(kernels)):
                over = far[i] or strength[i].max() > how["limit"] + 1e-9
                finished[i] = finished[i] or (risen[i] >= picks and over)
        for i, kernel in enumerate(kernels):
            kernels[i] = kernel - lr * strength[i] * kernel
        out.append(([s.copy() for s in strength], list(finished), all(finished) and held >= how["hold"]))
    return out, kernels


@pytest.mark.parametrize(
    "how",
    [
        # by the limit: above 0.02 after five rises, at step 8, then held for 6 steps
        {"step": 4e-3, "every": 2, "limit": 0.018, "ratio_limit": 1e9, "hold": 6},
        # by the ratio, which the pushed channels reach long before the limit
        {"step": 0.2, "every": 3, "limit": 100.0, "ratio_limit": 20.0, "hold": 4},
    ],
)
def test_greg1_grows_and_ends_as_its_rule_says(how):
    params, groups = chain_of(3, 4, 6, 6, 2)
    rule = penalty_of("greg1", groups, ratio=0.5, **how)
    history, states = run(rule, params, 30)
    kernels = [params["layer0"]["kernel"], params["layer1"]["kernel"]]
    wanted, ends = growing_by_hand(kernels, 3, 30, {**how, "together": True})
    for i, name in enumerate(("layer0", "layer1")):
        found = states.own.strength[name]
        np.testing.assert_allclose(found, [each[0][i] for each in wanted], rtol=1e-5)
        assert np.asarray(states.own.finished[name]).tolist() == [each[1][i] for each in wanted]
        np.testing.assert_allclose(history[name]["kernel"][-1], ends[i], rtol=1e-4, atol=1e-7)
    assert np.asarray(states.done).tolist() == [each[2] for each in wanted]
    assert 0 < np.asarray(states.done).sum() < 30
    assert (history["layer2"]["kernel"][-1] == params["layer2"]["kernel"]).all()


def test_greg1_rises_by_its_step_at_every_fifth_step_from_the_first_on():
    params, groups = chain_of(0, 4, 6, 2)
    _, states = run(penalty_of("greg1", groups, ratio=0.5), params, 12)
    doomed = np.asarray(states.own.doomed["layer0"][-1])
    assert doomed.sum() == 3
    wanted = [1e-4] * 5 + [2e-4] * 5 + [3e-4] * 2
    np.testing.assert_allclose(np.asarray(states.own.strength["layer0"])[:, doomed], np.array([wanted] * 3).T)
    assert not np.asarray(states.own.strength["layer0"])[:, ~doomed].any()


def test_greg2_picks_then_pushes_and_gives_back():
    params, groups = chain_of(5, 4, 6, 6, 2)
    how = {"pick_step": 0.05, "pick_limit": 0.15, "step": 0.3, "recover": -0.02, "every": 2}
    how |= {"limit": 1.2, "ratio_limit": 1e9, "hold": 3}
    history, states = run(penalty_of("greg2", groups, ratio=0.5, **how), params, 24)
    kernels = [params["layer0"]["kernel"], params["layer1"]["kernel"]]
    wanted, ends = growing_by_hand(kernels, 3, 24, {**how, "picks": 3, "together": False})
    for i, name in enumerate(("layer0", "layer1")):
        np.testing.assert_allclose(states.own.strength[name], [each[0][i] for each in wanted], rtol=1e-5)
        assert np.asarray(states.own.finished[name]).tolist() == [each[1][i] for each in wanted]
        np.testing.assert_allclose(history[name]["kernel"][-1], ends[i], rtol=1e-4, atol=1e-6)
    assert np.asarray(states.done).tolist() == [each[2] for each in wanted]
    assert 0 < np.asarray(states.done).sum() < 24
    strength = np.asarray(states.own.strength["layer0"])
    assert len(set(strength[3].tolist())) == 1  # while picking all are alike
    assert len(set(strength[8].tolist())) == 2


def test_greg2_picks_by_the_weights_as_they_have_become():
    """A channel that is small at first, but grows, isn't picked."""
    params, groups = chain_of(0, 3, 4, 2)
    kernel = jnp.array([[0.1, 1.0, 2.0, 3.0]] * 3)
    params["layer0"]["kernel"] = kernel
    rule = penalty_of("greg2", groups, ratio=0.25, pick_step=0.1, pick_limit=0.2, every=1)
    leaves = named_leaves_of(params, groups)
    state = rule.init(leaves)
    grown = {**leaves, "layer0/kernel": kernel.at[:, 0].set(9.0)}
    advance = jax.jit(rule.advance)
    for number in range(4):
        state = advance(state, leaves if number == 0 else grown, jnp.int32(number))
    assert state.doomed["layer0"].tolist() == [False, True, False, False]


def test_the_proximal_step_is_the_closed_form():
    params, groups = chain_of(1, 3, 5, 2)
    kernel = np.asarray(params["layer0"]["kernel"], np.float64)
    history, _ = run(
        group_lasso.group_lasso_proximal(named(groups, "layer0"), strength=1.5), params, 2, lr=0.4
    )
    for step in range(2):
        norms = np.sqrt((kernel**2).sum(0))
        kernel = kernel * np.maximum(0.0, 1.0 - 0.4 * 1.5 / norms)[None]
        np.testing.assert_allclose(history["layer0"]["kernel"][step], kernel, rtol=1e-5, atol=1e-7)
        kernel = np.where(kernel == 0, 1e-30, kernel)  # the reference divides by a norm
    assert (np.asarray(history["layer0"]["kernel"][-1]) == 0).all(0).any()  # a channel is exactly 0
    assert (history["layer1"]["kernel"][-1] == params["layer1"]["kernel"]).all()


def test_the_proximal_step_minimises_what_it_is_to_minimise():
    """Brute force on a channel of norm 5: 1/2 ||v - w||^2 + lr strength ||v||, over lengths of v along w."""
    params, groups = chain_of(0, 2, 2, 2)
    params["layer0"]["kernel"] = jnp.array([[3.0, 0.0], [4.0, 2.0]])
    rule = group_lasso.group_lasso_proximal(named(groups, "layer0"), strength=2.0)
    grid = np.linspace(0, 6, 6001)
    wanted = grid[np.argmin(0.5 * (grid - 5.0) ** 2 + 0.25 * 2.0 * grid)]
    found = rule.prox((), named_leaves_of(params, groups), 0.25)["layer0/kernel"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[0], wanted, atol=1e-3)


def test_the_subgradient_is_a_unit_vector_for_each_channel_and_0_at_0():
    params, groups = chain_of(2, 3, 4, 2)
    params["layer0"]["kernel"] = params["layer0"]["kernel"].at[:, 1].set(0.0)
    leaves = named_leaves_of(params, groups)
    slope = group_lasso.group_lasso(named(groups, "layer0"), strength=3.0).gradient((), leaves)[
        "layer0/kernel"
    ]
    np.testing.assert_allclose(np.linalg.norm(slope, axis=0), [3.0, 0.0, 3.0, 3.0], rtol=1e-5)
    both = group_lasso.group_lasso(named(groups, "layer0"), strength=3.0, over="coupled").gradient((), leaves)
    makes, reads = np.asarray(both["layer0/kernel"]), np.asarray(both["layer1/kernel"])
    np.testing.assert_allclose((makes**2).sum(0) + (reads**2).sum(1), 9.0, rtol=1e-5)


def test_depgraphs_weights_by_hand_on_a_chain_of_three_layers():
    """Channels of norms 1, 3 and 5 with alpha 16: decays 16, 4 and 1 times the strength, on makers and readers."""
    first = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]], np.float32)  # squared: 1, 1, 9
    second = np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 0.0]], np.float32)  # rows squared: 0, 8, 16
    third = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    params = {f"layer{i}": {"kernel": kernel} for i, kernel in enumerate((first, second, third))}
    groups = find_groups(forward, params, jnp.ones((1, 2)))
    rule = penalty_of("group_norm", groups, strength=0.1)
    found = jax.jit(rule.gradient)((), named_leaves_of(params, groups))
    decay_one = np.array([1.6, 0.4, 0.1])  # norms 1, 3, 5
    # the second group: columns squared 20, 4 and rows of the third 1, 0, so norms sqrt 21 and 2
    decay_two = np.array([0.1, 1.6])
    np.testing.assert_allclose(found["layer0/kernel"], first * decay_one[None], rtol=1e-5)
    np.testing.assert_allclose(
        found["layer1/kernel"], second * (decay_one[:, None] + decay_two[None]), rtol=1e-5
    )
    np.testing.assert_allclose(found["layer2/kernel"], third * decay_two[:, None], rtol=1e-5)


def test_depgraphs_weights_are_one_where_all_channels_are_equal():
    assert group_norm.shrinkage(jnp.full(3, 2.0), 16.0).tolist() == [1.0, 1.0, 1.0]


def test_slimming_moves_scales_alone_by_their_sign():
    params = {"a": jnp.ones((2, 3)), "scale": jnp.array([2.0, -0.5, 0.0]), "b": jnp.ones((3, 2))}

    def scaled(params, x):
        return (x @ params["a"]) * params["scale"][None] @ params["b"]

    groups = find_groups(scaled, params, jnp.ones((1, 2)))
    found = penalty_of("slimming", groups, strength=0.3).gradient((), named_leaves_of(params, groups))
    assert found.keys() == {"scale"}
    np.testing.assert_allclose(found["scale"], [0.3, -0.3, 0.0], rtol=1e-6)


def tpp_by_hand(kernel, doomed, strength, growth):
    """The written loss with two loops, in float64."""
    rows = np.asarray(kernel, np.float64).T
    total = 0.0
    for i, w in enumerate(rows):
        for j, v in enumerate(rows):
            total += (w @ v) ** 2 * (doomed[i] or doomed[j])
    return growth * (
        strength * total / len(rows) ** 2 + 0.5 * sum((w @ w) * s for w, s in zip(rows, doomed, strict=True))
    )


def test_tpps_penalty_and_growth_are_those_written():
    params, groups = chain_of(4, 3, 5, 2)
    rule = penalty_of("tpp", groups, ratio=0.4, strength=7.0, step=0.1, every=3, limit=0.25, hold=4)
    history, states = run(rule, params, 20, lr=1e-3)
    growth = np.asarray(states.own.growth)
    np.testing.assert_allclose(growth[:11], [0] * 3 + [0.1] * 3 + [0.2] * 3 + [0.25] * 2, rtol=1e-6)
    assert np.argmax(states.done) == 3 * 3 + 4 - 1  # three rises, then held for 4 steps
    doomed = np.asarray(states.own.doomed["layer0"][-1])
    scores = np.abs(params["layer0"]["kernel"]).mean(0)
    assert set(np.flatnonzero(doomed)) == set(np.argsort(scores)[:2])
    leaves = {"layer0/kernel": history["layer0"]["kernel"][7]}
    own = jax.tree.map(lambda leaf: leaf[7], states.own)
    wanted = tpp_by_hand(leaves["layer0/kernel"], doomed, 7.0, growth[7])
    value, slope = jax.jit(lambda own, leaves: (rule.value(own, leaves), rule.gradient(own, leaves)))(
        own, leaves
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    # its gradient against central differences of the float64 loss
    kernel, found = np.asarray(leaves["layer0/kernel"], np.float64), np.asarray(slope["layer0/kernel"])
    for place in np.ndindex(kernel.shape):
        ends = [kernel.copy(), kernel.copy()]
        ends[0][place] += 1e-5
        ends[1][place] -= 1e-5
        high, low = (tpp_by_hand(end, doomed, 7.0, growth[7]) for end in ends)
        np.testing.assert_allclose(found[place], (high - low) / 2e-5, rtol=1e-4, atol=1e-6)


def test_tpp_shrinks_biases_and_norms_of_doomed_channels_alone():
    params = {
        "a": {"kernel": jnp.eye(3) + 0.1, "bias": jnp.ones(3), "scale": jnp.full(3, 2.0)},
        "b": jnp.ones((3, 2)),
    }

    def net(params, x):
        first = params["a"]
        return (x @ first["kernel"] + first["bias"][None]) * first["scale"][None] @ params["b"]

    groups = find_groups(net, params, jnp.ones((1, 3)))
    rule = penalty_of("tpp", groups, ratio=0.3, step=0.5, every=1)
    leaves = named_leaves_of(params, groups)
    found = jax.jit(lambda p: rule.gradient(rule.advance(rule.init(p), p, jnp.int32(1)), p))(leaves)
    assert found["a/bias"].tolist() == [0.5, 0.0, 0.0]
    assert found["a/scale"].tolist() == [1.0, 0.0, 0.0]
    assert "b" not in found


@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (1, 1, 3, 2), (5, 3)])
@pytest.mark.parametrize("name", ["kernel_orthogonality", "orthogonal_convolution"])
def test_orthogonality_is_what_pytorch_computes(name, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=shape).astype(np.float32)
    flat = torch.tensor(kernel).permute(3, 2, 0, 1) if len(shape) == 4 else torch.tensor(kernel).T
    if name == "orthogonal_convolution" and shape[0] == 3:
        found = torch.nn.functional.conv2d(flat, flat, stride=2, padding=1)
        delta = torch.zeros_like(found)
        delta[:, :, found.shape[2] // 2, found.shape[3] // 2] = torch.eye(len(flat))
        wanted = (found - delta).norm()
    else:
        matrix = flat.reshape(len(flat), -1)
        tall = matrix.T if matrix.shape[0] < matrix.shape[1] else matrix
        wanted = (tall.T @ tall - torch.eye(tall.shape[1])).norm()
    rule = penalty_of(name, (), strength=0.1)
    np.testing.assert_allclose(jax.jit(rule.value)((), {"kernel": kernel}), 0.1 * wanted.item(), rtol=1e-5)


def test_orthogonality_has_no_gradient_at_an_isometry():
    slope = jax.jit(orthogonality.kernel_orthogonality().gradient)(
        (), {"kernel": np.eye(3, dtype=np.float32)}
    )["kernel"]
    assert slope.tolist() == np.zeros((3, 3)).tolist()


def mean_jsv(kernels):
    return np.linalg.svd(functools.reduce(np.matmul, kernels), compute_uv=False).mean()


def test_tpp_leaves_more_trainability_than_l1_alone_and_decorrelates():
    """Linear networks that fit a random linear map: trained under TPP or not, then cut by L1; five seeds."""
    sizes, steps = (8, 16, 16, 8), 400
    groups = groups_at(sizes)
    # Pushed until the end, at a size where 400 steps are enough; c of the companion code.
    rule = penalty_of("tpp", groups, ratio=0.5, step=0.02, every=2, hold=10**6, strength=1000.0)
    starts = [chain_of(seed, *sizes)[0] for seed in range(5)]
    starts = [
        jax.tree.map(lambda w: np.asarray(w) / np.float32(np.sqrt(w.shape[0])), each) for each in starts
    ]
    maps = jax.jit(jax.vmap(lambda seed: jax.random.orthogonal(jax.random.key(seed), 8)))(np.arange(5))

    def fitted(optimizer, params, target):
        def loss(params):
            found = functools.reduce(jnp.matmul, [layer["kernel"] for layer in params.values()])
            return jnp.square(found - target).sum()

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0]

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    dense = jax.jit(jax.vmap(functools.partial(fitted, optax.sgd(0.01, 0.9))))(stacked, maps)[0]
    pushing = penalty.regularized(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01, 0.9)), rule)
    pushed, state = jax.jit(jax.vmap(functools.partial(fitted, pushing)))(dense, maps)
    dense, pushed, doomed = jax.device_get((dense, pushed, state[0].own.doomed))

    def cross(kernel, gone):
        gram = np.asarray(kernel).T @ np.asarray(kernel)
        return np.abs(gram[np.ix_(gone, ~gone)]).mean()

    better = []
    for seed in range(5):
        before, after = (jax.tree.map(lambda leaf, i=seed: leaf[i], t) for t in (dense, pushed))
        gone = {name: np.asarray(channels[seed]) for name, channels in doomed.items()}
        for name, mine in gone.items():
            assert cross(after[name]["kernel"], mine) < 0.1 * cross(before[name]["kernel"], mine)
        better.append(mean_jsv(cut(after)) > mean_jsv(cut(before)))
    assert all(better)


def cut(params):
    """The kernels when half of the hidden channels, those of lowest L1 norm, are gone."""
    kernels = [np.asarray(layer["kernel"]) for layer in params.values()]
    for i in range(len(kernels) - 1):
        kept = np.sort(np.argsort(np.abs(kernels[i]).mean(0), kind="stable")[kernels[i].shape[1] // 2 :])
        kernels[i], kernels[i + 1] = kernels[i][:, kept], kernels[i + 1][kept]
    return kernels


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("greg1", {}, r"say how many by ratio="),
        ("greg1", {"ratio": 0.0}, r"no channel to push"),
        ("greg1", {"ratio": 0.5, "every": 0}, r"every is 0; it must be at least 1"),
        ("greg1", {"ratio": 0.5, "over": "all"}, r"over is 'all'; choose one of 'producer', 'coupled'"),
        ("group_lasso", {"ratio": 0.5}, r"leave ratio out"),
        ("group_norm", {"alpha": 0.5}, r"alpha is 0.5; it must be at least 1"),
        ("slimming", {}, r"nothing to act on in these groups: no norm scales"),
        ("tpp", {"ratio": 0.5, "step": float("nan")}, r"step is nan"),
    ],
)
def test_bad_input_is_refused(name, how, message):
    with pytest.raises(ValueError, match=message):
        penalty_of(name, groups_at((4, 6, 2)), **how)


def test_what_has_no_kernel_is_refused_as_training_begins():
    with pytest.raises(ValueError, match=r"no kernel to make orthogonal among scale"):
        orthogonality.kernel_orthogonality().init({"scale": jnp.ones(3)})
    _, groups = chain_of(0, 3, 4, 2)
    rule = penalty_of("tpp", groups, ratio=0.5)
    with pytest.raises(ValueError, match=r"layer0/kernel', which is no kernel: .* no Gram matrix"):
        rule.init({"layer0/kernel": jnp.ones(4)})
    with pytest.raises(ValueError, match=r"proximal step, which is as long as the learning rate says"):
        penalty.regularized(optax.sgd(0.1), penalty_of("group_lasso_proximal", groups))


def test_the_loop_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs/regularizers.md").read_text()
    code = re.search(r"```py\n(import optax.*?)```", page, re.DOTALL).group(1)
    params, _ = chain_of(0, 3, 4, 2)
    names = {"apply": forward, "params": params, "x": jnp.ones((1, 3)), "grads": params}
    exec(code, names)
    assert names["over"].shape == ()
    assert not names["over"]
    assert jax.tree.structure(names["updates"]) == jax.tree.structure(params)


def test_a_learning_rate_may_be_a_schedule():
    params, groups = chain_of(1, 3, 5, 2)
    rule = penalty_of("group_lasso_proximal", groups, strength=0.1)
    optimizer = penalty.regularized(optax.sgd(0.0), rule, lambda step: 0.5 * (step == 1))
    state, first = optimizer.init(params), params
    for number in range(2):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        moved = any(np.abs(update).max() > 1e-4 for update in jax.tree.leaves(updates))
        assert moved == (number == 1)
        params = optax.apply_updates(params, updates)
    assert jax.tree.structure(params) == jax.tree.structure(first)
