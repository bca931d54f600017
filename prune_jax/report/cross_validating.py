"""Two methods, each under both retrainings: the table and the verdict (§3.2)."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord, cross_validate
from prune_jax.report import reading, tables
from prune_jax.text_table import markdown


def cross_validation(records: Sequence[RunRecord]) -> str:
    """Accuracies of A and B under FT_A and FT_B (``config.row``: 'A + FT_A', ...), and who wins."""
    runs = {str(record.config.get("row")): record for record in records}
    names = [f"{method} + FT_{ft}" for ft in "AB" for method in "AB"]
    head = ["retraining", "A", "B", "A − B"]
    rows = []
    for ft in "AB":
        pair = [runs.get(f"{method} + FT_{ft}") for method in "AB"]
        there = [record for record in pair if record is not None]
        cells = ["" if record is None else tables.accuracy_text(record) for record in pair]
        means = [sum(record.accuracies) / len(record.accuracies) for record in there]
        schedule = f"`{reading.schedule(there[0])}`" if there else ""
        rows.append(
            [f"FT_{ft}: {schedule}", *cells, f"{means[0] - means[1]:+.2f}" if len(means) == 2 else ""]
        )
    methods = [
        f"{method}: {next((str(runs[n].method) for n in names if n in runs and n[0] == method), 'not run yet')}"
        for method in "AB"
    ]
    text = f"{'; '.join(methods)}.\n\n{markdown(head, rows)}"
    if any(name not in runs for name in names):
        return f"{text}\n\nThe verdict needs all four runs."
    a_with_a, b_with_a, a_with_b, b_with_b = (runs[name] for name in names)
    return f"{text}\n\n{cross_validate(a_with_a, b_with_a, a_with_b, b_with_b).sentence}"
