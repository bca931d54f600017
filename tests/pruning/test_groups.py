"""Groups by hand: members, index maps, producers, names, order and reasons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo_linen
import zoo_nnx
from drawn import drawn
from flax import nnx
from jax import lax

from prune_jax.pruning.coupling import find_groups


def shapes(**leaves):
    return {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in leaves.items()}


def vector(n=4):
    return jax.ShapeDtypeStruct((2, n), "float32")


def named(groups):
    return {group.name: group for group in groups}


def members(group):
    return {(s.path, s.axis): s.index.tolist() for s in group.members}


class BasicBlock(nnx.Module):
    def __init__(self, wide_in, wide, stride, rngs):
        self.conv1 = nnx.Conv(wide_in, wide, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Conv(wide, wide, (3, 3), use_bias=False, rngs=rngs)
        self.bn2 = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)
        if stride > 1:
            self.down = nnx.Conv(wide_in, wide, (1, 1), strides=stride, use_bias=False, rngs=rngs)
            self.down_bn = nnx.BatchNorm(wide, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        return nnx.relu(y + (self.down_bn(self.down(x)) if hasattr(self, "down") else x))


class ResNet18(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 64, (7, 7), strides=2, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(64, use_running_average=True, rngs=rngs)
        blocks, wide_in = [], 64
        for stage, wide in enumerate((64, 128, 256, 512)):
            for k in range(2):
                blocks.append(BasicBlock(wide_in, wide, 2 if stage and not k else 1, rngs))
                wide_in = wide
        self.blocks = nnx.List(blocks)
        self.fc = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.bn1(self.conv1(x))), (3, 3), (2, 2), "SAME")
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((1, 2)))


def resnet18():
    module = nnx.eval_shape(lambda: ResNet18(nnx.Rngs(0)))
    graph, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    variables = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}

    def apply(variables, x):
        return nnx.merge(graph, variables["params"], variables["batch_stats"])(x)

    return apply, variables, jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")


def test_stem_of_resnet18_reaches_norms_both_blocks_and_all_readers():
    stem = named(find_groups(*resnet18()))["conv1"]

    def norm(name):
        learnt = {f"params/{name}/{leaf}" for leaf in ("scale", "bias")}
        return learnt | {f"batch_stats/{name}/{leaf}" for leaf in ("mean", "var")}

    made = {
        ("params/conv1/kernel", 3),
        ("params/blocks/0/conv2/kernel", 3),
        ("params/blocks/1/conv2/kernel", 3),
    }
    norms = {(path, 0) for name in ("bn1", "blocks/0/bn2", "blocks/1/bn2") for path in norm(name)}
    readers = {(f"params/blocks/{k}/conv1/kernel", 2) for k in (0, 1, 2)} | {
        ("params/blocks/2/down/kernel", 2)
    }
    assert set(members(stem)) == made | norms | readers
    assert len(stem.members) == 3 + 3 * 4 + 4
    assert all(index == list(range(64)) for index in members(stem).values())
    assert (stem.producer.path, stem.producer.axis) == ("params/conv1/kernel", 3)


def test_resnet18_in_order_with_frozen_ends():
    groups = find_groups(*resnet18())
    assert [g.name for g in groups][:5] == [
        "conv1/kernel:2",
        "conv1",
        "blocks/0/conv1",
        "blocks/1/conv1",
        "blocks/2/conv1",
    ]
    assert [g.name for g in groups if g.frozen] == ["conv1/kernel:2", "fc"]
    assert all(g.maskable for g in groups)


def test_concatenation_offsets_the_readers_rows():
    apply, variables, x = zoo_nnx.build("densenet")
    groups = named(find_groups(apply, variables, x))
    index = members(groups["convs/1"])[("params/shrinker/kernel", 2)]
    assert index == [-1] * 7 + [0, 1, 2] + [-1] * 3


def test_flatten_maps_a_channel_to_all_its_positions():
    def apply(p, x):
        h = lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return h.reshape(2, -1) @ p["v"]

    x = jax.ShapeDtypeStruct((2, 2, 3, 1), "float32")
    groups = named(find_groups(apply, shapes(w=(3, 3, 1, 4), v=(24, 2)), x))
    assert members(groups["w"])[("v", 0)] == [0, 1, 2, 3] * 6  # NHWC: c runs fastest


def test_gated_halves_share_their_channels():
    def apply(p, x):
        a, b = jnp.split(x @ p["w"], 2, -1)
        return (a * jax.nn.sigmoid(b)) @ p["v"]

    groups = named(find_groups(apply, shapes(w=(4, 6), v=(3, 2)), vector()))
    assert members(groups["w"]) == {("w", 1): [0, 1, 2, 0, 1, 2], ("v", 0): [0, 1, 2]}


def test_heads_and_their_sizes_are_separate_groups():
    groups = named(find_groups(*zoo_linen.build("vit")))
    heads, size = groups["attention/query/kernel:1"], groups["attention/query/kernel:2"]
    assert heads.size == 3
    assert heads.maskable
    kernels = {("params/attention/" + n + "/kernel", 1) for n in ("query", "key", "value")}
    biases = {("params/attention/" + n + "/bias", 0) for n in ("query", "key", "value")}
    assert set(members(heads)) == kernels | biases | {("params/attention/out/kernel", 0)}
    assert size.size == 5
    assert not size.maskable
    assert "constant 2.23607" in size.unmaskable  # sqrt(5)


def test_norm_groups_go_as_a_whole():
    """A mask can stand for a whole norm group, not for one of the channels that it averages."""
    groups = named(find_groups(*zoo_nnx.build("groupnorm")))
    assert groups["stem"].size == 4
    assert groups["stem"].maskable
    assert members(groups["stem"])[("params/stem/kernel", 3)] == np.repeat(range(4), 3).tolist()


def test_one_norm_group_is_a_layer_norm():
    def apply(p, x):
        h = (x @ p["w"]).reshape(2, 1, 6)
        h = (h - h.mean(-1, keepdims=True)).reshape(2, 6)
        return h @ p["v"]

    group = named(find_groups(apply, shapes(w=(4, 6), v=(6, 2)), vector()))["w"]
    assert group.size == 6
    assert not group.maskable
    assert "reduce_sum" in group.unmaskable or "constant 6" in group.unmaskable


def test_shuffled_groups_couple_channel_by_channel():
    """Two conv groups of four channels and a shuffle between: channels couple across groups, as far as needed."""
    groups = named(find_groups(*zoo_nnx.build("shufflenet")))
    for name in ("stem", "g1"):
        for (path, axis), index in members(groups[name]).items():
            counts = np.bincount(index)
            assert (counts == counts[0]).all(), (path, axis)


def test_depthwise_kernel_has_no_group_of_its_own():
    groups = named(find_groups(*zoo_nnx.build("mobilenet")))
    assert ("params/depth/kernel", 3) in members(groups["expand"])
    assert "depth" not in groups


def test_residual_frozen_by_the_input():
    groups = find_groups(lambda p, x: x + jnp.tanh(x @ p["w"]) @ p["v"], shapes(w=(4, 6), v=(6, 4)), vector())
    by_name = named(groups)
    assert "network input" in by_name["v"].frozen or "network output" in by_name["v"].frozen
    assert by_name["w"].frozen is None


def test_primitive_without_a_rule_freezes_with_name_reason_and_line():
    def apply(p, x):
        h = x @ p["w"]
        return jax.pure_callback(np.sin, h, h) @ p["v"]

    frozen = named(find_groups(apply, shapes(w=(4, 6), v=(6, 2)), vector()))["w"].frozen
    assert frozen.startswith("pure_callback: a kernel or call from outside JAX")
    assert "test_groups.py" in frozen


FREEZING = {
    "sort": lambda h: jnp.sort(h, -1),
    "argmax": lambda h: h + jnp.argmax(h, -1, keepdims=True),
    "top_k": lambda h: h * lax.top_k(h, 2)[0].sum(-1, keepdims=True),
    "reduce_window_sum": lambda h: h / lax.reduce_window(h * h, 0.0, lax.add, (1, 3), (1, 1), "SAME"),
    "reduce_window": lambda h: h + lax.reduce_window(h, 1.0, lax.mul, (1, 3), (1, 1), "SAME"),
    "qr": lambda h: jnp.linalg.qr(h.T @ h)[0][:2],
    "approx_top_k": lambda h: h * lax.approx_max_k(h, 2)[0].sum(-1, keepdims=True),
    "unstack": lambda h: h + sum(jnp.unstack(h, axis=1))[:, None],
    "scatter-max": lambda h: h.at[:, 1:3].max(0.0),
    "fft": lambda h: jnp.fft.fft(h).real,
    "scatter": lambda h: h.at[:, 1:3].set(0.0),
    "gather": lambda h: h + jnp.take(h, jnp.abs(h.sum()).astype(int), axis=1).reshape(2, 1),
}


@pytest.mark.parametrize("name", FREEZING)
def test_what_depends_on_a_channels_place_freezes(name):
    use = FREEZING[name]
    groups = find_groups(lambda p, x: use(x @ p["w"]) @ p["v"], shapes(w=(4, 6), v=(6, 2)), vector())
    assert any(name in (g.frozen or "") for g in groups), [g.frozen for g in groups]
    assert all(g.frozen for g in groups)


def test_a_picked_channel_freezes_alone():
    def apply(p, x):
        h = x @ p["w"]
        return (h @ p["v"]) * h[:, 2:3]

    groups = find_groups(apply, shapes(w=(4, 6), v=(6, 2)), vector())
    picked, rest = (g for g in groups if g.producer.path == "w" and g.producer.axis == 1)
    if picked.frozen is None:
        picked, rest = rest, picked
    assert (picked.size, rest.size) == (1, 5)
    assert "one channel" in picked.frozen
    assert rest.frozen is None


def test_leaf_that_nothing_makes_is_frozen():
    groups = find_groups(
        lambda p, x: (x @ p["w"]) * jnp.sin(p["table"]).sum(),
        shapes(w=(4, 2), table=(7,), unused=(5,)),
        vector(),
    )
    assert "no weight" in named(groups)["table:0"].frozen
    assert named(groups)["unused:0"].frozen == "this leaf is not used by the network"


def test_names_tell_parts_of_one_leaf_apart():
    def apply(p, x):
        h = x @ p["w"]
        return h[:, :2] @ p["a"] + h[:, 2:] @ p["b"]

    groups = find_groups(apply, shapes(w=(4, 6), a=(2, 3), b=(4, 3)), vector())
    free = [g.name for g in groups if g.frozen is None]
    assert free == ["w[0:2]", "w[2:6]"]


def test_any_pytree_and_leaf_types_are_read():
    tree = {"layers": [{"w": jnp.ones((4, 6), jnp.bfloat16)}, {"w": np.ones((6, 2), np.float32)}], "step": 3}
    tree["key"] = jax.random.key(0)

    def apply(p, x):
        return (x @ p["layers"][0]["w"].astype(jnp.float32)) @ p["layers"][1]["w"] * p["step"]

    groups = find_groups(apply, tree, np.ones((2, 4), np.float32))
    assert [g.name for g in groups if g.frozen is None] == ["layers/0"]


def test_nnx_state_is_read_as_it_is():
    net = drawn(lambda rngs: nnx.Sequential(nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)))
    graph, state = nnx.split(net)
    groups = find_groups(lambda s, x: nnx.merge(graph, s)(x), state, vector())
    assert [g.name for g in groups if g.frozen is None] == ["layers/0"]


def test_apply_that_branches_on_numbers_is_refused():
    def apply(p, x):
        return x @ p["w"] if x.sum() > 0 else x

    with pytest.raises(TypeError, match="can't be traced"):
        find_groups(apply, shapes(w=(4, 4)), vector())


def test_scanned_layers_are_cut_alike():
    groups = named(find_groups(*zoo_linen.build("stacked")))
    assert set(members(groups["layers/up"])) == {
        ("params/layers/up/kernel", 2),
        ("params/layers/up/bias", 1),
        ("params/layers/down/kernel", 1),
    }
    assert "scanned over" in groups["layers/up/kernel:0"].frozen
