"""The call ``prune`` on one network with every layer of NNX: same class, small sizes, masked equals shrunk."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import law
import numpy as np
import optax
import pytest
from flax import nnx

import prune_jax
from prune_jax.pruning.criteria.table import Criterion


class Recurrent(nnx.Module):
    """A recurrent cell, its last output, and a head."""

    def __init__(self, make, rngs):
        self.rnn, self.fc = nnx.RNN(make(4, 6, rngs=rngs), rngs=rngs), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.rnn(x)[:, -1])


class Between(nnx.Module):
    """A layer between a stem and a head, whose width it has to follow."""

    def __init__(self, stem, layer, head):
        self.stem, self.layer, self.head = stem, layer, head

    def __call__(self, x):
        y = self.layer(self.stem(x))
        return self.head(y.reshape(y.shape[0], -1, y.shape[-1]).mean(1))


class Stacked(nnx.Module):
    """Layers stacked along an axis by ``nnx.vmap``, run by ``nnx.scan``."""

    def __init__(self, rngs):
        self.stem = nnx.Linear(4, 8, rngs=rngs)

        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0)
        def made(rngs):
            return Between(nnx.Linear(8, 10, rngs=rngs), nnx.relu, nnx.Linear(10, 8, rngs=rngs))

        self.blocks, self.fc = made(rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def through(x, block):
            return x + block.head(nnx.relu(block.stem(x)))

        return self.fc(through(self.stem(x), self.blocks))


class Words(nnx.Module):
    def __init__(self, rngs):
        self.table, self.fc = nnx.Embed(11, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.table(x).mean(1))


@dataclasses.dataclass(frozen=True)
class Settings:
    head_dim: int = 4
    hidden_size: int = 8
    longest: int = 8  # equals a width, and is none


class OfItsOwn(nnx.Module):
    """A class of the user's own that reshapes to a number of heads under a name of its own; 4 has two meanings."""

    def __init__(self, rngs):
        self.groups_of_mine, self.settings = 4, Settings()
        self.embed, self.place = nnx.Linear(4, 8, rngs=rngs), nnx.Param(jnp.zeros((8, 8)))
        self.qkv, self.out = nnx.Linear(8, 48, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        b, t, _ = x.shape
        x = self.embed(x) + self.place[: self.settings.longest][None, :t]
        heads = self.qkv(x).reshape(b, t, 3, self.groups_of_mine, self.settings.head_dim)
        q, k, v = jnp.moveaxis(heads, 2, 0)
        scores = nnx.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(b, t, -1))


class Stubborn(nnx.Module):
    """A class whose code holds its size: no attribute can be rewritten."""

    def __init__(self, rngs):
        self.a, self.norm = nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.b = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(self.norm(self.a(x)).reshape(x.shape[0], 8))


def between(layer, width=8):
    def made(rngs):
        stem, head = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Linear(width, 3, rngs=rngs)
        return Between(stem, layer(rngs), head)

    return made


