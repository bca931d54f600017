"""Every criterion against its formula in float64 NumPy: gradients by hand, Hessians by differences of gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria.table import CRITERIA, Criterion, channel_scores, weight_scores
from prune_jax.pruning.evidence import Evidence, gatherer

# x (3) -> w (3, 4), b -> gain and shift, as behind a norm -> tanh -> v (4, 2). The loss is the mean of |y - t|^2.
RNG = np.random.default_rng(1)
PARAMS = {
    "b": RNG.normal(size=4),
    "gain": RNG.normal(size=4),
    "shift": RNG.normal(size=4),
    "v": RNG.normal(size=(4, 2)),
    "w": RNG.normal(size=(3, 4)),
}
X, T = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
ROUNDING = {"rtol": 2e-4, "atol": 2e-5}  # float32 against float64, through a few products and sums
NEEDS = {"grads", "fisher", "hessian_gradient", "synflow", "key"}


def apply(p, x):
    h = (x @ p["w"] + p["b"].reshape(1, -1)) * p["gain"].reshape(1, -1) + p["shift"].reshape(1, -1)
    return jnp.tanh(h) @ p["v"]


def loss(p, batch):
    return ((apply(p, batch[0]) - batch[1]) ** 2).sum(1).mean()


def gradient(p, x, t):
    """Back-propagation by hand, the mean over the examples."""
    z = x @ p["w"] + p["b"]
    h = np.tanh(z * p["gain"] + p["shift"])
    dy = 2 * (h @ p["v"] - t) / len(x)
    dh = (dy @ p["v"].T) * (1 - h * h)
    dz = dh * p["gain"]
    return {
        "b": dz.sum(0),
        "gain": (dh * z).sum(0),
        "shift": dh.sum(0),
        "v": h.T @ dy,
        "w": x.T @ dz,
    }


def flat(tree):
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def tree_of(vector):
    ends = np.cumsum([PARAMS[name].size for name in sorted(PARAMS)])[:-1]
    pairs = zip(sorted(PARAMS), np.split(vector, ends), strict=True)
    return {name: part.reshape(PARAMS[name].shape) for name, part in pairs}


def hessian():
    """The whole Hessian, column by column from central differences of the gradient."""
    at, step, columns = flat(PARAMS), 1e-5, []
    for k in range(at.size):
        ends = [flat(gradient(tree_of(at + sign * step * np.eye(at.size)[k]), X, T)) for sign in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(columns, 1)


@pytest.fixture(scope="module")
def facts():
    """Evidence from batches of unequal size, three examples' gradients at a time."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    groups = find_groups(apply, params, jnp.ones((1, 3)))
    gathered = gatherer(
        NEEDS, loss=loss, groups=groups, flow=lambda p: apply(p, jnp.ones((1, 3))), at_a_time=3
    )
    batches = [
        (jnp.asarray(X[s], jnp.float32), jnp.asarray(T[s], jnp.float32)) for s in (slice(5), slice(5, 7))
    ]
    return gathered(params, batches, jax.random.key(0))


def of_channels(name, evidence, **how):
    return channel_scores(CRITERIA[name], evidence, **how)["w"]


def examples():
    return [gradient(PARAMS, X[k : k + 1], T[k : k + 1]) for k in range(7)]


def test_the_norm_is_known_by_what_it_does(facts):
    (group,) = [group for group in facts.groups if group.name == "w"]
    assert group.gains == (("gain", "shift"),)
    np.testing.assert_allclose(of_channels("bn_scale", facts), np.abs(PARAMS["gain"]), **ROUNDING)


def test_taylor_gate_is_the_slope_of_the_loss_along_a_gate_behind_the_norm(facts):
    g = gradient(PARAMS, X, T)
    wanted = np.abs(PARAMS["gain"] * g["gain"] + PARAMS["shift"] * g["shift"])
    np.testing.assert_allclose(of_channels("taylor_gate", facts), wanted, **ROUNDING)
    for channel in range(4):  # the slope itself: scale and shift of one channel times 1 +- step
        ends = []
        for gate in (1 + 1e-6, 1 - 1e-6):
            p = {**PARAMS, "gain": PARAMS["gain"].copy(), "shift": PARAMS["shift"].copy()}
            p["gain"][channel] *= gate
            p["shift"][channel] *= gate
            h = np.tanh((X @ p["w"] + p["b"]) * p["gain"] + p["shift"])
            ends.append(((h @ p["v"] - T) ** 2).sum(1).mean())
        assert abs((ends[0] - ends[1]) / 2e-6) == pytest.approx(wanted[channel], abs=1e-6)


