"""What a record's chain of stages says, read off for comparison. None wherever it says too little."""

from collections.abc import Collection, Mapping

from prune_jax.fairness.record import RunRecord, Stage
from prune_jax.schedules import LRSchedule, compose

ALL = ("pretrain", "sparsify", "retrain", "scratch")
AFTER_BASE = ("sparsify", "retrain")
BASES = ("pretrain", "initialise")
FORWARD_PASSES = 3  # a training step costs as much as so many: a backward pass counts as two
FLOPS = 2  # of a multiply-accumulate
TOKENS = "tokens_per_epoch"  # what a record's config calls them. It is stated for texts alone


def base_ids(record: RunRecord) -> frozenset[str] | None:
    """Ids of the base model over the seeds. Empty when there is no base model.

    It is the last pretrain stage, or the random weights that were pruned at initialisation: §2.1 calls both base
    models. A rewound run has the base model that was pruned, not the early weights that it went back to.
    """
    if record.stages is None:
        return None
    base = _stages(record, BASES)
    if not base or _stages(record, ("scratch",)):
        return frozenset()
    ids = base[-1].ids
    return frozenset(ids) if ids else None


def base_text(record: RunRecord) -> str | None:
    """The base models' ids as a verdict shows them. None where they are unstated."""
    ids = base_ids(record)
    if ids is None:
        return None
    shown = "+".join(name[:10] for name in sorted(ids)[:3])
    return (shown + "+…" if len(ids) > 3 else shown) or "none (scratch)"


def same_base(a: RunRecord, b: RunRecord) -> bool:
    """Whether both state a base model and it is the same one. Scratch has none and shares none."""
    ours, theirs = base_ids(a), base_ids(b)
    return bool(ours) and ours == theirs


def epochs(record: RunRecord, kinds: Collection[str]) -> int | None:
    """Epochs of all stages of these kinds together."""
    if record.stages is None:
        return None
    total = 0
    for stage in _stages(record, kinds):
        if stage.epochs is None:
            return None
        total += stage.epochs
    return total


def tokens(record: RunRecord, kinds: Collection[str]) -> int | None:
    """Tokens that all stages of these kinds train on together. None where they are unstated, as for images."""
    per_epoch, count = record.config.get(TOKENS), epochs(record, kinds)
    return None if per_epoch is None or count is None else per_epoch * count


def length(record: RunRecord, kinds: Collection[str]) -> int | str | None:
    """How long the stages of these kinds last: epochs, or of a text its tokens, '768,000 tokens'.

    An epoch of a text is as long as its config says, so that epochs of two of them may be unlike.
    """
    count = tokens(record, kinds)
    return epochs(record, kinds) if count is None else f"{count:,} tokens"


def schedules(record: RunRecord, kinds: Collection[str]) -> str | None:
    """Schedule and length of each stage of these kinds, as text. 'none' when no epoch is trained.

    Of a stage under a rule it is the rule and what every seed's schedule came to be: the same rule gives no
    equal schedules by itself.
    """
    if record.stages is None:
        return None
    texts = [_text(record, stage) for stage in _stages(record, kinds) if stage.epochs != 0]
    return None if None in texts else " | ".join(map(str, texts)) or "none"


def overall_schedule(record: RunRecord, kinds: Collection[str]) -> str | None:
    """The stages' schedules run one after another, as one: Table 4's reading of 'same overall LR schedule'."""
    parsed = _parsed(record, kinds)
    if parsed is None:
        return None
    if not parsed:
        return "none"
    whole = parsed[0]
    for schedule in parsed[1:]:
        whole = compose(whole, schedule)
    return f"{whole} ({whole.epochs} epochs)"


def dense_epochs(record: RunRecord, kinds: Collection[str]) -> float | None:
    """Training compute in units of one epoch of the dense network: sum of epochs * MACs / dense MACs (SX-B).

    A training step counts as three forward passes, by the field's rule of thumb. MACs that a stage states beside
    its passes through the network are added. Of a stage under a mask those count that the mask leaves, as papers on
    sparse training do, where it states them: fewer than dense hardware computes.
    A stage that states no MACs runs dense up to the removal and pruned after it. That regularisation before
    the removal costs as much as the dense network is our inference.
    """
    if record.stages is None:
        return None
    total = 0.0
    for stage in _stages(record, kinds):
        share = _share(record, stage)
        if stage.epochs is None or (stage.epochs and share is None):
            return None
        total += stage.epochs * (share or 0.0)
    return total


def training_flops(record: RunRecord, kinds: Collection[str]) -> float | None:
    """FLOPs that a text is trained with. None where tokens, their window or MACs are unstated.

    A step takes three forward passes (``dense_epochs``), a multiply-accumulate two FLOPs. MACs are of a window.
    """
    dense, macs = dense_epochs(record, kinds), record.costs.dense_macs
    window = _window(record)
    if None in (dense, macs, window) or TOKENS not in record.config:
        return None
    return (
        FLOPS
        * FORWARD_PASSES
        * float(dense or 0)
        * float(macs or 0)
        * record.config[TOKENS]
        / int(window or 1)
    )


def compute(record: RunRecord, kinds: Collection[str]) -> tuple[float, str] | None:
    """Training compute and its text: FLOPs of a text that states its tokens, else epochs of the dense network."""
    flops, dense = training_flops(record, kinds), dense_epochs(record, kinds)
    if flops is not None:
        return flops, f"{flops:.4g} FLOPs"
    return None if dense is None else (dense, f"{dense:.4g} dense epochs")


def _window(record: RunRecord) -> int | None:
    """Tokens of an example."""
    stated = record.config.get("dataset")
    return stated.get("window") if isinstance(stated, Mapping) else None


def _share(record: RunRecord, stage: Stage) -> float | None:
    costs = record.costs
    if stage.macs is not None and costs.dense_macs is not None:
        passes = stage.macs if stage.masked_macs is None else stage.masked_macs
        return (passes + (stage.extra_macs or 0.0) / FORWARD_PASSES) / costs.dense_macs
    if stage.kind in ("pretrain", "sparsify"):
        return 1.0
    return None if costs.speedup is None else 1.0 / costs.speedup


def _stages(record: RunRecord, kinds: Collection[str]) -> list[Stage]:
    return [stage for stage in record.stages or () if stage.kind in kinds]


def _text(record: RunRecord, stage: Stage) -> str | None:
    if stage.by_rule:
        came = [f"{r.schedule} ({r.epochs[-1].epoch if r.epochs else '?'} epochs)" for r in record.results]
        return f"{stage.schedule} -> {' / '.join(came)}"
    if stage.epochs is None or stage.schedule is None:
        return None
    return f"{LRSchedule.parse(stage.schedule, stage.epochs)} ({stage.epochs} epochs)"


def _parsed(record: RunRecord, kinds: Collection[str]) -> list[LRSchedule] | None:
    if record.stages is None:
        return None
    parsed = []
    for stage in _stages(record, kinds):
        if stage.epochs == 0:
            continue
        if stage.epochs is None or stage.schedule is None or stage.by_rule:
            return None
        parsed.append(LRSchedule.parse(stage.schedule, stage.epochs))
    return parsed
