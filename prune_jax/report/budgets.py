"""Language models: what each run was trained on, in tokens and FLOPs, and what may be concluded beside scratch."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord, Stage, compare
from prune_jax.report import tables
from prune_jax.text_table import markdown

KEY = "tokens_per_epoch"
FORWARD_AND_BACKWARD = 6  # FLOPs a MAC of the forward pass: the backward pass costs two forward passes
NOTE = (
    "Tokens: bytes of all epochs, those of the base model among them. FLOPs of training: 6 times the MACs of a forward "
    "pass. Setups are those of Table 2. As an epoch is the same tokens for every run here, SX-A asks for equal tokens "
    "in all, and SX-B for equal FLOPs in all."
)


def budgets(records: Sequence[RunRecord]) -> str:
    """A row for each run, and a sentence for each pruned run beside scratch, under its own regime.

    Scratch is that of the very architecture which pruning leaves, by its MACs and params. Where there is none, that of
    the same ratio, where it is the only one.
    """
    shown = [record for record in records if KEY in record.config and record.stages]
    if not shown:
        return ""
    head = [
        "run",
        "ratio",
        tables.measured(shown),
        "tokens of the base",
        "tokens after it",
        "tokens",
        "FLOPs",
    ]
    table = markdown(head, [_row(record) for record in shown])
    return "\n\n".join([table, NOTE, *_verdicts(shown)])


def _row(record: RunRecord) -> list[str]:
    base = _tokens(record, [stage for stage in record.stages or () if stage.kind == "pretrain"])
    total = _tokens(record, record.stages or ())
    return [
        record.name,
        str(record.axes.ratio),
        tables.spread(record.accuracies, 3),
        *(f"{count:,}" for count in (base, total - base, total)),
        f"{_flops(record):.3g}",
    ]


def _tokens(record: RunRecord, stages: Sequence[Stage]) -> int:
    return sum((stage.epochs or 0) for stage in stages) * record.config[KEY]


def _flops(record: RunRecord) -> float:
    """Of an example's forward MACs: a stage that states none runs dense, as ``fairness.chain`` reads it."""
    window = _window(record)
    return sum(
        FORWARD_AND_BACKWARD
        * (stage.macs or record.costs.dense_macs or 0)
        * (stage.epochs or 0)
        * record.config[KEY]
        / window
        for stage in record.stages or ()
    )


def _window(record: RunRecord) -> int:
    return record.config["dataset"]["window"]


def _verdicts(records: Sequence[RunRecord]) -> list[str]:
    scratch = [record for record in records if record.method == "scratch"]
    lines = []
    for record in records:
        against = _scratch_of(record, scratch)
        if record.method == "scratch" or against is None:
            continue
        regime = str(record.config.get("regime"))
        required = regime if regime in ("SX-A", "SX-B") else "same_overall_schedule"
        found = compare(record, against, required)
        holding = ", ".join(found.verdict.holding) or "none"
        lines.append(f"- {found.sentence} Setups that hold: {holding}.")
    return ["**Pruned beside scratch**", "\n".join(lines)] if lines else []


def _scratch_of(record: RunRecord, scratch: Sequence[RunRecord]) -> RunRecord | None:
    """The run from scratch that a pruned one stands beside, see ``budgets``."""
    at_ratio = [other for other in scratch if other.axes.ratio == record.axes.ratio]
    alike = [other for other in at_ratio if _size(other) == _size(record)]
    found = alike or at_ratio
    return found[0] if len(found) == 1 else None


def _size(record: RunRecord) -> tuple[float | None, float | None]:
    return record.costs.pruned_macs, record.costs.pruned_params
