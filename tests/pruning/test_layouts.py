"""N:M, blocks, ERK and heads: worked cases, and plain loops as the oracle."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import models
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.granularity import ceiling, select, select_each
from prune_jax.pruning.heads import head_groups
from prune_jax.pruning.inputs.axis_check import refuse_other_orders
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.blocks import block_counts, block_mask
from prune_jax.pruning.layouts.erk import erk_ratios
from prune_jax.pruning.layouts.n_of_m import Pattern, n_of_m_mask, pattern_of, refuse_misfit
from prune_jax.pruning.layouts.unstructured import kernels
from prune_jax.pruning.module.prune import prune


def draw(*shape, seed=0):
    """Scores of few values, so that ties are common."""
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.float32)


def one(kernel):
    return {"a": {"kernel": kernel}}, {"a/kernel": kernel}


@pytest.mark.parametrize(("axis", "gone"), [(0, 1), (1, 2), (-1, 3), (2, 0), (2, 4)])
def test_each_line_is_selected_as_select_does_it(axis, gone):
    scores = draw(4, 4, 4)
    wanted = np.apply_along_axis(lambda line: select(line, gone), axis, scores)
    np.testing.assert_array_equal(select_each(scores, gone, axis), wanted)


def test_a_long_line_is_selected_too():
    line = draw(1, 300)
    np.testing.assert_array_equal(select_each(line, 290)[0], select(line[0], 290))


def test_lines_of_bfloat16_and_of_nan():
    scores = jnp.asarray([[1, 2, 3, 4]], jnp.bfloat16)
    np.testing.assert_array_equal(select_each(scores, 2), [[False, False, True, True]])
    with pytest.raises(ValueError, match="NaN"):
        select_each(np.array([[1.0, np.nan]]), 1)
    with pytest.raises(ValueError, match="3 of every 2"):
        select_each(np.ones((1, 2)), 3)


def test_two_of_four_by_hand():
    params, scores = one(np.array([[4, 1], [3, 1], [2, 1], [1, 1], [5, 9], [6, 0], [7, 8], [8, 8.0]]))
    mask = n_of_m_mask(params, scores, Pattern(2, 4))["a"]["kernel"]
    np.testing.assert_array_equal(mask[:, 0], [1, 1, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(
        mask[:, 1], [0, 0, 1, 1, 1, 0, 0, 1]
    )  # of equal ones the first go: 8 before 8


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 8), (7, 8)])
def test_a_convolution_counts_along_its_inputs(n, m):
    kernel = draw(3, 2, 16, 5)
    params, scores = one(kernel)
    mask = n_of_m_mask(params, scores, Pattern(n, m))["a"]["kernel"]
    for y, x, o in np.ndindex(3, 2, 5):
        for start in range(0, 16, m):
            line = kernel[y, x, start : start + m, o]
            stays = sorted(range(m), key=lambda i: (line[i], i))[m - n :]
            np.testing.assert_array_equal(np.flatnonzero(mask[y, x, start : start + m, o]), sorted(stays))


def test_an_attention_kernel_contracts_over_heads_and_their_outputs():
    params = {"out": {"kernel": draw(2, 6, 5)}, "query": {"kernel": draw(8, 2, 6)}}
    scores = {"out/kernel": params["out"]["kernel"], "query/kernel": params["query"]["kernel"]}
    mask = n_of_m_mask(params, scores, Pattern(1, 4))
    assert (mask["out"]["kernel"].reshape(3, 4, 5).sum(1) == 1).all()
    assert (mask["query"]["kernel"].reshape(2, 4, 12).sum(1) == 1).all()


def test_a_length_that_m_does_not_divide():
    params, scores = one(np.array([[4.0], [3.0], [2.0], [1.0], [5.0], [6.0], [7.0]]))
    with pytest.raises(ValueError, match="'a', which contracts over 7 inputs, no multiple of 4"):
        n_of_m_mask(params, scores, Pattern(2, 4))
    padded = n_of_m_mask(params, scores, Pattern(2, 4), pad=True)["a"]["kernel"]
    np.testing.assert_array_equal(padded[:, 0], [1, 1, 0, 0, 0, 1, 1])
    short = n_of_m_mask(*one(np.array([[4.0], [3.0]])), Pattern(2, 4), pad=True)["a"]["kernel"]
    assert short.all()  # r = 2 weights, n = 2 stay
    refuse_misfit(params, Pattern(2, 7))


def test_what_a_mask_before_pruned_counts():
    params, scores = one(np.array([[4.0], [3.0], [2.0], [1.0]]))
    before = {"a": {"kernel": np.array([[False], [True], [True], [True]])}}
    mask = n_of_m_mask(params, scores, Pattern(2, 4), before=before)["a"]["kernel"]
    np.testing.assert_array_equal(mask[:, 0], [0, 1, 1, 0])
    more = n_of_m_mask(params, scores, Pattern(3, 4), before={"a": {"kernel": np.zeros((4, 1), bool)}})
    assert not more["a"]["kernel"].any()


def test_other_leaves_and_layers_stay_as_they_are():
    params = {"a": {"kernel": draw(4, 3), "bias": draw(3)}, "b": {"kernel": draw(5, 3)}}
    mask = n_of_m_mask(params, {"a/kernel": params["a"]["kernel"]}, Pattern(2, 4), where=("a",))
    assert mask["a"]["bias"].shape == (1,)
    assert mask["b"]["kernel"].shape == (1, 1)


@pytest.mark.parametrize("text", ["4:2", "0:4", "4:4", "2-4", "a:b", "2:4:8"])
def test_what_is_no_pattern(text):
    with pytest.raises(ValueError, match="is no pattern N:M"):
        pattern_of(text)


def test_blocks_by_hand():
    kernel = np.array([[9, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 1.0]])  # means 2.25 1 / 2 0.25
    mask = block_mask(*one(kernel), 0.5, (2, 2))["a"]["kernel"]
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0]] * 4)
    tied = block_mask(*one(np.ones((4, 4))), 0.75, (2, 2))["a"]["kernel"]
    np.testing.assert_array_equal(tied, [[0] * 4] * 2 + [[0, 0, 1, 1]] * 2)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_blocks_of_convolutions_against_a_loop(scope):
    params = {"a": {"kernel": draw(2, 1, 4, 6)}, "b": {"kernel": draw(6, 4, seed=1)}}
    scores = {f"{name}/kernel": layer["kernel"] for name, layer in params.items()}
    mask = block_mask(params, scores, 0.4, (2, 2), scope=scope)
    means = {}
    for name, layer in params.items():
        kernel = layer["kernel"].reshape(-1, *layer["kernel"].shape[-2:])
        for p, i, o in np.ndindex(kernel.shape[0], kernel.shape[1] // 2, kernel.shape[2] // 2):
            means[name, p, i, o] = kernel[p, 2 * i : 2 * i + 2, 2 * o : 2 * o + 2].mean(dtype=np.float64)
    pools = [["a", "b"]] if scope == "global" else [["a"], ["b"]]
    for names in pools:
        mine = [key for key in means if key[0] in names]
        gone = sorted(mine, key=lambda key: means[key])[: math.ceil(0.4 * len(mine))]
        for key in mine:
            name, p, i, o = key
            got = mask[name]["kernel"].reshape(-1, *params[name]["kernel"].shape[-2:])
            assert (got[p, 2 * i : 2 * i + 2, 2 * o : 2 * o + 2] == (key not in gone)).all()


def test_blocks_that_do_not_fit():
    params, scores = one(np.arange(15.0).reshape(3, 5))
    with pytest.raises(
        ValueError, match=r"block \(2, 2\) doesn't fit layer 'a', which has 3 inputs and 5 outputs"
    ):
        block_mask(params, scores, 0.5, (2, 2))
    mask = block_mask(params, scores, 0.5, (2, 2), pad=True)["a"]["kernel"]
    np.testing.assert_array_equal(mask, [[0] * 5] * 2 + [[1] * 5])  # means 3 5 6.5 / 10.5 12.5 14
    assert block_counts(params, (2, 2), pad=True) == {"a": 6}
    with pytest.raises(ValueError, match="two whole numbers"):
        block_counts(params, (2, 0))


def test_a_block_without_a_living_weight_counts_as_pruned():
    before = {"a": {"kernel": np.repeat([[True, True, False, False]], 2, 0)}}
    params, scores = one(np.array([[1, 1, 9, 9, 2, 2, 3, 3]] * 2, float))
    before["a"]["kernel"] = np.repeat([[True, True, False, False, True, True, True, True]], 2, 0)
    mask = block_mask(params, scores, 0.5, (2, 2), before=before)["a"]["kernel"]
    np.testing.assert_array_equal(mask, [[0, 0, 0, 0, 1, 1, 1, 1]] * 2)


def test_erk_by_hand():
    # Raw densities (2+2)/4 = 1, (4+8)/32 = 3/8. At 3/4: 9 of 36 stay; eps = 9/16, so 2.25 and 6.75: 2 and 7.
    assert erk_ratios({"a": (2, 2), "b": (4, 8)}, 0.75) == {"a": 0.5, "b": 25 / 32}
    # A convolution 3x3x4x8: raw (3+3+4+8)/288 = 1/16; dense 8x4: 12/32. eps = 32/(18+12): 19.2 and 12.8.
    assert erk_ratios({"conv": (3, 3, 4, 8), "dense": (8, 4)}, 0.9) == {"conv": 269 / 288, "dense": 19 / 32}


def test_erk_caps_twice():
    # 40 of 4 + 16 + 64: raw 1, 1/2, 1/4, sums 4, 8, 16: eps = 40/28 caps a; then 36/24 = 1.5: 12 and 24.
    assert erk_ratios({"a": (2, 2), "b": (4, 4), "c": (8, 8)}, 44 / 84) == {"a": 0, "b": 4 / 16, "c": 40 / 64}
    # 60 stay: eps = 60/28 caps a and b (raw 1/2 * 2.14); c keeps 40.
    assert erk_ratios({"a": (2, 2), "b": (4, 4), "c": (8, 8)}, 24 / 84) == {"a": 0, "b": 0, "c": 24 / 64}


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.83, 0.95, 0.99, 0.999, 1.0])
def test_erk_meets_the_overall_ratio(ratio):
    shapes = {"a": (3, 3, 3, 16), "b": (3, 3, 16, 32), "c": (1, 1, 32, 7), "d": (7, 10)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    found = erk_ratios(shapes, ratio)
    gone = {name: ceiling(found[name], size) for name, size in sizes.items()}
    assert sum(gone.values()) == min(ceiling(ratio, sum(sizes.values())), sum(sizes.values()) - 4)
    assert all(gone[name] < size for name, size in sizes.items())


def test_erk_of_large_layers_is_exact():
    shapes = {"fc6": (25088, 4096), "fc7": (4096, 4096)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    found = erk_ratios(shapes, 0.9)
    assert sum(ceiling(found[n], sizes[n]) for n in shapes) == ceiling(0.9, sum(sizes.values()))
    assert ceiling(found["fc7"], sizes["fc7"]) / sizes["fc7"] == pytest.approx(found["fc7"])


class Heads(nnx.Module):
    """Two attention layers of one network: Flax's, and one that reshapes what dense layers put out."""

    def __init__(self, rngs):
        self.stem = nnx.Linear(6, 8, rngs=rngs)
        self.att = nnx.MultiHeadAttention(4, 8, qkv_features=12, decode=False, rngs=rngs)
        self.q, self.k, self.v = (nnx.Linear(8, 10, rngs=rngs) for _ in range(3))
        self.out = nnx.Linear(10, 8, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        x = x + self.att(x)
        q, k, v = (layer(x).reshape(*x.shape[:2], 5, 2) for layer in (self.q, self.k, self.v))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        x = x + self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], 10))
        return self.head(x.mean(1))


