"""Criteria on a decoder: channels of heads, inner and residual width; masks; layer after layer; against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import find_groups, models
from prune_jax.pruning.criteria.table import CRITERIA, channel_scores
from prune_jax.pruning.evidence import gather
from prune_jax.pruning.heads import head_groups
from prune_jax.pruning.in_turn import mask_in_turn

SIZES = {"hidden": 8, "depth": 2, "heads": 4, "kv_heads": 2, "head_dim": 4, "mlp": 16}
TOKENS = np.random.default_rng(1).integers(0, 11, (3, 6)).astype(np.int32)
KERNELS = [*(f"attention/{name}" for name in "qkvo"), "mlp/gate", "mlp/up", "mlp/down"]


@functools.cache
def network(scan=False):
    net = models.functional(models.abstract("decoder", num_classes=11, input_shape=(6,), scan=scan, **SIZES))
    rng = np.random.default_rng(0)
    numbers = jax.tree.map(lambda s: rng.uniform(-1, 1, s.shape).astype("float32"), net.variables["params"])
    return numbers, lambda params, tokens: net.apply({"params": params, "batch_stats": {}}, tokens)


@pytest.fixture(scope="module")
def facts():
    params, apply = network()
    groups = find_groups(apply, params, TOKENS)

    def loss(params, batch):
        return (apply(params, batch) ** 2).mean()

    needs = {"grads", "inputs", "activations", "example_activations"}
    return gather(needs, params, [TOKENS], loss=loss, apply=apply, groups=groups)


def test_heads_are_key_and_value_heads(facts):
    heads = head_groups(facts.groups, facts.params)
    assert {(group.name, group.size) for group in heads} == {(f"blocks/{i}/attention/q", 2) for i in (0, 1)}


@pytest.mark.parametrize("name", ["l1", "taylor", "activation", "wanda"])
def test_criteria_score_heads_inner_and_residual_width(name, facts):
    scores = channel_scores(CRITERIA[name], facts)
    wanted = {
        "blocks/0/attention/q": 2,
        "blocks/1/attention/q": 2,
        "blocks/0/mlp/gate": 16,
        "blocks/1/mlp/gate": 16,
    }
    assert {key: scores[key].shape for key in wanted} == {key: (size,) for key, size in wanted.items()}
    assert all(np.isfinite(score).all() and len(set(score.tolist())) > 1 for score in scores.values())


def test_residual_width_by_activation_is_that_of_the_embeddings(facts):
    scores = channel_scores(CRITERIA["activation"], facts)["embed"]
    table = np.asarray(facts.params["embed"]["embedding"], np.float64)
    made = np.abs(table[TOKENS]).mean(1)
    np.testing.assert_allclose(scores, np.sqrt((made**2).sum(0)), rtol=1e-5)


def test_wanda_of_an_inner_channel_is_of_what_down_reads(facts):
    scores = channel_scores(CRITERIA["wanda"], facts)["blocks/1/mlp/gate"]
    known = facts.inputs["blocks/1/mlp/down/kernel"]
    norm = np.sqrt(np.asarray(known.square, np.float64))[0]
    kernel = np.abs(np.asarray(facts.params["blocks"][1]["mlp"]["down"]["kernel"], np.float64))
    np.testing.assert_allclose(scores, (kernel * norm[:, None]).mean(1), rtol=1e-5)


def masked(name, granularity, scan=False, **how):
    params, apply = network(scan)
    ratio = 0.5 if granularity == "unstructured" else None
    return mask_in_turn(
        apply, params, [TOKENS], criterion=CRITERIA[name], granularity=granularity, ratio=ratio, **how
    )


BY_BLOCK = [("blocks/0/*",), ("blocks/1/*",)]
ALL = [("blocks/*",)]


@pytest.mark.parametrize("name", ["l1", "wanda", "ria", "sparsegpt"])
@pytest.mark.parametrize("granularity", ["unstructured", "2:4", "4:8"])
def test_half_of_every_kernel_goes_along_its_inputs(name, granularity):
    params, mask = masked(name, granularity, steps=ALL)
    for block in (0, 1):
        for kernel in KERNELS:
            part, layer = kernel.split("/")
            mine = np.asarray(mask["blocks"][block][part][layer]["kernel"])
            values = np.asarray(params["blocks"][block][part][layer]["kernel"])
            assert not values[~mine].any()
            assert mine.sum() * 2 == mine.size
            if granularity != "unstructured":
                # (inputs, outputs): sparse tensor cores want N of each M consecutive entries of a row of its
                # transpose, the matrix (outputs, inputs) that they multiply inputs with.
                kept, of = map(int, granularity.split(":"))
                rows = mine.T.reshape(mine.shape[1], -1, of)
                assert (rows.sum(-1) == kept).all()
    assert np.asarray(mask["embed"]["embedding"]).all()
    assert np.asarray(mask["head"]["kernel"]).all()


def test_stacked_kernels_go_along_their_inputs_too():
    _, mask = masked("wanda", "2:4", scan=True, steps=[("blocks/attention/?", "blocks/mlp/*")])
    for kernel in KERNELS:
        part, layer = kernel.split("/")
        mine = np.asarray(mask["blocks"][part][layer]["kernel"])
        rows = mine.transpose(0, 2, 1).reshape(2, mine.shape[2], -1, 4)
        assert (rows.sum(-1) == 2).all()


def two_layers():
    rng = np.random.default_rng(3)
    params = {"a": rng.normal(size=(6, 8)), "b": rng.normal(size=(8, 5))}
    return params, rng.normal(size=(20, 6))


def apply_two(params, x):
    return jnp.maximum(x @ params["a"], 0) @ params["b"]


def wanda_mask(weights, inputs):
    """Half of each output's weights, the lowest |w| norm(x)."""
    scores = np.abs(weights) * np.linalg.norm(inputs, axis=0)[:, None]
    return np.argsort(np.argsort(scores, 0, kind="stable"), 0, kind="stable") >= len(weights) // 2


