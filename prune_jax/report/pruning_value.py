"""Mystery 2: pruned against scratch under each comparison regime of the paper's Table 4."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord, welch
from prune_jax.report import reading, tables
from prune_jax.text_table import markdown


def pruning_value(records: Sequence[RunRecord]) -> str:
    """Pruned minus scratch accuracy per ratio and regime, with Welch's two-sided p.

    A record's regime is its ``config.regime``. Where a regime has several runs at a ratio (pruning epochs,
    retraining LRs), every one has its row: picking the best one afterwards would spoil the test.
    """
    head = ["ratio", "speedup", "regime", "run", "pruned %", "scratch %", "pruned − scratch", "p"]
    scratch = {str(r.axes.ratio): r for r in records if r.method == "scratch"}
    rows = []
    for record in sorted(
        records, key=lambda r: (float(str(r.axes.ratio)), str(r.config.get("regime")), r.name)
    ):
        against = scratch.get(str(record.axes.ratio))
        if record.method == "scratch" or against is None:
            continue
        test = welch(record.accuracies, against.accuracies)
        rows.append(
            [
                str(record.axes.ratio),
                tables.speedup(record),
                str(record.config.get("regime", "")),
                f"{record.name} (retrain {reading.epochs(record)} epochs)",
                tables.accuracy_text(record),
                tables.accuracy_text(against),
                f"{test.difference:+.2f}",
                tables.p_text(test.p),
            ]
        )
    note = (
        "Regimes of the paper's Table 4: *same overall schedule*: pretraining, pruning and retraining together "
        "follow scratch's LR schedule; *SX-A*: as many epochs in all as scratch, the retraining LR free; *SX-B*: as "
        "many training FLOPs as scratch. p: Welch's two-sided t-test, each row on its own."
    )
    return f"{markdown(head, rows)}\n\n{note}"
