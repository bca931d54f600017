"""The commands spectrum and sensitivity on a stage that reads a text: against NumPy, and what is refused."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from ml_collections import ConfigDict

from prune_jax import data
from prune_jax.experiment import networks
from prune_jax.experiment.chain import restore
from prune_jax.experiment.commands import sensitivity, spectrum, spectrum_images
from prune_jax.experiment.config import sweep
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.specs import stated
from prune_jax.experiment.storage import folder
from prune_jax.experiment.storage import stages as disk
from prune_jax.models import functional
from prune_jax.pruning import masks

SIZES = {"hidden": 4, "depth": 1, "heads": 2, "kv_heads": 2, "head_dim": 2, "mlp": 6}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A folder of text, and a finished stage of a decoder that NumPy draws: (root, id, text folder)."""
    texts, root = tmp_path_factory.mktemp("texts"), tmp_path_factory.mktemp("run") / "run"
    for number in range(10):
        (texts / f"{number}.txt").write_bytes(np.random.default_rng(number).bytes(90))
    config = default_config()
    config.dataset.name, config.dataset.window, config.dataset.data_dir = "text_folder", 4, str(texts)
    config.model.name, config.model.options = "decoder", ConfigDict(SIZES)
    config.optimizer.batch_size = 4
    text = data.load_text("text_folder", length=4, data_dir=str(texts))
    spec = sweep.plan_arms(config, None, text)[0].chain[0]
    variables = functional(drawn(lambda _: networks.abstract_model(spec.model))).variables
    told = {"kind": "pretrain", "spec": stated(spec), "seed": 0, "parent": None, "history": []}
    disk.save_stage(folder.open_workdir(root, "test"), "abc", variables, told)
    return root, "abc", texts


def arguments(command, *given):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(given)


def loaded(stage):
    network = restore.load(spectrum.reading(stage[0]), "abc")
    windows = data.load_text("text_folder", length=4, data_dir=str(stage[2])).test
    return network, windows.images[:3], windows.labels[:3]


def test_the_spectrum_is_of_the_last_logits_to_the_embeddings(stage, capsys):
    drawn_ones = []

    def draw(found, title, png):
        drawn_ones.append((found, title))
        return False

    path = f"--checkpoint={stage[0] / 'stages' / 'abc'}"
    args = arguments(spectrum, path, f"--data_dir={stage[2]}", "--examples=3")
    assert spectrum.run(args, draw) == 0
    assert "stage abc: decoder, 3 test examples of text_folder" in capsys.readouterr().out
    network, tokens, _ = loaded(stage)
    functions = networks.network_of(network.model)
    made = functions.embedded(network.variables, jnp.asarray(tokens))
    last = jax.jit(jax.jacrev(lambda x: functions.last_logits(network.variables, x[None])[0]))
    values = [np.linalg.svd(np.asarray(last(x), np.float64).reshape(256, -1), compute_uv=False) for x in made]
    (summary,) = drawn_ones[0][0].values()
    assert summary.examples == 3
    np.testing.assert_allclose(summary.mean, np.mean(values), rtol=1e-4)


def test_sensitivities_are_bits_per_byte(stage, capsys):
    path = f"--checkpoint={stage[0] / 'stages' / 'abc'}"
    given = (path, f"--data_dir={stage[2]}", "--examples=3", "--ratios=0.5", "--pattern=*mlp/gate")
    assert sensitivity.run(arguments(sensitivity, *given), lambda *_: False) == 0
    out = capsys.readouterr().out
    assert "bits per byte when one group of channels alone loses its lowest by l1" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("blocks/0/mlp/gate")]
    network, tokens, labels = loaded(stage)
    apply = jax.jit(networks.network_of(network.model).apply)
    norms = np.abs(np.asarray(network.variables["params"]["blocks"][0]["mlp"]["gate"]["kernel"])).sum(0)
    keep = {"blocks/0/mlp/gate": np.sort(np.argsort(norms)[3:])}
    groups = networks.groups_of(network.model)
    held = masks.apply_mask(network.variables, masks.expand(network.variables, groups, keep))
    for variables, cell in ((network.variables, row[1]), (held, row[2])):
        logs = np.asarray(jax.nn.log_softmax(apply(variables, tokens)), np.float64)
        bits = -np.take_along_axis(logs, labels[..., None], -1).mean() / np.log(2)
        assert float(cell) == pytest.approx(bits, rel=2e-3)  # printed with four digits


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (spectrum, "--dataset=digits", "--dataset=digits is no text, and the stage's decoder reads windows of 4 bytes"),
        (sensitivity, "--dataset=digits", "--dataset=digits is no text"),
        (spectrum, "--data_dir=nowhere", "nowhere"),
        (spectrum, "--examples=100000", "--examples=100000: text_folder has"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(stage, capsys, command, given, message):
    path = f"--checkpoint={stage[0] / 'stages' / 'abc'}"
    folders = () if given.startswith("--data_dir") else (f"--data_dir={stage[2]}",)
    assert command.run(arguments(command, path, given, *folders), lambda *_: False) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_all_examples_are_found_without_a_number(stage):
    network, *_ = loaded(stage)
    tokens, labels = spectrum_images.examples(network, "text_folder", str(stage[2]), None)
    assert tokens.shape == labels.shape == (len(tokens), 4)
    assert len(tokens) > 3