IMAGE, VECTOR, SEQUENCE = (2, 4, 4, 3), (2, 4), (2, 3, 4)
LAYERS = {
    "linear": (
        lambda r: nnx.Sequential(nnx.Linear(4, 8, rngs=r), nnx.relu, nnx.Linear(8, 3, rngs=r)),
        VECTOR,
        {"layers/0": {"out_features": 4}, "layers/2": {"in_features": 4, "out_features": 3}},
    ),
    "conv": (
        between(lambda r: nnx.Conv(8, 10, (3, 3), rngs=r), 10),
        IMAGE,
        {"layer": {"in_features": 4, "out_features": 5, "kernel_shape": (3, 3, 4, 5)}},
    ),
    "depthwise": (
        between(lambda r: nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=r)),
        IMAGE,
        {"layer": {"in_features": 4, "out_features": 4, "feature_group_count": 4}},
    ),
    "grouped": (
        between(lambda r: nnx.Conv(8, 8, (3, 3), feature_group_count=2, rngs=r)),
        IMAGE,
        {"layer": {"in_features": 4, "out_features": 4, "feature_group_count": 2}},
    ),
    "transposed": (
        between(lambda r: nnx.ConvTranspose(8, 6, (2, 2), strides=(2, 2), rngs=r), 6),
        IMAGE,
        {"layer": {"in_features": 4, "out_features": 3}},
    ),
    "batch norm": (between(lambda r: nnx.BatchNorm(8, rngs=r)), IMAGE, {"layer": {"num_features": 4}}),
    "layer norm": (between(lambda r: nnx.LayerNorm(8, rngs=r)), IMAGE, {"layer": {"num_features": 4}}),
    "rms norm": (between(lambda r: nnx.RMSNorm(8, rngs=r)), IMAGE, {"layer": {"num_features": 4}}),
    "group norm": (
        between(lambda r: nnx.GroupNorm(8, num_groups=4, rngs=r)),
        IMAGE,
        {"layer": {"num_groups": 2, "group_size": 2}},
    ),
    "instance norm": (between(lambda r: nnx.InstanceNorm(8, rngs=r)), IMAGE, {"layer": {"num_features": 4}}),
    "attention": (
        lambda r: nnx.Sequential(
            nnx.Linear(4, 8, rngs=r),
            nnx.MultiHeadAttention(4, 8, 16, rngs=r, decode=False),
            nnx.Linear(8, 3, rngs=r),
        ),
        SEQUENCE,
        {"layers/1": {"num_heads": 2, "head_dim": 2, "qkv_features": 4, "in_features": 4, "out_features": 4}},
    ),
    "weight norm": (
        lambda r: nnx.Sequential(
            nnx.WeightNorm(nnx.Linear(4, 8, rngs=r), rngs=r), nnx.relu, nnx.Linear(8, 3, rngs=r)
        ),
        VECTOR,
        {"layers/0/layer_instance": {"out_features": 4}, "layers/2": {"in_features": 4}},
    ),
    "bare group norm": (
        between(lambda r: nnx.GroupNorm(8, num_groups=4, use_bias=False, use_scale=False, rngs=r)),
        IMAGE,
        {"layer": {"num_groups": 2, "group_size": 2}},
    ),
    "embed": (Words, (2, 3), {"table": {"num_embeddings": 11, "features": 4}}),
    "lora": (
        lambda r: nnx.Sequential(
            nnx.LoRALinear(4, 8, lora_rank=2, rngs=r), nnx.relu, nnx.Linear(8, 3, rngs=r)
        ),
        VECTOR,
        {"layers/0": {"out_features": 4}, "layers/0/lora": {"in_features": 4, "out_features": 4}},
    ),
    "dropout": (
        lambda r: nnx.Sequential(
            nnx.Linear(4, 8, rngs=r), nnx.Dropout(0.5, rngs=r), nnx.Linear(8, 3, rngs=r)
        ),
        VECTOR,
        {"layers/2": {"in_features": 4}},
    ),
    "stacked": (
        Stacked,
        VECTOR,
        {"stem": {"out_features": 4}, "blocks/stem": {"in_features": 4, "out_features": 5}},
    ),
    "lstm": (lambda r: Recurrent(nnx.LSTMCell, r), SEQUENCE, {}),
    "fused lstm": (lambda r: Recurrent(nnx.OptimizedLSTMCell, r), SEQUENCE, {}),
    "gru": (lambda r: Recurrent(nnx.GRUCell, r), SEQUENCE, {}),
    "own": (
        OfItsOwn,
        SEQUENCE,
        {
            "": {"groups_of_mine": 2, "settings": Settings(4, 4, 8)},
            "qkv": {"in_features": 4, "out_features": 24},
        },
    ),
}