def test_heads_are_found_whatever_their_form():
    network = models.functional(nnx.eval_shape(lambda: Heads(nnx.Rngs(0))))
    groups = find_groups(network.apply, network.variables, jax.ShapeDtypeStruct((1, 5, 6), "float32"))
    found = head_groups(groups, network.variables)
    assert [(group.name, group.size) for group in found] == [("att/query/kernel:1", 4), ("q", 5)]


class Cell(nnx.Module):
    """A gated unit: each channel has two places on the axis that makes it, apart."""

    def __init__(self, rngs):
        self.gates, self.head = nnx.Linear(4, 12, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        a, b = jnp.split(self.gates(x), 2, -1)
        return self.head(a * jax.nn.sigmoid(b))


def test_gates_and_convolutions_are_no_heads():
    cell = models.functional(nnx.eval_shape(lambda: Cell(nnx.Rngs(0))))
    groups = find_groups(cell.apply, cell.variables, jax.ShapeDtypeStruct((1, 4), "float32"))
    assert any(group.frozen is None for group in groups)
    with pytest.raises(ValueError, match="no group's channels are attention heads, groups are gates"):
        head_groups(groups, cell.variables)


@functools.cache
def small(width=8):
    return drawn(
        lambda rngs: nnx.Sequential(nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs))
    )


