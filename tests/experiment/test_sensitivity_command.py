"""``python -m prune_jax sensitivity`` and the allocation of equal damage, on a network trained for an epoch."""

import argparse

import numpy as np
import pytest
from small_runs import context_of, mlp_config

from prune_jax.experiment import networks, specs
from prune_jax.experiment.arm import links
from prune_jax.experiment.chain import equal_damage, kinds, restore, sparsify
from prune_jax.experiment.commands import sensitivity
from prune_jax.experiment.config import sweep
from prune_jax.pruning.surgery import shrink
from prune_jax.report.heat_map import heat_map

EQUAL = {
    "sparsify.allocation": "sensitivity",
    "sparsify.speedup": 1.5,
    "sparsify.sensitivity.ratios": (0.3, 0.6, 0.9),
    "sparsify.sensitivity.batches": 3,
}


def arm_of(digits, **changes):
    config = mlp_config()
    config.model.options.hidden = 20
    config.seeds, config.pretrain.epochs, config.retrain.epochs = (0,), 1, 1
    return sweep.plan_arms(sweep.override(config, changes), None, digits)[0]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory, digits):
    """A chain whose action allocates by sensitivity, up to that action."""
    arm = arm_of(digits, **EQUAL)
    context = context_of(tmp_path_factory.mktemp("equal"), digits, arm)
    for link in links(arm)[:2]:
        kinds.kind_of(link.spec).finish(context, link)
    return context, arm


def command(*given):
    parser = argparse.ArgumentParser()
    sensitivity.add_arguments(parser)
    return parser.parse_args(given)


def images_of(digits, data):
    floats = (np.asarray(digits.test.images, np.float64) / 255 - data.mean[0]) / data.std[0]
    return floats.astype(np.float32)


def by_hand(dense, digits, group, ratio):
    """Accuracy and loss of the network really cut in one group by mean |w|, in NumPy."""
    layers = dense.variables["params"]["layers"]
    kernel = np.asarray(layers[int(group.split("/")[1])]["kernel"], np.float64)
    size = kernel.shape[1]
    gone = min(int(np.ceil(ratio * size - 1e-9)), size - 1)
    keep = {group: np.sort(np.argsort(np.abs(kernel).mean(0), kind="stable")[gone:])}
    small = shrink(dense.variables, networks.groups_of(dense.model), keep)
    logits = np.asarray(
        networks.network_of(dense.model).apply(small, images_of(digits, dense.data)), np.float64
    )
    labels = np.asarray(digits.test.labels)
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    return 100 * (logits.argmax(1) == labels).mean(), losses.mean()


@pytest.mark.slow
def test_the_table_is_that_of_a_loop_that_cuts(pruned, digits, tmp_path, capsys, monkeypatch):
    context, arm = pruned
    monkeypatch.setattr("prune_jax.data.open_dataset", lambda *_, **__: digits)
    dense, png = restore.load(context.store, arm.ids[0][0]), tmp_path / "map.png"
    path = str(context.store.root / "stages" / arm.ids[0][0])
    for place, measure in enumerate(("accuracy", "loss")):
        args = command(f"--checkpoint={path}", "--ratios=0.25,0.8", f"--measure={measure}", f"--png={png}")
        assert sensitivity.run(args, heat_map) == 0
        out = capsys.readouterr().out
        rows = [line.split() for line in out.splitlines() if line.startswith("layers/")]
        assert [row[0] for row in rows] == ["layers/0", "layers/1"]
        for name, *cells in rows:
            for ratio, cell in zip((0.0, 0.25, 0.8), cells, strict=True):
                wanted = by_hand(dense, digits, name, ratio)[place]
                assert float(cell) == pytest.approx(wanted, rel=2e-3)  # printed with four digits
    assert png.read_bytes().startswith(b"\x89PNG")


def test_weights_of_a_layer_and_a_missing_matplotlib(pruned, digits, capsys, monkeypatch):
    context, arm = pruned
    monkeypatch.setattr("prune_jax.data.open_dataset", lambda *_, **__: digits)
    path = str(context.store.root / "stages" / arm.ids[0][1])
    args = command(f"--checkpoint={path}", "--ratios=1", "--granularity=unstructured", "--pattern=head")
    assert sensitivity.run(args, lambda *_: False) == 0
    out = capsys.readouterr().out
    assert "no heat map: it needs matplotlib" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("head")]
    counts = np.bincount(digits.test.labels, minlength=10)  # without weights the biases decide: one class
    assert any(float(row[2]) == pytest.approx(100 * count / counts.sum(), abs=0.05) for count in counts)