def test_fisher_of_weights_and_of_channels(facts):
    squares = {name: np.mean([g[name] ** 2 for g in examples()], 0) for name in ("w", "v")}
    scores = weight_scores(CRITERIA["fisher"], facts)
    for name in ("w", "v"):
        np.testing.assert_allclose(scores[name], PARAMS[name] ** 2 * squares[name] / 2, **ROUNDING)
    makes = np.mean([(PARAMS["w"] * g["w"]).sum(0) ** 2 for g in examples()], 0) / 2
    reads = np.mean([(PARAMS["v"] * g["v"]).sum(1) ** 2 for g in examples()], 0) / 2
    np.testing.assert_allclose(of_channels("fisher", facts), makes, **ROUNDING)
    both = of_channels("fisher", facts, over="coupled", reduce="sum")
    np.testing.assert_allclose(both, makes + reads, **ROUNDING)


def test_snip_adds_sizes_up_where_taylor_adds_signs(facts):
    products = PARAMS["w"] * gradient(PARAMS, X, T)["w"]
    np.testing.assert_allclose(of_channels("snip", facts), np.abs(products).sum(0), **ROUNDING)
    np.testing.assert_allclose(of_channels("taylor", facts), np.abs(products.sum(0)), **ROUNDING)
    np.testing.assert_allclose(weight_scores(CRITERIA["snip"], facts)["w"], np.abs(products), **ROUNDING)


def test_grasp_is_the_whole_hessian_times_the_gradient_of_all_batches(facts):
    product = tree_of(hessian() @ flat(gradient(PARAMS, X, T)))
    for name in ("w", "v"):
        scores = weight_scores(CRITERIA["grasp"], facts)[name]
        np.testing.assert_allclose(scores, PARAMS[name] * product[name], rtol=1e-3, atol=1e-3)
    wanted = (PARAMS["w"] * product["w"]).sum(0)
    np.testing.assert_allclose(of_channels("grasp", facts), wanted, rtol=1e-3, atol=1e-3)


def test_grasp_keeps_the_weights_whose_loss_lowers_the_gradients_norm(facts):
    """Larger means keep: d/d(e) of |g|^2 / 2 as one weight is multiplied by 1 - e is minus the score."""
    scores = weight_scores(CRITERIA["grasp"], facts)["v"]
    for place in itertools.product(range(4), range(2)):
        ends = []
        for e in (1e-5, -1e-5):
            p = {**PARAMS, "v": PARAMS["v"].copy()}
            p["v"][place] *= 1 - e
            ends.append((flat(gradient(p, X, T)) ** 2).sum() / 2)
        assert -(ends[0] - ends[1]) / 2e-5 == pytest.approx(scores[place], rel=2e-3, abs=2e-3)


