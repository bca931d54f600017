"""How scores come about in a config: criteria, slices, iterations, kinds of groups; recomputed in NumPy after a run."""

import jax
import numpy as np
import pytest
from small_runs import context_of, mlp_config

from prune_jax.experiment import dry_run, specs
from prune_jax.experiment.chain import restore, run, sparsify
from prune_jax.experiment.config import sweep
from prune_jax.experiment.training.cohort import member_key


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One workdir for the file: the base model is trained once."""
    return tmp_path_factory.mktemp("runs")


def planned(digits, **changes):
    config = mlp_config()
    config.seeds, config.pretrain.epochs, config.retrain.epochs = (0,), 1, 1
    config.sparsify.evidence = {"batches": 2, "batch_size": 32}
    changes = {f"sparsify.{key}": value for key, value in changes.items()}
    (arm,) = sweep.plan_arms(sweep.override(config, changes), None, digits)
    return arm


def acted(root, digits, **changes):
    """The networks before and after the sparsifying action of a run."""
    arm = planned(digits, **changes)
    context = context_of(root, digits, arm)
    run.run_chain(context, arm)
    before, after = (restore.load(context.store, its_id) for its_id in arm.ids[0][:2])
    return arm, before, after


def layers(network, kind="kernel"):
    params = network.variables["params"]
    found = [params["layers"][i] for i in sorted(params["layers"])] + [params["head"]]
    return [np.asarray(layer[kind], np.float64) if kind in layer else np.zeros(1) for layer in found]


def flows(kernels, biases):
    """abs(w) dR/dw, R the outputs' sum of the network with absolute values on 64 ones; no ReLU ever closes."""
    kernels, biases = [np.abs(w) for w in kernels], [np.abs(b) for b in biases]
    lefts, right = [np.ones(64)], np.ones(kernels[-1].shape[1])
    for w, b in zip(kernels, biases, strict=True):
        lefts.append(lefts[-1] @ w + b)
    out = []
    for left, w in zip(lefts[-2::-1], reversed(kernels), strict=True):
        out.append(left[:, None] * w * right)
        right = w @ right
    return out[::-1]


@pytest.mark.slow
def test_a_hundred_iterations_of_synflow_on_single_weights(root, digits):
    how = {"criterion": "synflow", "granularity": "unstructured", "allocation": "global"}
    arm, before, after = acted(root, digits, **how, iterations=100, ratio=0.9, layers=("*",))
    assert arm.chain[1].evidence is None  # no data are read
    kernels, biases = layers(before), layers(before, "bias")
    masks, total = [np.ones(w.shape, bool) for w in kernels], sum(w.size for w in kernels)
    for k in range(1, 101):
        scores = flows([w * m for w, m in zip(kernels, masks, strict=True)], biases)
        ranked = np.concatenate([np.where(m, s, -1).ravel() for m, s in zip(masks, scores, strict=True)])
        flat = np.ones(total, bool)
        flat[np.argsort(ranked, kind="stable")[: int(np.ceil(total * (1 - 0.1 ** (k / 100)) - 1e-9))]] = False
        ends = np.cumsum([w.size for w in kernels])[:-1]
        masks = [part.reshape(w.shape) for part, w in zip(np.split(flat, ends), kernels, strict=True)]
    params = after.mask
    found = [params["layers"][i]["kernel"] for i in sorted(params["layers"])] + [params["head"]["kernel"]]
    wrong = sum(int(np.sum(np.asarray(m) != wanted)) for m, wanted in zip(found, masks, strict=True))
    assert wrong <= total // 100  # of scores that float32 can't tell apart one or two may change places
    assert sum(int(np.sum(~np.asarray(m))) for m in found) == np.ceil(0.9 * total - 1e-9)


def per_example_sums(before, digits):
    """(sum of w g over a unit's incoming weights)^2 / 2, the mean over the examples, by hand."""
    arm = planned(digits)
    rows = np.asarray(jax.random.permutation(member_key(0, "evidence"), len(digits.train.labels))[:64])
    images = np.asarray(digits.train.images, np.float64)[rows]
    data = arm.chain[0].data
    x = ((images / 255 - np.asarray(data.mean)) / np.asarray(data.std)).reshape(64, -1)
    kernels, biases = layers(before), layers(before, "bias")
    inputs, h = [], x
    for k, (w, b) in enumerate(zip(kernels, biases, strict=True)):
        inputs.append(h)
        h = h @ w + b
        h = h if k == len(kernels) - 1 else np.maximum(h, 0)
    p = np.exp(h - h.max(1, keepdims=True))
    error = p / p.sum(1, keepdims=True) - np.eye(10)[np.asarray(digits.train.labels)[rows]]
    scores = []
    for w, left in zip(reversed(kernels), reversed(inputs), strict=True):
        scores.append((((left @ w) * error) ** 2).mean(0) / 2)  # sum over i of x_i w_ij e_j, squared
        error = (error @ w.T) * (left > 0)
    return scores[::-1]


