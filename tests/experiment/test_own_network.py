"""Networks of the user's own: modules, pairs and Linen modules, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment import networks, specs, twins
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.own import parts as own_parts

HEAD = """
import jax, jax.numpy as jnp
from flax import nnx, linen as nn
"""
MODULE = """
class Net(nnx.Module):
    def __init__(self, num_classes, input_shape, rngs, width=8):
        size = input_shape[0] * input_shape[1] * input_shape[2]
        self.hidden, self.head = nnx.Linear(size, width, rngs=rngs), nnx.Linear(width, num_classes, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.hidden(x.reshape(len(x), -1)))))
def net(num_classes, input_shape, rngs, width=8):
    return Net(num_classes, input_shape, rngs, width)
"""
# The class itself, which takes two of the three arguments that are offered.
OF_TWO = """
class net(nnx.Module):
    def __init__(self, num_classes, rngs, width=8):
        self.hidden, self.head = nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, num_classes, rngs=rngs)
    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))
"""
NO_RNGS = """
def net(num_classes):
    return nnx.Linear(4, num_classes, rngs=nnx.Rngs(0))
"""
BARE = """
def net(num_classes):
    def init(key, x):
        a, b = jax.random.split(key)
        return [jax.random.normal(a, (x.size, 6)), (jax.random.normal(b, (6, num_classes)),)]
    def apply(params, x):
        return jax.nn.relu(x.reshape(len(x), -1) @ params[0]) @ params[1][0]
    return init, apply
"""
SORTS_IN_TRAINING = """
def net(num_classes):
    def init(key, x):
        return [jax.random.normal(key, (x.size, 6)), jnp.ones((6, num_classes))]
    def apply(params, x, train):
        h = (x.reshape(len(x), -1) @ params[0]).reshape(len(x), 6)
        return (jnp.sort(h) if train else h) @ params[1]
    return init, apply
"""
STATEFUL = """
def net(num_classes):
    def init(key, x):
        return {"params": {"w": jax.random.normal(key, (x.size, num_classes))}, "batch_stats": {"seen": jnp.zeros(())}}
    def apply(variables, x, train=False, key=None):
        logits = x.reshape(len(x), -1) @ variables["params"]["w"]
        if not train:
            return logits
        return logits + jax.random.normal(key, logits.shape), {"seen": variables["batch_stats"]["seen"] + len(x)}
    return init, apply
"""
LINEN = """
class Net(nn.Module):
    classes: int
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(6)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(nn.Dropout(0.5, deterministic=not train)(x))
def net(num_classes):
    return Net(num_classes)
