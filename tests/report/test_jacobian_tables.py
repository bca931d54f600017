import statistics

import numpy as np
import pytest

from prune_jax import fairness, report
from prune_jax.report import jacobian_tables

NAMES = ("dense", "pruned", "recovered", "middle", "end")


def summary(values):
    """What a record keeps of singular values ``(examples, r)``, in which 0 is one that is not resolved."""
    return fairness.JSVSummary(
        examples=len(values),
        mean=float(values.mean()),
        mean_error=None,
        std=None,
        maximum=float(values.max()),
        minimum=None,
        condition=float(np.mean([row.max() / row[row > 0].min() for row in values]))
        if values.any()
        else None,
        resolved=int((values > 0).sum()),
        unresolved=int((values == 0).sum()),
        isometry_gap=float(np.mean((values - 1) ** 2)),
    )


def drawn(seed):
    """Singular values of each network, ``(seeds, examples, r)``; the pruned ones are not all resolved."""
    rng = np.random.default_rng(seed)
    values = {name: rng.uniform(0.5, 2.0, (2, 5, 4)) for name in NAMES}
    values["pruned"][0, :3, 3] = 0.0
    values["pruned"][1] = 0.0
    return values


def run(lr, epochs, values, ratio="0.9", method="l1"):
    """A made-up run of two seeds; a scratch run states no dense and no pruned network."""
    results = []
    for seed in (0, 1):
        found = {name: summary(of_seeds[seed]) for name, of_seeds in values.items()}
        along = {0: found["recovered"], 1: found["middle"], epochs: found["end"]}
        metrics = [
            fairness.EpochMetrics(e, 90.0, 1.0, 0.5, lr, spectrum=along.get(e)) for e in range(epochs + 1)
        ]
        before = {"base_spectrum": found["dense"], "pruned_spectrum": found["pruned"]}
        stated = {} if method == "scratch" else before
        results.append(fairness.SeedResult.from_epochs(seed, metrics, **stated))
    last = fairness.Stage("scratch" if method == "scratch" else "retrain", ("a", "b"), epochs, f"0:{lr}")
    axes = fairness.Axes(ratio=ratio)
    return fairness.RunRecord("R", "d", "n", method, axes, stages=(last,), results=tuple(results))


def rows_of(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_every_network_of_the_chain_has_its_row_once():
    values = drawn(0)
    other = values | {"end": values["end"] + 1}
    runs = [
        run(0.01, 4, values),
        run(0.01, 3, other),  # the longest run of an LR is shown
        run(0.001, 3, other),
        run(0.01, 4, values, ratio="0.5"),
        run(0.1, 4, values, method="scratch"),
    ]
    _, *rows = rows_of(jacobian_tables.isometry(runs))
    assert [row[:3] for row in rows] == [
        ["", "", "dense"],
        ["0.9", "l1", "after pruning"],
        ["0.9", "l1", "after recovery"],
        ["0.9", "l1", "retrained at LR 0.01, 4 epochs"],
        ["0.9", "l1", "retrained at LR 0.001, 3 epochs"],
        ["0.5", "l1", "after pruning"],
        ["0.5", "l1", "after recovery"],
        ["0.5", "l1", "retrained at LR 0.01, 4 epochs"],
        ["0.9", "scratch", "at the start"],
        ["0.9", "scratch", "trained at LR 0.1, 4 epochs"],
    ]
    unrecovered = values | {"recovered": values["pruned"]}
    names = [row[2] for row in rows_of(jacobian_tables.isometry([run(0.01, 4, unrecovered)]))[1:]]
    assert names == ["dense", "after pruning", "retrained at LR 0.01, 4 epochs"]


def test_the_numbers_by_hand():
    values = drawn(1)
    head, *rows = rows_of(jacobian_tables.isometry([run(0.01, 4, values)]))
    assert head[3:] == ["mean JSV", "isometry gap", "condition", "resolved", "unresolved"]
    for row, name in zip(rows, ("dense", "pruned", "recovered", "end"), strict=True):
        gaps = [((of_seed - 1) ** 2).mean() for of_seed in values[name]]
        mean, _, std = row[4].split()
        assert float(mean) == pytest.approx(statistics.mean(gaps), rel=1e-2)
        assert float(std) == pytest.approx(statistics.stdev(gaps), rel=1e-2)
        lost = int((values[name] == 0).sum())
        assert row[6:] == [str(40 - lost), str(lost)]
    ratios = [row.max() / row[row > 0].min() for row in values["pruned"][0]]
    assert rows[1][5] == f"{np.mean(ratios):.3g} (1 of 2 seeds)"  # nothing of the other is resolved
    ratios = [(of_seed.max(1) / of_seed.min(1)).mean() for of_seed in values["dense"]]
    assert rows[0][5].startswith(f"{np.mean(ratios):.3g} ± ")


def test_the_table_stands_in_the_section_with_and_without_its_figure(tmp_path):
    layout = {"title": "T", "text": "", "sections": ("spectra",)}
    for draw in (False, True):
        text = report.write(tmp_path, [run(0.01, 4, drawn(2))], layout, 1, draw=draw).read_text()
        assert ("](figures/spectra.png)" in text) == draw
        assert text.index("## Jacobian spectra") < text.index("| isometry gap |")