def filled(make):
    """The module with numbers that hide nothing, no zero and no one; its own initialisation isn't compiled."""
    definition, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def number(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(KEY, leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype) if leaf.dtype == "uint32" else leaf

    pure = jax.tree.map(number, nnx.to_pure_dict(state))
    leaves, treedef = jax.tree.flatten(pure)
    shapes = [leaf if isinstance(leaf, jax.ShapeDtypeStruct) else None for leaf in leaves]
    named = jax.tree.unflatten(treedef, shapes)
    numbers = jax.tree.leaves(law.numbers(named))
    rest = iter(numbers)
    whole = [next(rest) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf for leaf in leaves]
    nnx.replace_by_pure_dict(state, jax.tree.unflatten(treedef, whole))
    return nnx.merge(definition, state)


def an_input(shape, kind):
    rng = np.random.default_rng(1)
    return (
        jnp.asarray(rng.integers(0, 11, shape))
        if kind == "embed"
        else jnp.asarray(rng.normal(size=shape), "float32")
    )


def built(name):
    make, shape, wanted = LAYERS[name]
    # A weight norm's scales are bare arrays, which eval_shape turns into a part of the code.
    net = make(nnx.Rngs(0)) if name == "weight norm" else filled(make)
    return net, an_input(shape, name), wanted


def called(model):
    definition = nnx.graphdef(model)
    return lambda variables, x: nnx.merge(definition, variables)(x)


def train_steps(model, x, steps=10):
    """Ten steps of SGD with momentum, compiled once."""
    optimizer = nnx.Optimizer(model, optax.sgd(1e-3, 0.9), wrt=nnx.Param)

    return [float(one_step(model, optimizer, x)) for _ in range(steps)]


@nnx.jit
def one_step(model, optimizer, x):
    loss, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
    optimizer.update(model, grads)
    return loss


@pytest.mark.parametrize("name", LAYERS)
def test_a_module_comes_back_smaller_and_of_the_same_class(name):
    net, x, wanted = built(name)
    pruned = prune_jax.prune(net, x, ratio=0.5)
    assert pruned.wrapped is None
    assert type(pruned.model) is type(net)
    parts = {"/".join(map(str, path)): part for path, part in nnx.iter_modules(pruned.model)}
    for path, sizes in wanted.items():
        assert {n: getattr(parts[path], n) for n in sizes} == sizes, path
    assert pruned.after.macs < pruned.before.macs
    assert pruned.after.params == sum(
        leaf.size for leaf in jax.tree.leaves(nnx.state(pruned.model, nnx.Param))
    )
    pruned.model.eval()
    twin = prune_jax.slim(pruned.dense.apply, pruned.dense.variables, pruned.groups, pruned.keep, x)
    own, definition = law.cheap(lambda v, x: (called(pruned.model)(v, x), twin(v, x)), pruned.variables, x)
    np.testing.assert_allclose(own, definition, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["batch norm", "group norm", "attention", "stacked"])
def test_masked_equals_shrunk(name):
    net, x, _ = built(name)
    net.eval()
    masked = prune_jax.prune(net, x, ratio=0.5, masked=True)
    small = prune_jax.prune(net, x, keep=masked.keep)
    assert masked.mask is not None
    assert small.mask is None
    masked_out, small_out = law.cheap(
        lambda a, b, x: (called(masked.model)(a, x), called(small.model)(b, x)),
        masked.variables,
        small.variables,
        x,
    )
    np.testing.assert_allclose(masked_out, small_out, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["batch norm", "attention", "stacked", "lora"])
def test_the_small_module_trains(name):
    net, x, _ = built(name)
    losses = train_steps(prune_jax.prune(net, x, ratio=0.5).model, x)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_code_that_fixes_a_size_is_wrapped_and_says_so():
    net = filled(Stubborn)
    x = an_input(VECTOR, "own")
    pruned = prune_jax.prune(net, x, ratio=0.5)
    assert "doesn't run at the small sizes" in pruned.wrapped
    assert isinstance(pruned.model, Stubborn)
    before = np.asarray(pruned.model.norm.mean[...])
    losses = train_steps(pruned.model, x)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert pruned.model.a.kernel.shape == (4, 4)
    assert not np.allclose(before, pruned.model.norm.mean[...])  # statistics are written back
    pruned.model.eval()
    assert pruned.model(x).shape == (2, 3)


def test_a_linen_network_comes_back_as_functions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x)))
            return nn.Dense(3)(x)

    model, x = Net(), an_input(VECTOR, "linen")
    variables = law.numbers(jax.eval_shape(model.init, jax.random.key(0), x))
    pruned = prune_jax.prune((model, variables), x, False, ratio=0.5)
    masked = prune_jax.prune((model, variables), x, keep=pruned.keep, masked=True)
    assert pruned.model is None
    assert pruned.variables["params"]["Dense_0"]["kernel"].shape == (4, 4)
    np.testing.assert_allclose(
        pruned.apply(pruned.variables, x), masked.apply(masked.variables, x), rtol=1e-5
    )
    train = pruned.twin(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]), x)
    logits, changed = train(pruned.variables, x)
    assert logits.shape == (2, 3)
    assert changed["batch_stats"]["BatchNorm_0"]["mean"].shape == (4,)


def mlp(params, x):
    return jax.nn.relu(x @ params["a"]) @ params["b"]


KEY = jax.random.key(0)
PARAMS = {
    "a": jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), "float32"),
    "b": jnp.asarray(np.ones((8, 3), "float32")),
}
X = jnp.asarray(np.ones((2, 4), "float32"))