def test_one_call_masks_by_a_pattern_and_by_blocks():
    pruned = prune(small(), jnp.ones((1, 4)), granularity="2:4")
    kernel = np.asarray(pruned.model.layers[1].kernel[...])
    assert ((kernel.reshape(2, 4, 3) != 0).sum(1) == 2).all()
    assert pruned.after.params == pruned.before.params - (32 + 24) // 2
    blocks = prune(small(), jnp.ones((1, 4)), granularity="block", block=(2, 2), ratio=0.5, layers="layers/0")
    kernel = np.asarray(blocks.model.layers[0].kernel[...]).reshape(2, 2, 4, 2)
    assert sorted((kernel != 0).sum((1, 3)).reshape(-1)) == [0] * 4 + [4] * 4


def test_one_call_prunes_whole_heads():
    x = jnp.ones((1, 5, 6))
    pruned = prune(drawn(Heads), x, granularity="head", ratio=0.5)
    assert {name: len(kept) for name, kept in pruned.keep.items()} == {"att/query/kernel:1": 2, "q": 2}
    shapes = {path: leaf.shape for path, leaf in leaf_paths(pruned.variables)}
    assert [shape for path, shape in shapes.items() if path.startswith("q/kernel")] == [(8, 4)]
    assert pruned.model(x).shape == (1, 3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"granularity": "2:4", "ratio": 0.5}, "says how much goes; leave ratio out"),
        ({"granularity": "4:4"}, "no pattern N:M"),
        ({"granularity": "2:4", "scope": "global"}, "all layers lose alike"),
        ({"granularity": "2:3"}, "contracts over 4 inputs"),
        ({"granularity": "block"}, "give one of ratio, speedup and keep"),
        ({"granularity": "block", "ratio": 0.5, "block": (0, 2)}, "two whole numbers"),
        ({"granularity": "block", "speedup": 2.0}, "which takes a ratio"),
        ({"granularity": "head", "ratio": 0.5}, "no group's channels are attention heads"),
        ({"granularity": "filters", "ratio": 0.5}, "granularity is 'filters'; did you mean 'filter'"),
    ],
)
def test_one_call_refuses_what_does_not_fit(how, message):
    with pytest.raises(ValueError, match=message):
        prune(small(), jnp.ones((1, 4)), **how)


