"""docs/language_models.md: its code runs, from a checkpoint on disk to a pruned one on disk."""

import json
import pathlib
import re

import numpy as np
import pytest
from flax import nnx

from prune_jax import models
from prune_jax.models.decoder import Decoder

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "language_models.md").read_text()


@pytest.mark.slow
def test_the_code_of_the_page_goes_from_a_checkpoint_to_a_pruned_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden": 16, "depth": 3, "heads": 4, "kv_heads": 2, "head_dim": 4, "mlp": 32}
    net = Decoder(num_classes=19, input_shape=(8,), rngs=nnx.Rngs(0), tied=True, **sizes)
    models.save_checkpoint("llama", net)
    np.save("calibration.npy", np.random.default_rng(0).integers(0, 19, (2, 8)).astype(np.int32))
    space = {}
    exec("".join(re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)), space)
    assert "(2, 8, 19)" in capsys.readouterr().out
    config = json.loads(pathlib.Path("small/config.json").read_text())
    kept = (
        "num_key_value_heads",
        "num_attention_heads",
        "intermediate_size",
        "num_hidden_layers",
        "hidden_size",
    )
    assert [config[key] for key in kept] == [1, 2, 24, 2, 16]
    assert space["scores"].shape == space["losses"].shape == (3,)
    rows = np.asarray(space["mask"]["blocks"][0]["mlp"]["down"]["kernel"]).T.reshape(-1, 4)
    assert (rows.sum(1) == 2).all()
    with pytest.raises(FileExistsError):
        models.save_checkpoint("small", space["small"])


def test_every_config_that_the_page_names_is_there():
    for name in re.findall(r"`(configs/\w+\.py)`", PAGE):
        assert (pathlib.Path(__file__).parents[1] / name).exists()