"""
X = jax.device_put(np.random.default_rng(0).normal(size=(5, 2, 2, 1)).astype(np.float32))
KEY = jax.random.key(3)


@pytest.fixture
def spec_of(write):
    """A spec of the network that a text holds."""

    def made(text, **options):
        reference = f"{write(HEAD + text)}:net"
        source = own_parts.source_of(reference, "model.name")
        return specs.ModelSpec(reference, (2, 2, 1), 3, tuple(sorted(options.items())), source)

    return made


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


@pytest.mark.parametrize("text", [MODULE, OF_TWO, BARE, STATEFUL, LINEN])
def test_every_form_trains_and_is_abstract_and_fresh_alike(spec_of, text):
    spec = spec_of(text)
    network, variables = own_network.abstract_network(spec), own_network.fresh_variables(spec, KEY)
    assert shapes(network.variables) == shapes(variables)
    assert set(variables) == {"params", "batch_stats"}
    logits, stats = jax.jit(network.apply_train)(variables, X, KEY)
    assert logits.shape == network.apply(variables, X).shape == (5, 3)
    assert shapes(stats) == shapes(variables["batch_stats"])
    again, other = (own_network.fresh_variables(spec, jax.random.key(k)) for k in (3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    assert not jax.tree.all(jax.tree.map(np.array_equal, variables, other))
    groups = networks.groups_of(spec)
    assert any(group.frozen is None for group in groups) == (text != STATEFUL)  # which has outputs alone


def test_a_pairs_state_and_key_go_in_and_its_state_comes_out(spec_of):
    spec = spec_of(STATEFUL)
    network, variables = own_network.abstract_network(spec), own_network.fresh_variables(spec, KEY)
    plain = np.asarray(X).reshape(5, -1) @ np.asarray(variables["params"]["w"])
    logits, stats = network.apply_train(variables, X, KEY)
    np.testing.assert_allclose(
        logits, plain + np.asarray(jax.random.normal(KEY, (5, 3))), rtol=1e-5, atol=1e-6
    )
    assert stats == {"seen": 5.0}
    np.testing.assert_allclose(network.apply(variables, X), plain, rtol=1e-5, atol=1e-6)


def test_linens_statistics_move_and_its_dropout_follows_the_key(spec_of):
    spec = spec_of(LINEN)
    network, variables = own_network.abstract_network(spec), own_network.fresh_variables(spec, KEY)
    dense = jax.tree.map(np.asarray, variables["params"]["Dense_0"])
    (a, stats), (b, _), (c, _) = (network.apply_train(variables, X, jax.random.key(k)) for k in (0, 0, 1))
    hidden = np.asarray(X).reshape(5, -1) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(stats["BatchNorm_0"]["mean"], 0.5 * hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0.01


def test_options_reach_the_function_and_widths_cut_it(spec_of):
    spec = spec_of(MODULE, width=12)
    assert own_network.abstract_network(spec).variables["params"]["hidden"]["kernel"].shape == (4, 12)
    assert networks.small_variables(spec, {"hidden": 5})["params"]["head"]["kernel"].shape == (5, 3)
    dense, cut = networks.cost_of(spec), networks.cost_of(spec, {"hidden": 5})
    assert (dense.macs, cut.macs) == (4 * 12 + 12 * 3, 4 * 5 + 5 * 3)
    assert dict(networks.uniform_ratios(spec, (), 0.5)) == {"hidden": 0.5}


def test_a_small_fresh_network_keeps_the_variance_of_its_own_fan_in(spec_of):
    spec = spec_of(MODULE, width=4000)
    dense = own_network.fresh_variables(spec, KEY)
    small = own_network.small_fresh(spec, {"hidden": np.arange(0, 4000, 4)}, KEY)
    np.testing.assert_array_equal(
        small["params"]["hidden"]["kernel"], dense["params"]["hidden"]["kernel"][:, ::4]
    )
    head = np.asarray(small["params"]["head"]["kernel"])
    np.testing.assert_allclose(head, 2 * np.asarray(dense["params"]["head"]["kernel"])[::4], rtol=1e-6)
    # LeCun's, nnx's default: 1 / 1000; of 3000 weights the variance is known to 2.6 % (one standard error)
    np.testing.assert_allclose(head.var(), 1 / 1000, rtol=0.1)
    everything = own_network.small_fresh(spec, {}, KEY)
    assert jax.tree.all(jax.tree.map(np.array_equal, everything, dense))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def net(): return 3", "which returned int; it must return a flax.nnx.Module or a pair"),
        ("def net(): return (1, 2)", "which returned tuple of int, int; it must"),
        ("def net(): raise KeyError('width')", r"which raised KeyError: 'width' \(.*py, line 4\)"),
        (NO_RNGS, "takes no rngs, so every seed would begin with the same weights"),
        (BARE.replace("@ params[1][0]", "@ params[1][0][:, :2]"), r"evaluation mode gives float32 of shape \(2, 2\) "
         r"for 2 inputs of shape \(2, 2, 1\); it must give logits of shape \(2, 3\)"),
        (BARE.replace("return jax.nn.relu", "return 1, jax.nn.relu"), "evaluation mode gives tuple of "),
        (BARE.replace("return [jax", "return [jnp.arange(3), jax"), "parameter 0 is of type int32; parameters are"),
        (BARE.replace("x.size, 6", "x.size + 1, 6"), "which raised TypeError: dot_general requires"),
        (STATEFUL.replace('"batch_stats": {', '"memory": {'), "whose init gives 'memory' beside 'params'"),
        (STATEFUL.replace("logits.shape), {", "logits.shape)#"), r"in training mode it must return \(logits, new "),
        (STATEFUL.replace('"seen"] + len(x)}', '"seen"] + len(x), "more": 1.0}'), "of another structure, "),
        ("def net(): return (lambda key, x: {}), (lambda v, x: x)", "which makes a network without parameters"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_in_one_line(spec_of, text, told):
    spec = spec_of(text)
    with pytest.raises(ValueError, match=rf"^model.name is '{spec.name}', .*{told}") as caught:
        own_network.abstract_network(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [MODULE, OF_TWO])
def test_an_unknown_option_names_the_nearest(spec_of, text):
    with pytest.raises(
        ValueError, match=r"^model.options.widht is 4, which .*:net doesn't take; did you mean width\?"
    ):
        own_network.abstract_network(spec_of(text, widht=4))


def test_stages_of_a_network_of_ones_own_are_unknown(spec_of):
    with pytest.raises(
        ValueError, match=r"^sparsify.stage_ratios is \(0.5,\), but .* name its groups in sparsify.layers"
    ):
        networks.stage_ratios(spec_of(MODULE), (), (0.5,))


def test_another_file_than_the_stages_is_refused(spec_of, write):
    spec = spec_of(MODULE)
    other = spec.name.partition(":")[0]
    write(HEAD + MODULE + "\n# changed\n", other)
    changed = own_parts.source_of(spec.name, "model.name")
    assert changed != spec.source
    with pytest.raises(
        ValueError, match=r"^model.name is .* another than the one that the stage was made with"
    ):
        own_network.fresh_variables(spec, KEY)


def test_a_network_that_no_twin_can_run_is_refused_before_it_is_cut(spec_of):
    told = r"^model.name is .* can't run with channels cut out, as 0 will be: .*; leave layers out of sparsify.layers"
    with pytest.raises(ValueError, match=told):
        twins.refuse_unfit(spec_of(SORTS_IN_TRAINING), {"0": 3})
    for source, widths in ((LINEN, {"Dense_0": 3}), (LINEN, {}), (MODULE, {"hidden": 3})):
        twins.refuse_unfit(spec_of(source), widths)