def test_wanda_in_turn_reads_what_the_pruned_layer_makes():
    params, x = two_layers()
    first = wanda_mask(params["a"], x)
    made = np.maximum(x @ (params["a"] * first), 0)
    second = wanda_mask(params["b"], made)
    dense = wanda_mask(params["b"], np.maximum(x @ params["a"], 0))
    assert (second != dense).any()  # the order matters here
    with jax.enable_x64(True):
        small, mask = mask_in_turn(apply_two, params, [x], criterion=CRITERIA["wanda"], ratio=0.5)
    np.testing.assert_array_equal(mask["a"], first)
    np.testing.assert_array_equal(mask["b"], second)
    np.testing.assert_array_equal(small["b"], params["b"] * second)


def obs(weights, gram):
    """SparseGPT by its definition: inverse Hessians of what is left, one input after another; half of all weights."""
    hessian = gram + 0.01 * np.mean(np.diag(gram)) * np.eye(len(gram))
    inverses = [np.linalg.inv(hessian[j:, j:]) for j in range(len(gram))]
    scores = np.stack([weights[j] ** 2 / inverses[j][0, 0] for j in range(len(gram))])
    stays = np.ones(weights.size, bool)
    stays[np.argsort(scores.ravel(), kind="stable")[: weights.size // 2]] = False
    stays, new = stays.reshape(weights.shape), weights.copy()
    for j, inverse in enumerate(inverses):
        error = np.where(stays[j], 0, new[j]) / inverse[0, 0]
        new[j:] -= np.outer(inverse[:, 0], error)
    return np.where(stays, new, 0), stays


def test_sparsegpt_in_turn_compensates_for_the_pruned_inputs():
    params, x = two_layers()
    first, _ = obs(params["a"], x.T @ x)
    made = np.maximum(x @ first, 0)
    second, stays = obs(params["b"], made.T @ made)
    with jax.enable_x64(True):
        small, mask = mask_in_turn(apply_two, params, [x], criterion=CRITERIA["sparsegpt"], ratio=0.5)
    np.testing.assert_allclose(small["a"], first, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(mask["b"], stays)
    np.testing.assert_allclose(small["b"], second, rtol=1e-6, atol=1e-9)


def test_blocks_of_a_decoder_in_turn_are_those_of_two_calls():
    whole, mask = masked("wanda", "2:4", steps=BY_BLOCK)
    half, first = masked("wanda", "2:4", steps=BY_BLOCK[:1])
    apply = network()[1]
    again, second = mask_in_turn(
        apply, half, [TOKENS], criterion=CRITERIA["wanda"], granularity="2:4", steps=BY_BLOCK[1:]
    )
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    both = jax.tree.map(np.logical_and, first, second)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(*np.broadcast_arrays(a, b)), mask, both)
    at_once = masked("wanda", "2:4", steps=ALL)[1]
    differs = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), mask, at_once)
    assert not any(jax.tree.leaves(differs["blocks"][0]))
    assert any(jax.tree.leaves(differs["blocks"][1]))


def test_calibration_on_nothing_and_a_layer_twice_are_refused():
    params, x = two_layers()
    with pytest.raises(ValueError, match=r"no calibration batches.*give at least one"):
        mask_in_turn(apply_two, params, [], criterion=CRITERIA["wanda"], ratio=0.5)
    with pytest.raises(ValueError, match="without batches the order of the layers is unknown"):
        mask_in_turn(apply_two, params, [], criterion=CRITERIA["l1"], ratio=0.5)
    with pytest.raises(ValueError, match="layer 'a' is in steps 0 and 1"):
        mask_in_turn(apply_two, params, [x], criterion=CRITERIA["l1"], ratio=0.5, steps=[("a",), ("*",)])
