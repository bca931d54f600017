"""What docs/paper.md quotes of committed results is what their records say."""

import pathlib

from prune_jax import fairness

ROOT = pathlib.Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs/paper.md").read_text().split())


def test_masks_of_single_weights():
    records = fairness.read_folder(ROOT / "results/unstructured/records")
    groups = [g for g in fairness.rank(records).groups if "sparsegpt" in {r.method for r in g.records}]
    assert {group.setup for group in groups} == {"S4.2"}
    told = {}
    for group in groups:
        names = [(r.method, r.axes.granularity) for r in group.records]
        ratio = group.records[0].axes.ratio
        for (i, j), p in group.ps.items():
            if p < 0.05 and "random" not in (names[i][0], names[j][0]):
                told[ratio, names[i][0], names[j][0]] = p
    assert list(told) == [("0.9", "sparsegpt", "l1")]
    means = {(r.axes.ratio, r.method, r.axes.granularity): r for g in groups for r in g.records}
    best, plain = (means["0.9", name, "unstructured"] for name in ("sparsegpt", "l1"))
    a, b = (sum(r.accuracies) / len(r.accuracies) for r in (best, plain))
    assert f"({a:.2f} against {b:.2f} %, p = {told['0.9', 'sparsegpt', 'l1']:.3f})" in TEXT


def test_before_retraining_sparsegpt_is_ahead_of_magnitude_but_at_the_highest_ratio():
    after = {}
    for record in fairness.read_folder(ROOT / "results/unstructured/records"):
        if record.axes.granularity == "unstructured":
            starts = [result.epochs[0].test_accuracy for result in record.results]
            after[record.axes.ratio, record.method] = sum(starts) / len(starts)
    ahead = [after[ratio, "sparsegpt"] > after[ratio, "l1"] for ratio in ("0.5", "0.8", "0.9", "0.95")]
    assert ahead == [True, True, True, False]
    assert f"({after['0.8', 'sparsegpt']:.1f} against {after['0.8', 'l1']:.1f} % at 0.8)" in TEXT