@pytest.mark.slow
def test_fisher_in_two_iterations_cuts_what_scoring_twice_says(root, digits):
    _, before, after = acted(root, digits, criterion="fisher", iterations=2, ratio=0.6)
    first = per_example_sums(before, digits)[:2]
    kept = [np.sort(np.argsort(scores)[4:]) for scores in first]  # 10 -> 10 * sqrt(0.4) = 6.3: 4 go
    held = {**before.variables["params"]}
    held["layers"] = {
        i: {name: np.array(leaf) for name, leaf in layer.items()} for i, layer in held["layers"].items()
    }
    held["head"] = {name: np.array(leaf) for name, leaf in held["head"].items()}
    following = [*[held["layers"][i] for i in sorted(held["layers"])], held["head"]]
    for k, stay in enumerate(kept):
        gone = np.setdiff1d(np.arange(10), stay)
        for leaf in following[k].values():
            leaf[..., gone] = 0
        following[k + 1]["kernel"][gone] = 0
    second = per_example_sums(before._replace(variables={**before.variables, "params": held}), digits)[:2]
    for name, stay, scores in zip(("layers/0", "layers/1"), kept, second, strict=True):
        best = stay[np.argsort(-scores[stay], kind="stable")[:4]]  # ceil(0.6 * 10) = 6 go in the end
        np.testing.assert_array_equal(after.keep[name], np.sort(best))


def test_an_isomorphic_ranking_of_coupled_slices(root, digits):
    how = {"allocation": "isomorphic", "over": "coupled", "reduce": "sum", "ratio": 0.5, "at_least": 0.2}
    arm, before, after = acted(root, digits, **how)
    assert arm.chain[1].ranking.scope == "isomorphic"
    kernels = [np.abs(w) for w in layers(before)]
    scores = [kernels[k].mean(0) + kernels[k + 1].mean(1) for k in range(2)]
    scores = np.concatenate([each / each.mean() for each in scores])
    stays = np.ones(20, bool)
    stays[np.argsort(scores, kind="stable")[:10]] = False
    assert min(stays[:10].sum(), stays[10:].sum()) >= 2  # so that the floor isn't touched here
    np.testing.assert_array_equal(after.keep["layers/0"], np.flatnonzero(stays[:10]))
    np.testing.assert_array_equal(after.keep["layers/1"], np.flatnonzero(stays[10:]))


def test_a_speedup_in_iterations_is_met(digits):
    arm = planned(digits, allocation="speedup", speedup=2.0, iterations=3, speedup_scope="isomorphic")
    assert (arm.chain[1].iterations, arm.chain[1].ranking.scope) == (3, "isomorphic")
    text = "\n".join(dry_run.describe([arm], digits))
    assert "3 iterations, isomorphic ranking, speedup 2" in text


def test_what_a_spec_leaves_at_its_default_is_no_part_of_its_id(digits):
    plain = planned(digits).chain[1]
    assert not {"iterations", "over", "reduce"} & set(specs.stated(plain))
    said = specs.stated(planned(digits, iterations=2, over="coupled", reduce="max").chain[1])
    assert (said["iterations"], said["over"], said["reduce"]) == (2, "coupled", "max")


def test_a_record_says_what_changes_the_scores(digits):
    def said(**changes):
        return sparsify.scored_by(planned(digits, **changes).chain[1])

    assert said() == "l1"
    assert said(criterion="fpgm", over="coupled", reduce="max") == "fpgm over coupled slices (max)"
    assert said(criterion="fisher", iterations=3) == "fisher, 3 iterations"


BAD = [
    ({"over": "both"}, r"sparsify.over is 'both'; choose one of 'producer', 'coupled'"),
    ({"reduce": "max"}, r"sparsify.reduce is 'max', .* choose sparsify.over='coupled'"),
    ({"over": "coupled", "reduce": "median"}, r"sparsify.reduce is 'median'; choose one of 'mean', 'sum'"),
    ({"over": "coupled", "criterion": "fpgm", "granularity": "unstructured"}, r"'fpgm', which scores whole"),
    (
        {"over": "coupled", "granularity": "unstructured"},
        r"sparsify.over is 'coupled', which speaks of channels",
    ),
    ({"iterations": 0}, r"sparsify.iterations is 0; it must be at least 1"),
    ({"criterion": "bn_scale"}, r"'bn_scale', which can't score layers/0 of mlp7_relu: no norm scales"),
    ({"criterion": "taylor_gate"}, r"'taylor_gate', which can't score layers/0"),
    (
        {"criterion": "snip", "evidence.batches": 0},
        r"'snip', which needs grads: sparsify.evidence.batches is 0",
    ),
    ({"allocation": "isomorphic", "granularity": "unstructured"}, r"'isomorphic', which ranks channels"),
    (
        {"allocation": "isomorphic", "ratio": 0.95},
        r"sparsify.ratio is 0.95; with no layer emptied, a ratio of 0.9 can be reached: lower it",
    ),
    (
        {"allocation": "global", "ratio": 0.95, "at_least": 0.3},
        r"sparsify.at_least is 0.3 and sparsify.ratio 0.95; with at_least of every layer left, a ratio of 0.7",
    ),
    ({"normalise": "median"}, r"sparsify.normalise is 'median'; allowed: .*lamp"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_a_bad_value_is_refused_in_one_line_before_any_work(digits, changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        planned(digits, **changes)
    assert "\n" not in str(caught.value)
