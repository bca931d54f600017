"""Language models: what each run was trained on, in tokens and FLOPs, and what may be concluded beside scratch."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord, chain, compare
from prune_jax.report import tables
from prune_jax.text_table import markdown

BASE = ("pretrain",)
NOTE = (
    "Tokens: bytes of all epochs, those of the base model among them. FLOPs of training: 6 times the MACs of a forward "
    "pass. Multiplications by masked weights don't count, and a teacher's forward pass does. FLOPs a token: the mean "
    "over all of training. Setups are those of Table 2, where lengths are read in tokens. SX-A asks for equal tokens "
    "in all, and SX-B for equal FLOPs in all."
)


def budgets(records: Sequence[RunRecord]) -> str:
    """A row for each run, and a sentence for each pruned run beside scratch, under its own regime.

    Scratch is that of the very architecture which pruning leaves, by its MACs and params. Where there is none, that of
    the same ratio, where it is the only one.
    """
    shown = [record for record in records if chain.TOKENS in record.config and record.stages]
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
        "FLOPs a token",
    ]
    table = markdown(head, [_row(record) for record in shown])
    return "\n\n".join([table, NOTE, *_verdicts(shown)])


def _row(record: RunRecord) -> list[str]:
    base, total = chain.tokens(record, BASE) or 0, chain.tokens(record, chain.ALL) or 0
    flops = chain.training_flops(record, chain.ALL)
    return [
        record.name,
        str(record.axes.ratio),
        tables.spread(record.accuracies, 3),
        *(f"{count:,}" for count in (base, total - base, total)),
        "" if flops is None else f"{flops:.3g}",
        _flops_a_token(record),
    ]


def _flops_a_token(record: RunRecord) -> str:
    flops, count = chain.training_flops(record, chain.ALL), chain.tokens(record, chain.ALL)
    return f"{flops / count:.3g}" if flops and count else ""


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
        lines.append(f"- {found.sentence} {_lengths(record, against)} Setups that hold: {holding}.")
    return ["**Pruned beside scratch**", "\n".join(lines)] if lines else []


def _lengths(record: RunRecord, against: RunRecord) -> str:
    """What both were trained on: 'l1: 320 tokens at 1.12e+03 FLOPs each, scratch: 320 at 750.'"""
    (ours, our_flops), (theirs, their_flops) = (
        (f"{chain.tokens(each, chain.ALL):,}", _flops_a_token(each)) for each in (record, against)
    )
    return (
        f"{record.name}: {ours} tokens at {our_flops} FLOPs each, {against.name}: {theirs} at {their_flops}."
    )


def _scratch_of(record: RunRecord, scratch: Sequence[RunRecord]) -> RunRecord | None:
    """The run from scratch that a pruned one stands beside, see ``budgets``."""
    at_ratio = [other for other in scratch if other.axes.ratio == record.axes.ratio]
    alike = [other for other in at_ratio if _size(other) == _size(record)]
    found = alike or at_ratio
    return found[0] if len(found) == 1 else None


def _size(record: RunRecord) -> tuple[float | None, float | None]:
    return record.costs.pruned_macs, record.costs.pruned_params