def test_a_data_set_that_is_not_there_is_one_line(pruned, tmp_path, capsys):
    context, arm = pruned
    path = str(context.store.root / "stages" / arm.ids[0][0])
    given = (f"--checkpoint={path}", "--dataset=cifar10", f"--data_dir={tmp_path}")
    assert sensitivity.run(command(*given), heat_map) == 2
    error = capsys.readouterr().err
    assert error.startswith("sensitivity: ")
    assert "cifar10" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--ratios=0.5,0.2",), "--ratios='0.5,0.2': ratios are fractions removed, rising"),
        (("--ratios=half",), "--ratios='half' aren't numbers"),
        (("--criterion=taylor",), "--criterion=taylor needs grads, which a finished stage"),
        (("--criterion=l3",), "unknown --criterion 'l3'"),
        (("--examples=0",), "--examples=0: it must be at least 1"),
        ((), "is no stage"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, given, message):
    assert sensitivity.run(command(f"--checkpoint={tmp_path}/x", *given), heat_map) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_speedup_is_met_with_equal_damage(pruned):
    context, arm = pruned
    spec = arm.chain[1]
    assert spec.sensitivity == specs.Sensing((0.3, 0.6, 0.9), specs.Gathering(3, 100))
    dense = restore.load(context.store, arm.ids[0][0])
    keep = restore.load(context.store, arm.ids[0][1]).keep
    widths = {name: len(kept) for name, kept in keep.items()}
    got = networks.cost_of(arm.model).macs / networks.cost_of(arm.model, widths).macs
    assert got >= 1.5
    # brute force: damage of each group at each ratio, over the same training examples, with networks really cut
    loss = equal_damage.loss_of(context.data, dense, spec.sensitivity.gathering, 0)
    whole, curves = loss(dense.variables), {}
    for name, width in widths.items():
        kernel = np.asarray(
            dense.variables["params"]["layers"][int(name.split("/")[1])]["kernel"], np.float64
        )
        order = np.argsort(np.abs(kernel).mean(0), kind="stable")
        damage = [0.0]
        for ratio in (0.3, 0.6, 0.9):
            kept = {name: np.sort(order[int(np.ceil(ratio * 20 - 1e-9)) :])}
            damage.append(loss(shrink(dense.variables, networks.groups_of(dense.model), kept)) - whole)
        curves[name] = np.maximum.accumulate(damage)
        assert keep[name].tolist() == np.sort(order[20 - width :]).tolist()
    # the lowest level that is fast enough, its curves read by np.interp
    low, high, best = 0.0, max(curve[-1] for curve in curves.values()), None
    for _ in range(60):
        level = (low + high) / 2
        now = {name: 20 - gone_at(level, curve) for name, curve in curves.items()}
        fast = networks.cost_of(arm.model).macs / networks.cost_of(arm.model, now).macs >= 1.5
        low, high, found = (low, level, now) if fast else (level, high, None)
        best = found or best
    assert best == widths


def gone_at(level, curve):
    ratio = 0.9 if level >= curve[-1] else np.interp(level, curve, (0, 0.3, 0.6, 0.9))
    return int(np.ceil(ratio * 20 - 1e-9))


def test_a_dry_run_says_how_the_speedup_is_reached(digits):
    link = links(arm_of(digits, **EQUAL))[1]
    assert sparsify.line(link) == "l1, equal damage of each group, speedup 1.5, recovery none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sparsify.sensitivity.ratios": (0.5, 0.3)},
            r"sparsify.sensitivity.ratios is \(0.5, 0.3\); they must rise",
        ),
        ({"sparsify.sensitivity.ratios": (0.1,)}, "the largest of sparsify.sensitivity.ratios, 0.1"),
        ({"sparsify.sensitivity.batches": 0}, "sparsify.sensitivity.batches is 0"),
        (
            {"sparsify.granularity": "unstructured"},
            "'sensitivity', which cuts channels; with granularity 'unstruc",
        ),
        ({"sparsify.speedup": 0.5}, "sparsify.speedup is 0.5; allocation 'sensitivity' needs"),
        ({"pipeline": "scratch"}, "'sensitivity', which needs scores"),
        ({"sparsify.stage_ratios": (0.5, 0.5)}, "decides how much each layer loses"),
    ],
)
def test_what_cannot_be_allocated_is_refused(digits, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        arm_of(digits, **{**EQUAL, **changes})
    assert "\n" not in str(error.value)
