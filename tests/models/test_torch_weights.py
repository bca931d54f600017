"""Logits of the mapped weights against the PyTorch network they came from, and what is refused."""

import hashlib
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import models
from prune_jax.models import torch_weights

BASIC, BOTTLENECK = (3, 3), (1, 3, 1)


@pytest.fixture(scope="module", autouse=True)
def torch():
    """PyTorch, imported when the first test runs: it takes seconds, in each of pytest's processes."""
    return pytest.importorskip("torch", reason="PyTorch is the oracle here")


@pytest.fixture(scope="module")
def peers(torch):
    """The networks written in PyTorch."""
    return importlib.import_module("torch_peers")


def state_of(peer):
    return {key: value.numpy().copy() for key, value in peer.state_dict().items()}


def images(shape, batch=2):
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)


def logits_of(peer, x):
    import torch

    with torch.no_grad():
        return peer(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()


def assert_same_logits(name, peer, shape, classes=10, **options):
    """Within 1e-4 of the largest logit: float32 sums in another order, through up to 50 layers."""
    net = models.functional(models.abstract(name, num_classes=classes, input_shape=shape, **options))
    variables = torch_weights.convert(state_of(peer), name, net.variables)
    x = images(shape)
    want = logits_of(peer, x)
    got = np.asarray(jax.jit(net.apply)(variables, x))
    assert np.ptp(want, axis=0).max() > 1e-2 * np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.fixture(scope="module")
def peer(peers):
    return peers.randomised(peers.ImageNetResNet(BASIC, (2, 2, 2, 2), 10), 0)


@pytest.fixture(scope="module")
def target():
    return models.functional(models.abstract("resnet18", num_classes=10, input_shape=(48, 48, 3))).variables


def test_resnet18_agrees_with_pytorch(peer):
    # 45 and 33 are odd: the strided layers and the pool must pad and round as PyTorch does.
    assert_same_logits("resnet18", peer, (45, 33, 3))


def test_small_resnet_with_option_a_agrees_with_pytorch(peers):
    assert_same_logits("resnet8", peers.randomised(peers.SmallResNet(1, 10), 1), (19, 14, 3))


def test_small_resnet_trains_on_batch_statistics_as_pytorch(peers):
    peer = peers.randomised(peers.SmallResNet(1, 10), 2)
    net = models.functional(models.abstract("resnet8", num_classes=10, input_shape=(12, 12, 3)))
    before = torch_weights.convert(state_of(peer), "resnet8", net.variables)
    x = images((12, 12, 3), batch=4)
    logits, stats = jax.jit(net.apply_train)(before, x)
    want = logits_of(peer.train(), x)
    after = torch_weights.convert(state_of(peer), "resnet8", net.variables)["batch_stats"]
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)
    # The last stage has 36 values a channel: biased and unbiased variance are 3 % apart.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), stats, after)
    assert not np.allclose(stats["bn"]["var"], before["batch_stats"]["bn"]["var"], rtol=1e-2)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.slow
def test_vgg19_agrees_with_pytorch_with_and_without_convolution_biases(bias, peers):
    assert_same_logits("vgg19", peers.randomised(peers.CifarVGG(10, bias), 3), (32, 32, 3))


@pytest.mark.slow
def test_vgg19_for_imagenet_agrees_with_pytorch_and_timm(peers):
    peer = peers.randomised(peers.ImageNetVGG(6, 24, 10), 4)
    shape = (64, 96, 3)
    widths = {"dense/0": 24, "dense/1": 24}
    assert_same_logits("vgg19", peer, shape, widths=widths, hidden=(4096, 4096))
    net = models.functional(
        models.abstract("vgg19", num_classes=10, input_shape=shape, widths=widths, hidden=(4096, 4096))
    )
    state = state_of(peer)
    timm = {k: v for k, v in state.items() if not k.startswith("classifier")}
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    axes = {"classifier.0": (24, 512, 2, 3), "classifier.3": (24, 24, 1, 1), "classifier.6": (10, 24)}
    for theirs, name in renamed.items():
        timm[f"{name}.weight"] = state[f"{theirs}.weight"].reshape(axes[theirs])
        timm[f"{name}.bias"] = state[f"{theirs}.bias"]
    expected = torch_weights.convert(state, "vgg19", net.variables)
    jax.tree.map(np.testing.assert_array_equal, torch_weights.convert(timm, "vgg19", net.variables), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes"), [("resnet34", BASIC), ("resnet50", BOTTLENECK)])
def test_deeper_resnets_agree_with_pytorch(name, sizes, peers):
    assert_same_logits(name, peers.randomised(peers.ImageNetResNet(sizes, (3, 4, 6, 3), 10), 5), (65, 50, 3))


def test_every_leaf_is_filled_in_the_target_s_shape_and_dtype(peer, target):
    filled = torch_weights.convert(state_of(peer), "resnet18", target)
    assert jax.tree.structure(filled) == jax.tree.structure(target)
    forms = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (filled, target)]
    assert forms[0] == forms[1]
    total = sum(
        float(np.abs(value).sum(dtype=np.float64))
        for key, value in state_of(peer).items()
        if not key.endswith("num_batches_tracked")
    )
    got = sum(float(np.abs(leaf).sum(dtype=np.float64)) for leaf in jax.tree.leaves(filled))
    assert got == pytest.approx(total, rel=1e-9)