def test_a_function_and_its_params():
    pruned = prune_jax.prune((mlp, PARAMS), X, ratio=0.5)
    assert pruned.apply(pruned.variables, X).shape == (2, 3)
    assert pruned.variables["a"].shape == (4, 4)
    assert (pruned.before.macs, pruned.after.macs) == (2 * (32 + 24), 2 * (16 + 12))
    lowest = np.argsort(np.abs(PARAMS["a"]).mean(0))[:4]
    assert not set(lowest) & set(pruned.keep["a"])


def test_calling_it_again_composes_in_the_dense_networks_numbers():
    first = prune_jax.prune((mlp, PARAMS), X, ratio=0.5)
    second = prune_jax.prune(first, ratio=0.5)
    assert len(second.keep["a"]) == 2
    assert set(second.keep["a"]) <= set(first.keep["a"])
    np.testing.assert_array_equal(second.variables["a"], PARAMS["a"][:, second.keep["a"]])
    trained = jax.tree.map(lambda leaf: -leaf, first.variables)
    third = prune_jax.prune((first, trained), ratio=0.5)
    np.testing.assert_array_equal(third.variables["a"], -PARAMS["a"][:, second.keep["a"]])


def test_a_module_is_pruned_again_with_the_weights_that_training_gave_it():
    net, x, _ = built("batch norm")
    first = prune_jax.prune(net, x, ratio=0.5)
    train_steps(first.model, x, 2)
    second = prune_jax.prune(first, x, ratio=0.5)
    kept = np.flatnonzero(np.isin(first.keep["stem"], second.keep["stem"]))
    np.testing.assert_array_equal(second.model.stem.bias[...], first.model.stem.bias[...][kept])
    assert second.model.layer.num_features == 2


def test_speedup_scopes_rounding_and_floors():
    def widths(**how):
        return {n: after for n, (_, after) in prune_jax.prune((mlp, PARAMS), X, **how).sizes.items()}

    assert widths(ratio=0.9, at_least=3)["a"] == 3
    assert widths(ratio=0.9, at_least=0.5)["a"] == 4
    assert widths(ratio=0.6, round_to=4)["a"] == 4
    assert widths(speedup=2.0)["a"] == 4
    assert widths(ratio=0.5, scope="global")["a"] == 4
    assert widths(ratio=0.5, scope="isomorphic")["a"] == 4
    assert widths(ratio={"a": 0.25})["a"] == 6
    assert widths(ratio=0.5, criterion=lambda evidence: {"a": np.arange(8)})["a"] == 4


def test_a_gradient_criterion_gathers_what_it_needs():
    batches = [(X, jnp.zeros((2, 3)))]
    pruned = prune_jax.prune(
        (mlp, PARAMS),
        X,
        ratio=0.5,
        criterion="taylor",
        batches=batches,
        loss=lambda params, batch: ((mlp(params, batch[0]) - batch[1]) ** 2).mean(),
    )
    grads = jax.grad(lambda p: (mlp(p, X) ** 2).mean())(PARAMS)
    importance = np.abs((PARAMS["a"] * grads["a"]).sum(0))
    assert set(pruned.keep["a"]) == set(np.argsort(importance, kind="stable")[4:])


def test_single_weights_are_masked_and_held():
    pruned = prune_jax.prune((mlp, PARAMS), X, ratio=0.5, granularity="unstructured")
    assert int(pruned.mask["a"].sum()) == 16
    optimizer = optax.chain(optax.sgd(0.1), pruned.hold)
    grads = jax.grad(lambda p: (mlp(p, X) ** 2).mean())(pruned.variables)
    updates, _ = optimizer.update(grads, optimizer.init(pruned.variables), pruned.variables)
    trained = optax.apply_updates(pruned.variables, updates)
    assert ((np.asarray(trained["a"]) == 0) == (np.asarray(pruned.mask["a"]) == 0)).all()
    assert pruned.after.params == 16 + 12
    again = prune_jax.prune(pruned, ratio=0.75, granularity="unstructured")
    assert int(again.mask["a"].sum()) == 8


def test_the_optimizer_is_cut_along():
    net, x, _ = built("batch norm")
    optimizer = nnx.Optimizer(net, optax.sgd(1e-3, 0.9), wrt=nnx.Param)
    pruned = prune_jax.prune(net, x, ratio=0.5, optimizer=optimizer)
    one_step(pruned.model, pruned.optimizer, x)
    assert pruned.optimizer.step[...] == 1
    assert optimizer.step[...] == 0
    state = optax.adam(1e-3).init(PARAMS)
    small = prune_jax.prune((mlp, PARAMS), X, ratio=0.5, optimizer=state).optimizer
    assert small[0].mu["a"].shape == (4, 4)


