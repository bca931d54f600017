"""The criteria of docs/criteria.md: ten lines, run as the page says, held to NumPy."""

import importlib
import pathlib
import re

import jax.numpy as jnp
import numpy as np
from flax import nnx
from small_runs import context_of, mlp_config

import prune_jax
from prune_jax.experiment.chain import restore, run
from prune_jax.experiment.config import sweep

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "criteria.md").read_text()
CODE = re.search(r"```py\n# my_criteria.py\n(.*?)```", PAGE, re.DOTALL).group(1)


def test_a_criterion_is_ten_lines():
    assert len([line for line in CODE.splitlines() if line]) <= 10


def sizes(w):
    return np.abs(np.asarray(w, np.float64)) / np.std(np.asarray(w, np.float64))


def test_it_prunes_channels_of_a_module(write):
    size = importlib.import_module(write(CODE)).size
    net = nnx.Sequential(nnx.Linear(5, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 3, rngs=nnx.Rngs(1)))
    kernel = np.asarray(net.layers[0].kernel[...])
    pruned = prune_jax.prune(net, jnp.ones((1, 5)), ratio=0.5, criterion=size)
    wanted = np.sort(np.argsort(sizes(kernel).mean(0))[4:])
    np.testing.assert_array_equal(np.asarray(pruned.model.layers[0].kernel[...]), kernel[:, wanted])


def test_both_run_by_their_names_in_a_config(write, tmp_path, digits):
    config, name = mlp_config(), write(CODE)
    config.seeds, config.pretrain.epochs, config.retrain.epochs = (0,), 1, 1
    config.sparsify.criterion, config.sparsify.granularity = f"{name}:size", "unstructured"
    config.sparsify.evidence = {"batches": 2, "batch_size": 32}
    assert sweep.plan_arms(config, None, digits)  # tried on random weights
    config.sparsify.criterion = f"{name}:slope"
    (arm,) = sweep.plan_arms(config, None, digits)
    context = context_of(tmp_path / "run", digits, arm)
    run.run_chain(context, arm)
    masks = [layer["kernel"] for layer in restore.load(context.store, arm.ids[0][1]).mask["layers"].values()]
    assert all(int((np.asarray(mask) == 0).sum()) == (mask.size + 1) // 2 for mask in masks)
