"""The benchmark of a 7 B decoder: what it adds up by itself, and that its quick form runs."""

import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from benchmarks import decoder_7b


def test_bytes_of_a_device_are_those_of_its_parts():
    mesh = AbstractMesh((8,), ("fsdp",))
    tree = {
        "a": jax.ShapeDtypeStruct(
            (3, 16, 64), "bfloat16"
        ),  # along the largest axis: 3 * 16 * 8 entries of 2 bytes
        "b": jax.ShapeDtypeStruct((24, 7), "float32"),  # along the first: 3 * 7 of 4
        "c": jax.ShapeDtypeStruct((5,), "float32"),  # 8 devices don't divide it: all on each
    }
    spread = decoder_7b.spread(mesh, tree)
    assert decoder_7b.bytes_a_device(spread) == 3 * 16 * 8 * 2 + 3 * 7 * 4 + 5 * 4


def test_the_large_network_has_seven_billion_weights_and_the_small_a_thousandth():
    """Counted by hand: attention 4 h^2, MLP 3 h m and two norms a block, two tables and a norm."""

    def by_hand(sizes, vocabulary):
        hidden, inner = sizes["hidden"], sizes["mlp"]
        block = 4 * hidden * sizes["heads"] * sizes["head_dim"] + 3 * hidden * inner + 2 * hidden
        return sizes["depth"] * block + 2 * vocabulary * hidden + hidden

    for sizes, name in ((decoder_7b.LLAMA_7B, "large"), (decoder_7b.THOUSANDTH, "small")):
        vocabulary = decoder_7b.VOCABULARIES[name]
        network = decoder_7b.network_of(sizes, vocabulary, 8, "bfloat16")
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.variables))
        assert count == by_hand(sizes, vocabulary)
    large, small = by_hand(decoder_7b.LLAMA_7B, 32000), by_hand(decoder_7b.THOUSANDTH, 1000)
    assert 6.5e9 < large < 7e9
    assert 0.9 < 1000 * small / large < 1.1


@pytest.mark.slow
def test_the_quick_form_scores_and_cuts_on_eight_devices(tmp_path):
    out = tmp_path / "decoder.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.decoder_7b",
        "--quick",
        "--criteria",
        "l1",
        "wanda",
        f"--out={out}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = json.loads(out.read_text())
    paper, real = found["on_paper"], found["really"]
    assert real["spread_after"]
    assert paper["parameters"] == real["parameters"]
    assert paper["parameters_after"] == real["parameters_after"] < real["parameters"]
    np.testing.assert_allclose(
        2 * paper["weights_mib_a_device"], real["weights_mib_a_device"], atol=0.002
    )  # bfloat16
    assert set(paper["programs"]) == {"l1", "wanda", "cut of the leaf that takes most"}
    assert set(real["seconds"]) == {"l1", "wanda", "cut"}