def test_a_masked_module_stays_masked_while_it_trains():
    net, x, _ = built("batch norm")
    masked = prune_jax.prune(net, x, ratio=0.5, masked=True)
    gone = np.setdiff1d(np.arange(8), masked.keep["stem"])
    optimizer = nnx.Optimizer(masked.model, optax.chain(optax.sgd(0.1, 0.9), masked.hold), wrt=nnx.Param)
    one_step(masked.model, optimizer, x)
    assert not np.asarray(masked.model.stem.kernel[...])[..., gone].any()
    assert not np.asarray(masked.model.head.kernel[...])[gone].any()
    assert np.asarray(net.stem.kernel[...]).all()  # the target is left alone


class Dense(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.width)(x))
        return nn.Dense(3)(nn.relu(x))


def test_a_pruned_linen_network_retrains_as_the_one_built_small_does():
    """Ten steps of SGD, batch statistics included, against the module built with the small number of features."""
    x = jnp.asarray(np.random.default_rng(4).normal(size=(16, 4)), "float32")
    variables = law.numbers(jax.eval_shape(Dense(8).init, jax.random.key(0), x))
    pruned = prune_jax.prune((Dense(8), variables), x, ratio=0.5)

    def train(width):
        return lambda v, x: Dense(width).apply(v, x, train=True, mutable=["batch_stats"])

    def trained(train):
        def step(variables, _):
            def loss(params):
                out, changed = train({**variables, "params": params}, x)
                return (out**2).mean(), changed

            grads, changed = jax.grad(loss, has_aux=True)(variables["params"])
            params = jax.tree.map(lambda w, g: w - 0.1 * g, variables["params"], grads)
            return {"params": params, **changed}, None

        return jax.lax.scan(step, pruned.variables, length=10)[0]

    ours, oracle = jax.jit(lambda: (trained(pruned.twin(train(8), x)), trained(train(4))))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, oracle)
    moved = (
        ours["batch_stats"]["BatchNorm_0"]["mean"] - pruned.variables["batch_stats"]["BatchNorm_0"]["mean"]
    )
    assert (np.abs(moved) > 1e-3).all()