def torch_like(params, x):
    """A network whose kernels lie as (outputs, inputs)."""
    return jax.nn.relu(x @ params["a"].T) @ params["b"].T


def test_a_kernel_in_another_order_is_refused_by_name():
    params = {"a": draw(8, 4), "b": draw(4, 8)}
    with pytest.raises(ValueError, match=r"layer 'a' sums over axes \[1\] of its kernel of shape \(8, 4\)"):
        prune((torch_like, params), jnp.ones((1, 4)), granularity="2:4")
    with pytest.raises(ValueError, match="layer 'a' sums over axes"):
        prune((torch_like, params), jnp.ones((1, 4)), granularity="block", block=(2, 2), ratio=0.5)


def test_every_network_of_the_catalog_lies_as_it_is_read():
    for name in ("resnet8", "lenet5", "mlp7_relu"):
        side, channels = (28, 1) if name == "lenet5" else (8, 3)
        module = models.abstract(name, num_classes=10, input_shape=(side, side, channels))
        network = models.functional(module)
        paths = kernels(network.variables)
        x = jax.ShapeDtypeStruct((1, side, side, channels), "float32")
        refuse_other_orders(network.apply, network.variables, x, paths=paths)
    attention = models.functional(nnx.eval_shape(lambda: Heads(nnx.Rngs(0))))
    x = jax.ShapeDtypeStruct((1, 5, 6), "float32")
    paths = {name: path for name, path in kernels(attention.variables).items() if path.endswith("kernel")}
    refuse_other_orders(attention.apply, attention.variables, x, paths=paths)
    bias = {"bias": "params/att/query/bias"}  # (heads, outputs of a head), which nothing sums over
    with pytest.raises(ValueError, match="'bias' multiplies data nowhere"):
        refuse_other_orders(attention.apply, attention.variables, x, paths=bias)
    with pytest.raises(ValueError, match="'table' multiplies data nowhere that a trace can follow"):
        refuse_other_orders(
            lambda v, i: v["table"][i], {"table": draw(5, 4)}, jnp.ones(3, int), paths={"table": "table"}
        )