def test_a_missing_and_a_left_over_key_are_both_named(peer, target):
    state = state_of(peer)
    state["layer1.0.conv3.weight"] = state.pop("layer1.0.conv2.weight")
    with pytest.raises(
        ValueError, match=r"resnet18.*missing \(layer1.0.conv2.weight\).*left over \(layer1.0.conv3"
    ):
        torch_weights.convert(state, "resnet18", target)


def test_another_shape_is_named_with_both_shapes(peer, target):
    state = state_of(peer) | {"fc.weight": np.zeros((1000, 512), np.float32)}
    with pytest.raises(
        ValueError, match=r"fc.weight is \(1000, 512\), head/kernel takes \(10, 512\).*num_classes"
    ):
        torch_weights.convert(state, "resnet18", target)


def test_swapped_kernel_axes_are_refused(peer, target):
    state = state_of(peer)
    state["conv1.weight"] = state["conv1.weight"].transpose(1, 0, 2, 3)
    with pytest.raises(ValueError, match=r"conv1.weight is \(3, 64, 7, 7\), stem/kernel"):
        torch_weights.convert(state, "resnet18", target)


def test_networks_without_counterpart_are_refused():
    net = models.functional(models.abstract("lenet5", num_classes=10, input_shape=(28, 28, 1)))
    with pytest.raises(ValueError, match="lenet5 has no counterpart"):
        torch_weights.convert({}, "lenet5", net.variables)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "parallel"])
def test_pickled_files_give_the_same_state(tmp_path, wrap, torch):
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    content = {
        "plain": tensors,
        "state_dict": {"epoch": 3, "state_dict": tensors},
        "model": {"model": tensors},
        "parallel": {f"module.{key}": value for key, value in tensors.items()},
    }[wrap]
    torch.save(content, tmp_path / "net.pth")
    state = torch_weights.read(tmp_path / "net.pth")
    assert state.keys() == tensors.keys()
    np.testing.assert_array_equal(state["a.weight"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(state["a.bias"], [1, 1])


def test_safetensors_files_load_into_a_network(tmp_path, peer, target):
    importlib.import_module("safetensors.torch").save_file(peer.state_dict(), tmp_path / "net.safetensors")
    loaded = torch_weights.load(tmp_path / "net.safetensors", "resnet18", target)
    expected = torch_weights.convert(state_of(peer), "resnet18", target)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_half_precision_checkpoints_become_the_target_s_dtype(peer, target):
    half = {key: value.astype(jnp.bfloat16) for key, value in state_of(peer).items()}
    filled = torch_weights.convert(half, "resnet18", target)
    assert {leaf.dtype for leaf in jax.tree.leaves(filled)} == {np.dtype(np.float32)}


class Hostile:
    def __reduce__(self):
        return print, ("code from a pickle ran",)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, capsys, torch):
    torch.save({"weight": Hostile()}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"net.pth.*weights_only"):
        torch_weights.read(tmp_path / "net.pth")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.safetensors", b"no header", "no readable safetensors"),
        ("net.pth", b"no zip", "plain weights"),
        ("net.npz", b"", "not '.npz'"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        torch_weights.read(tmp_path / name)


def test_a_pickle_that_is_no_state_dict_is_refused(tmp_path, torch):
    torch.save({"epoch": 3}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="no state dict"):
        torch_weights.read(tmp_path / "net.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        torch_weights.read(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match=r"is a folder; weights come as \.safetensors"):
        torch_weights.read(tmp_path)


def test_content_id_is_the_sha256_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 4096
    (tmp_path / "a").write_bytes(content)
    assert torch_weights.content_id(tmp_path / "a") == hashlib.sha256(content).hexdigest()