def test_hessian_is_half_the_square_times_the_exact_diagonal():
    """Hutchinson's estimate has the exact diagonal as its mean: here within 4 standard errors of 400 draws."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    groups = find_groups(apply, params, jnp.ones((1, 3)))
    whole, draws = hessian(), 400
    gathered = gatherer({"hessian_products"}, loss=loss, groups=groups, samples=draws)
    batch = (jnp.asarray(X, jnp.float32), jnp.asarray(T, jnp.float32))
    evidence = gathered(params, [batch], jax.random.key(2))
    spread = tree_of(np.sqrt(((whole * (1 - np.eye(len(whole)))) ** 2).sum(1) / draws))
    diagonal = tree_of(np.diag(whole))
    scores = weight_scores(CRITERIA["hessian"], evidence)
    for name in ("w", "v"):
        half = PARAMS[name] ** 2 / 2
        assert (np.abs(scores[name] - half * diagonal[name]) <= half * 4 * spread[name] + 1e-5).all()
    # With the exact diagonal as evidence the scores are exact.
    exact = evidence._replace(hessian_products=diagonal)
    scores = weight_scores(CRITERIA["hessian"], exact)
    np.testing.assert_allclose(scores["w"], PARAMS["w"] ** 2 * diagonal["w"] / 2, **ROUNDING)
    wanted = (PARAMS["w"] ** 2 * diagonal["w"] / 2).sum(0)
    np.testing.assert_allclose(of_channels("hessian", exact), wanted, **ROUNDING)


def relu_chain(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["c"]


def test_synflow_is_the_share_of_all_paths_and_every_layer_adds_up_to_one():
    shapes = {"a": (3, 4), "b": (4, 5), "c": (5, 2)}
    params = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    groups = find_groups(relu_chain, params, jnp.ones((1, 3)))
    flow = gatherer({"synflow"}, flow=lambda p: relu_chain(p, jnp.ones((1, 3))))
    facts = flow(params, (), None)._replace(groups=groups)
    scores = weight_scores(CRITERIA["synflow"], facts)
    a, b, c = (np.abs(params[name].astype(np.float64)) for name in "abc")
    wanted = {name: np.zeros(shape) for name, shape in shapes.items()}
    for i, j, k, m in itertools.product(range(3), range(4), range(5), range(2)):  # every path of the network
        path = a[i, j] * b[j, k] * c[k, m]
        wanted["a"][i, j] += path
        wanted["b"][j, k] += path
        wanted["c"][k, m] += path
    total = (a @ b @ c).sum()
    for name, score in scores.items():
        np.testing.assert_allclose(score, wanted[name] / total, rtol=1e-5)
        assert score.sum() == pytest.approx(1, rel=1e-5)
    # What comes into a unit goes out of it again, so its makers' and its readers' scores agree.
    makes = channel_scores(CRITERIA["synflow"], facts)["a"]
    sums = channel_scores(CRITERIA["synflow"], facts, over="coupled", reduce="sum")["a"]
    np.testing.assert_allclose(sums, 2 * makes, rtol=1e-5)


def test_synflow_of_a_deep_network_stays_finite():
    def deep(p, x):
        for layer in p:
            x = x @ layer
        return x

    params = [np.full((8, 8), 1e3, np.float32)] * 12  # R is (8e3)^12, far beyond float32
    slopes = gatherer({"synflow"}, flow=lambda p: deep(p, jnp.ones((1, 8))))(params, (), None).synflow
    np.testing.assert_allclose(np.stack(slopes), 1 / 64 / 1e3, rtol=1e-5)


def test_a_network_without_any_path_left_has_no_flow():
    params = {"a": jnp.zeros((2, 2)), "c": jnp.ones((2, 1))}
    flow = gatherer({"synflow"}, flow=lambda p: jnp.ones((1, 2)) @ p["a"] @ p["c"])
    assert not np.any(flow(params, (), None).synflow["c"])


def test_lamp_by_hand_and_by_its_definition():
    # Squares 1 4 9 16, of which are left 30, 29, 25 and 16.
    params = {"w": np.array([[2.0, -3.0], [1.0, 4.0]], np.float32)}
    scores = weight_scores(CRITERIA["lamp"], Evidence(params))["w"]
    np.testing.assert_allclose(scores, [[4 / 29, 9 / 25], [1 / 30, 1]], rtol=1e-6)
    squares = (PARAMS["w"] ** 2).ravel()
    wanted = [s / squares[squares >= s].sum() for s in squares]
    facts = Evidence(PARAMS, find_groups(apply, PARAMS, np.ones((1, 3))))
    np.testing.assert_allclose(weight_scores(CRITERIA["lamp"], facts)["w"].ravel(), wanted, rtol=1e-12)
    norms = (PARAMS["w"] ** 2).sum(0)
    wanted = [s / norms[norms >= s].sum() for s in norms]
    np.testing.assert_allclose(of_channels("lamp", facts), wanted, rtol=1e-12)


def test_lamp_in_float32_is_its_definition_with_ties_in_float64():
    values = np.round(np.random.default_rng(3).normal(size=(40, 50)), 2).astype(
        np.float32
    )  # a few hundred sizes
    squares = (values * values).ravel()
    order = sorted(range(squares.size), key=lambda k: (squares[k], k))  # of equal ones the earlier is less
    wanted, left = np.zeros(squares.size), 0.0
    for k in reversed(order):
        left += float(squares[k])
        wanted[k] = float(squares[k]) / left
    found = weight_scores(CRITERIA["lamp"], Evidence({"w": values}))["w"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-7)  # half a unit in float32's last place


def test_lamp_ranks_as_magnitude_does_within_a_layer():
    facts = Evidence(PARAMS, find_groups(apply, PARAMS, np.ones((1, 3))))
    lamp, size = (weight_scores(CRITERIA[name], facts)["w"].ravel() for name in ("lamp", "l1"))
    np.testing.assert_array_equal(np.argsort(lamp), np.argsort(size))
    equal = weight_scores(CRITERIA["lamp"], Evidence({"w": np.ones((2, 2), np.float32)}))["w"]
    np.testing.assert_allclose(equal.ravel(), [1 / 4, 1 / 3, 1 / 2, 1], rtol=1e-6)  # the earlier goes first
    assert not weight_scores(CRITERIA["lamp"], Evidence({"w": np.zeros((2, 2), np.float32)}))["w"].any()


def glu(p, x):
    gate, h = jnp.split(x @ p["w"] + p["b"].reshape(1, -1), 2, -1)
    return (jnp.tanh(gate) * h) @ p["v"]


def test_fpgm_of_filters_that_nearly_coincide_is_off_by_a_thousandth_of_their_size_at_most():
    rng = np.random.default_rng(5)
    near = 1 + rng.normal(scale=1e-4, size=(30, 64))  # inputs, channels: distances of about 1e-3
    w = np.concatenate([near, rng.normal(size=(30, 4))], 1).astype(np.float32)
    params = {"w": w, "c": np.ones((68, 1), np.float32)}
    facts = Evidence(
        params, find_groups(lambda p, x: x @ p["w"] @ p["c"], params, np.ones((1, 30), np.float32))
    )
    filters = w.T.astype(np.float64)
    wanted = np.linalg.norm(filters[:, None] - filters[None], axis=2)
    largest = np.linalg.norm(filters - filters.mean(0), axis=1).max()
    np.testing.assert_allclose(of_channels("fpgm", facts), wanted.sum(1), atol=1e-3 * largest * 67)


def test_fpgm_adds_the_distances_between_filters_up():
    params = {"w": RNG.normal(size=(3, 8)), "b": RNG.normal(size=8), "v": RNG.normal(size=(4, 2))}
    facts = Evidence(params, find_groups(glu, params, np.ones((1, 3))))
    filters = [
        np.concatenate([params["w"][:, c], params["w"][:, c + 4]]) for c in range(4)
    ]  # two columns each
    wanted = [sum(np.linalg.norm(one - other) for other in filters) for one in filters]
    np.testing.assert_allclose(of_channels("fpgm", facts), wanted, rtol=1e-12)
    reads = [sum(np.linalg.norm(one - other) for other in params["v"]) for one in params["v"]]
    both = of_channels("fpgm", facts, over="coupled", reduce="max")
    np.testing.assert_allclose(both, np.maximum(wanted, reads), rtol=1e-12)


REDUCED = {
    "mean": lambda makes, reads: (makes + reads) / 2,
    "sum": np.add,
    "max": np.maximum,
    "product": np.multiply,
    "first": lambda makes, reads: makes,
}


@pytest.mark.parametrize("reduce", REDUCED)
def test_scores_of_coupled_slices_are_reduced_to_one(reduce):
    facts = Evidence(PARAMS, find_groups(apply, PARAMS, np.ones((1, 3))))
    for name, along in {
        "l1": lambda kernel, axis: np.abs(kernel).mean(axis),
        "l2": lambda kernel, axis: np.sqrt((kernel**2).mean(axis)),
    }.items():
        wanted = REDUCED[reduce](along(PARAMS["w"], 0), along(PARAMS["v"], 1))
        found = of_channels(name, facts, over="coupled", reduce=reduce)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)  # biases and norms are no slices


def test_over_and_reduce_that_make_no_sense_are_refused():
    facts = Evidence(PARAMS, find_groups(apply, PARAMS, np.ones((1, 3))))
    for how, words in {
        ("coupled", "mode"): "reduce is 'mode'; choose one of 'mean', 'sum', 'max', 'product', 'first'",
        ("group", "mean"): "over is 'group'; choose one of 'producer', 'coupled'",
        ("producer", "sum"): "over 'producer' is one slice",
    }.items():
        with pytest.raises(ValueError, match=words):
            of_channels("l1", facts, over=how[0], reduce=how[1])
    with pytest.raises(ValueError, match="'bn_scale' scores a channel as a whole"):
        of_channels("bn_scale", facts, over="coupled")
    own = Criterion(lambda evidence: {"w": np.ones(4)}, "channel")
    with pytest.raises(ValueError, match="as a whole"):
        channel_scores(own, facts, over="coupled")
