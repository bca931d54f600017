"""Checkpoints against transformers with PyTorch: each side reads what the other wrote and computes the same logits."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from flax import nnx
from safetensors.numpy import load_file, save_file

import prune_jax
from prune_jax import models
from prune_jax.models.checkpoints import load_checkpoint, save_checkpoint
from prune_jax.pruning.depth import keep_blocks

TOKENS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]], np.int32)
SIZES = {
    "vocab_size": 11, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.5,
}  # fmt: skip
# (class, further keys): explicit and derived head sizes, tied and not, biases, fused tensors.
KINDS = {
    "llama": ("Llama", {"head_dim": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama tied": ("Llama", {"head_dim": 6, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"head_dim": 4, "sliding_window": None}),
    "qwen2": ("Qwen2", {"num_attention_heads": 6, "num_key_value_heads": 3, "rms_norm_eps": 1e-3}),
    "phi3": ("Phi3", {"num_attention_heads": 6, "num_key_value_heads": 3, "pad_token_id": 0}),
}


@functools.cache
def oracle():
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    return torch, transformers


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """kind -> folder of a random model that transformers wrote in several files, and its logits."""

    @functools.cache
    def write(kind):
        torch, transformers = oracle()
        name, keys = KINDS[kind]
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**{**SIZES, **keys})
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # norms and biases too
                parameter.add_(0.2 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp(kind.replace(" ", "_"))
        model.save_pretrained(folder, max_shard_size="8KB")
        (folder / "tokenizer.json").write_text("{}")
        return folder, theirs(folder)

    return write


def theirs(folder):
    torch, transformers = oracle()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor(TOKENS, dtype=torch.long)).logits.numpy()


@functools.partial(jax.jit, static_argnums=0)
def run(graph, state):
    return nnx.merge(graph, state)(jnp.asarray(TOKENS))


def ours(net):
    return np.asarray(run(*nnx.split(net)))


# One kind in the fast part, stacked or not; the others share its code but for names and biases.
EVERY_KIND = [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "llama tied")) for kind in KINDS]
slow = pytest.mark.slow


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_transformers_wrote_gives_its_logits(written, kind, scan):
    folder, logits = written(kind)
    np.testing.assert_allclose(ours(load_checkpoint(folder, scan=scan)), logits, atol=1e-4)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_we_write_is_read_by_the_own_class(written, tmp_path, kind):
    folder, logits = written(kind)
    for scan, shard_bytes in ((False, 5e9), (True, 3000)):
        back = save_checkpoint(
            tmp_path / str(scan), load_checkpoint(folder, scan=scan), like=folder, shard_bytes=shard_bytes
        )
        np.testing.assert_array_equal(theirs(back), logits)
        assert (back / "model.safetensors.index.json").exists() == scan
        assert (back / "tokenizer.json").read_text() == "{}"


def pruned_by(what, net):
    if what == "heads":
        return prune_jax.prune(net, TOKENS, ratio=0.5, layers="blocks/*attention/q")
    if what == "inner width":
        return prune_jax.prune(net, TOKENS, ratio=0.3, layers="blocks/*mlp/gate")
    return prune_jax.prune(net, TOKENS, ratio=1 / 3, layers="embed*")


@pytest.mark.parametrize(
    ("kind", "what", "scan"),
    [
        ("llama tied", "heads", False),
        ("llama tied", "residual width", True),
        *(
            pytest.param(kind, what, scan, marks=slow)
            for kind, what in (
                ("llama", "heads"),
                ("llama tied", "inner width"),
                ("llama", "residual width"),
                ("phi3", "inner width"),
            )
            for scan in (False, True)
        ),
    ],
)
def test_a_pruned_checkpoint_is_read_by_the_own_class(written, tmp_path, kind, what, scan):
    folder, _ = written(kind)
    pruned = pruned_by(what, load_checkpoint(folder, scan=scan))
    small = save_checkpoint(tmp_path / "small", pruned, like=folder)
    config = json.loads((small / "config.json").read_text())
    wanted = {"heads": ("num_key_value_heads", 2), "inner width": ("intermediate_size", 14)}
    key, size = wanted.get(what, ("hidden_size", 16))
    assert config[key] == size
    assert config["num_attention_heads"] == {"heads": 4, "inner width": 6 if kind == "phi3" else 8}.get(
        what, 8
    )
    np.testing.assert_allclose(theirs(small), ours(pruned.model), atol=1e-4)
    np.testing.assert_array_equal(ours(load_checkpoint(small, scan=scan)), ours(pruned.model))


@pytest.mark.parametrize("scan", [False, True])
def test_a_checkpoint_without_blocks_is_read_by_the_own_class(written, tmp_path, scan):
    small = keep_blocks(load_checkpoint(written("llama tied")[0], scan=scan), [0, 2])
    folder = save_checkpoint(tmp_path / "small", small)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    np.testing.assert_allclose(theirs(folder), ours(small), atol=1e-4)
    np.testing.assert_array_equal(ours(load_checkpoint(folder, scan=scan)), ours(small))


def decoder(**sizes):
    shapes = {"hidden": 16, "depth": 2, **sizes}
    return drawn(lambda _: models.abstract("decoder", num_classes=11, input_shape=(4,), **shapes))


plain = functools.cache(decoder)


def test_bfloat16_stays_and_can_be_widened(tmp_path):
    net = plain()
    graph, state = nnx.split(net)
    low = nnx.merge(
        graph, jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(jnp.bfloat16)), state)
    )
    folder = save_checkpoint(tmp_path / "low", low)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert load_checkpoint(folder).norm.scale[...].dtype == jnp.bfloat16
    assert load_checkpoint(folder, dtype=np.float32).norm.scale[...].dtype == jnp.float32


def test_blocks_of_several_sizes_are_refused_with_the_way_out(tmp_path):
    net = decoder(widths={"blocks/1/mlp/gate": 8})
    with pytest.raises(
        ValueError, match=r"'blocks/0' has .* 64 inner .*'blocks/1' has .* 8 inner.*prune_jax\.save"
    ):
        save_checkpoint(tmp_path, net)
    assert not (tmp_path / "config.json").exists()


def test_heads_that_transformers_refuses_are_refused_with_the_way_out(tmp_path):
    net = decoder(heads=3, kv_heads=3)
    with pytest.raises(ValueError, match="not 16 and 3: prune to 1 or 2 heads, or give model_type='mistral'"):
        save_checkpoint(tmp_path / "a", net)
    folder = save_checkpoint(tmp_path / "b", net, model_type="mistral")
    np.testing.assert_allclose(theirs(folder), ours(net), atol=1e-4)


def changed(folder, **keys):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_type": "gpt2"}, "unknown model_type 'gpt2'.*Allowed: llama, mistral, qwen2, phi3"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', but our decoder computes hidden_act='silu' alone"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"sliding_window": 4}, "sliding_window is 4.*None"),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling is"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type is 'llama3'"),
        ({"num_hidden_layers": 3}, r"lacks 'model.layers.2.input_layernorm.weight', .* and 6 more"),
        ({"num_hidden_layers": 1}, r"has 'model.layers.1.input_layernorm.weight', .* too"),
        ({"intermediate_size": 7}, r"gate_proj.weight' .* has shape \(64, 16\), .* follows \(7, 16\)"),
    ],
)
def test_a_config_of_another_network_is_refused(tmp_path, keys, message):
    folder = save_checkpoint(tmp_path / "net", plain())
    changed(folder, **keys)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder)


def test_other_names_are_refused_with_those_expected(tmp_path):
    folder = save_checkpoint(tmp_path / "net", plain())
    file = folder / "model.safetensors"
    save_file({f"transformer.{name}": array for name, array in load_file(file).items()}, file)
    with pytest.raises(
        ValueError, match=r"lacks 'model.embed_tokens.weight'.* has 'transformer\..*named as in 'model"
    ):
        load_checkpoint(folder)


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json; name the folder"):
        load_checkpoint(tmp_path)
    folder = save_checkpoint(tmp_path / "net", plain())
    with pytest.raises(FileExistsError, match="holds a checkpoint already; name an empty folder"):
        save_checkpoint(folder, plain())
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        load_checkpoint(folder)


def test_heads_that_are_cut_inside_are_refused(tmp_path):
    pruned = prune_jax.prune(decoder(depth=1), TOKENS, ratio=0.5, layers="*:inner")
    with pytest.raises(
        ValueError, match=r"twin of the decoder's code .*q:inner' out of layers, or .*prune_jax\.save"
    ):
        save_checkpoint(tmp_path, pruned)


def test_what_is_no_decoder_and_a_type_that_does_not_fit_are_refused(tmp_path):
    with pytest.raises(TypeError, match="a Linear can't be written in this layout; give a Decoder"):
        save_checkpoint(tmp_path, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(
        ValueError, match="model_type is 'qwen2', but queries, keys and values have no biases"
    ):
        save_checkpoint(tmp_path, plain(), model_type="qwen2")