WRONG = {
    "give one of ratio, speedup and keep, not none": {},
    "give one of ratio, speedup and keep, not ratio and speedup": {"ratio": 0.5, "speedup": 2.0},
    "ratio is 1.5; it is the fraction removed": {"ratio": 1.5},
    "speedup is 0.5; it is dense MACs over pruned ones": {"speedup": 0.5},
    "speedup 50.0 is out of reach": {"speedup": 50.0},
    "criterion is 'tailor'; did you mean 'taylor'": {"ratio": 0.5, "criterion": "tailor"},
    "criterion is 'taylor', which needs grads; give batches": {"ratio": 0.5, "criterion": "taylor"},
    "which needs key; give key=jax.random.key": {"ratio": 0.5, "criterion": "random"},
    "scope is 'all'; choose one of 'layer'": {"ratio": 0.5, "scope": "all"},
    "granularity is 'filters'; did you mean 'filter'": {"ratio": 0.5, "granularity": "filters"},
    "no group's name fits 'z'": {"ratio": 0.5, "layers": "z"},
    "ratio is 0.9, but with at_least=0.5 of every kernel left, 0.5 of all": {
        "ratio": 0.9,
        "granularity": "unstructured",
        "masked": True,
        "scope": "global",
        "at_least": 0.5,
    },
    "at_least is -1; it is": {"ratio": 0.5, "at_least": -1},
    "round_to is 0; kept channels": {"ratio": 0.5, "round_to": 0},
    "keep names 'c', which is no group": {"keep": {"c": [0]}},
    "free is 'ends'; choose one of": {"ratio": 0.5, "free": ("ends",)},
    "ratio is True; it is the fraction removed": {"ratio": True},
    "no group's name fits 'zz'": {"ratio": {"zz": 0.5}},
    "optimizer is an optax transformation": {"ratio": 0.5, "optimizer": optax.sgd(0.1)},
    "keep names 'd', which is no group": {"keep": {"d": [0]}},
    "layers is 3; give patterns": {"ratio": 0.5, "layers": 3},
    "batches is of type int; give an iterable": {"ratio": 0.5, "batches": 3},
    "loss is of type int; give a function": {"ratio": 0.5, "loss": 3},
    "key is 3; give a PRNG key": {"ratio": 0.5, "key": 3},
    "two whole numbers of at least 1, not 4": {"ratio": 0.5, "granularity": "block", "block": 4},
    "whose unit is 'layer'; choose 'weight' or": {
        "ratio": 0.5,
        "criterion": Criterion(lambda e: {}, "layer"),
    },
    "no scores of a, which makes": {"ratio": 0.5, "criterion": Criterion(lambda e: {}, "weight")},
    "returned NoneType; it must return a dict": {
        "ratio": 0.5,
        "criterion": Criterion(lambda e: None, "weight"),
    },
    "of shape (3,) for a; the leaf's shape": {
        "ratio": 0.5,
        "granularity": "unstructured",
        "criterion": lambda e: {"a": np.ones(3)},
    },
    "returned 6 NaN among the": {
        "ratio": 0.5,
        "granularity": "unstructured",
        "criterion": lambda e: {
            "a": np.ones((4, 8)),
            "b": np.where(np.arange(24) < 6, np.nan, 1.0).reshape(8, 3),
        },
    },
    "has no scores of a: no convolution over two axes": {"ratio": 0.5, "criterion": "hrank", "batches": [X]},
    "takes a ratio, not a speedup": {"speedup": 2.0, "granularity": "unstructured"},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_one_line(message):
    with pytest.raises((ValueError, KeyError)) as raised:
        prune_jax.prune((mlp, PARAMS), X, **WRONG[message])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_model_and_no_inputs():
    with pytest.raises(TypeError, match="target is a list; prune takes an nnx"):
        prune_jax.prune([1], X, ratio=0.5)
    with pytest.raises(ValueError, match="no inputs are given"):
        prune_jax.prune((mlp, PARAMS), ratio=0.5)


def test_the_report_says_what_went_and_what_is_frozen():
    pruned = prune_jax.prune((mlp, PARAMS), X, ratio=0.5)
    report = pruned.report(latency=True)
    assert ("a", 8, 4, 2, "") in report.rows
    assert [row[-1] for row in report.rows if row[0] == "b"] == ["frozen: network output"]
    assert report.totals[:2] == (("macs", 112, 56), ("params", 56, 28))
    assert all(seconds > 0 for seconds in report.totals[-1][1:])
    assert "2.00x" in str(report)
    assert repr(pruned) == "Pruned(apply, 1 of 3 groups, 112 -> 56 MACs)"


def test_the_report_is_text_in_a_notebook_too(monkeypatch):
    report = prune_jax.prune((mlp, PARAMS), X, ratio=0.5).report()
    here = str(report)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(report) == here != ""


def test_free_ends_lose_channels_and_classes():
    names = {g.name: g for g in prune_jax.find_groups(mlp, PARAMS, X, free=("inputs", "outputs"))}
    assert [(g.size, g.frozen) for g in names.values()] == [(4, None), (8, None), (3, None)]
    keep = dict(zip(names, ([1, 3], [0, 2, 5], [0, 2]), strict=True))
    pruned = prune_jax.prune((mlp, PARAMS), X, keep=keep, free=("inputs", "outputs"))
    x = jnp.asarray(np.random.default_rng(3).normal(size=(5, 2)), "float32")
    wanted = mlp(
        {"a": PARAMS["a"][np.ix_([1, 3], [0, 2, 5])], "b": PARAMS["b"][np.ix_([0, 2, 5], [0, 2])]}, x
    )
    np.testing.assert_allclose(pruned.apply(pruned.variables, x), wanted, rtol=1e-6)
    assert pruned.after.macs == 2 * (2 * 3 + 3 * 2)
    with pytest.raises(ValueError, match=r"'b' .* is frozen: network output"):
        prune_jax.prune((mlp, PARAMS), X, keep={"b": [0, 2]})


@pytest.mark.parametrize("make", [LAYERS["conv"][0], Stubborn])
def test_a_module_with_free_ends(make, tmp_path):
    net, x = filled(make), an_input(VECTOR if make is Stubborn else IMAGE, "free")
    pruned = prune_jax.prune(net, x, ratio=0.5, free="outputs")
    assert pruned.model(x).shape == (2, 1)
    pruned = prune_jax.prune(net, x, ratio=0.5, free=("inputs",))
    name = pruned.groups[0].name
    assert pruned.model(x[..., pruned.keep[name]]).shape == (2, 3)
    again = prune_jax.load(prune_jax.save(tmp_path / "small.safetensors", pruned), net)
    np.testing.assert_array_equal(again.keep[name], pruned.keep[name])
    assert (pruned.wrapped is not None) == (make is Stubborn)
