"""Rows of the paper's Tables 4 and 5: when to prune, how to retrain, under which comparison regime.

A row is written in the paper's epochs. ``shorten`` divides them all, so that a toy-size run has the same rows, each
with the same shape.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import shortening, speedups
from prune_jax.schedules import LRSchedule, half_up, halving, resize

SCRATCH, SAME, SXA, SXB, EXTENDED = "scratch", "same overall schedule", "SX-A", "SX-B", "extended"
NEARLY = "nearly SX-B"  # epochs are whole, so a row's compute may miss scratch's
TOLERANCE = 0.02  # relative, of compute: what `fairness.strictest_setup` allows by default


class Protocol(NamedTuple):
    """What rows share: scratch's schedule over all epochs, the halving rule's last LR and cap, the shortening."""

    overall: LRSchedule
    final_lr: float
    longest_stage: int
    shorten: float

    def epochs(self, count: float) -> int:
        """``count`` of the paper's epochs as ours: divided, rounded, at least one."""
        return shortening.epochs(count, self.shorten)

    @property
    def whole(self) -> LRSchedule:
        """Scratch's schedule as we run it."""
        return resize(self.overall, self.epochs(self.overall.epochs))

    def halved(self, count: int, lr: float, epochs: int) -> LRSchedule:
        """The halving rule (App. A) over ``count`` of the paper's epochs, over ``epochs`` of ours."""
        return resize(halving(count, lr, self.final_lr, self.longest_stage), epochs)


class Row(NamedTuple):
    """One row: the paper's label, the regime that compares it with scratch, pretraining, last stage.

    ``note`` goes into a run's label: what keeps the row from its regime.
    """

    label: str
    regime: str
    pretrain: LRSchedule | None
    last: LRSchedule
    note: str = ""


def protocol_of(config: ConfigDict) -> Protocol:
    """Read ``overall``, ``final_lr``, ``longest_stage`` and ``shorten``. ValueError for a bad one."""
    if config.base.checkpoint:
        raise ValueError(
            f"base.checkpoint is {config.base.checkpoint!r}, but these rows move the pruning epoch along "
            "scratch's schedule, so they train their own base models: leave it empty"
        )
    by, overall = shortening.divisor(config), shortening.schedule(config, "overall")
    return Protocol(overall, config.final_lr, config.longest_stage, by)


def scratch(protocol: Protocol) -> Row:
    """The small dense network from its own random initialisation, over all epochs."""
    return Row("scratch", SCRATCH, None, protocol.whole)


def same_overall_schedule(protocol: Protocol, prune_at: int) -> Row:
    """Prune at an epoch of scratch's schedule and go on with its tail (Table 4, 'S4.2').

    Its caption fixes the tail. Appendix A's halving rule would give another schedule for three of six rows.
    """
    lr, whole = protocol.overall.at(prune_at), protocol.whole
    at = _inside(protocol, prune_at)
    return Row(_label(protocol, prune_at, lr), SAME, whole.head(at), whole.tail(at))


def same_epochs(protocol: Protocol, prune_at: int, lr: float) -> Row:
    """As many epochs in all as scratch, retrained from ``lr`` by the halving rule (Table 4, SX-A)."""
    whole, at = protocol.whole, _inside(protocol, prune_at)
    left = protocol.overall.epochs - prune_at
    retrain = protocol.halved(left, lr, whole.epochs - at)
    return Row(_label(protocol, prune_at, lr), SXA, whole.head(at), retrain)


def same_compute(
    protocol: Protocol, retrain_epochs: int, lr: float, speedup: float, fill: bool = False
) -> Row:
    """As many FLOPs as scratch: what retraining leaves of the epochs, divided by the speedup, dense (SX-B).

    The paper prints 27 for 30/1.11 alone. Two things are inferred: that halves round up elsewhere, and that the
    retraining follows the halving rule. At ratio 0.95 rounding costs 4.9 % of the budget. Rounding weighs more where
    epochs are few. A row whose compute misses scratch's by more than ``TOLERANCE`` is ``NEARLY``, and its note says by
    how much.

    Args:
        protocol: what rows share.
        retrain_epochs: of the paper's epochs.
        lr: of the retraining's first stage.
        speedup: dense over pruned MACs.
        fill: whether the retraining takes the epochs that the dense ones leave of the budget, in place of
            ``retrain_epochs``. Dense epochs are rounded up or down then, as comes nearer to scratch's compute. Where
            a single one leaves nothing, ``retrain_epochs`` stays.

    Returns:
        The row.

    Raises:
        ValueError: retraining takes all epochs.
    """
    budget = protocol.overall.epochs - retrain_epochs
    if budget < 1:
        raise ValueError(
            f"SX-B retrains for {retrain_epochs} of {protocol.overall.epochs} epochs; it must leave some"
        )
    total = protocol.whole.epochs
    split = min(protocol.epochs(budget / speedup), total), protocol.epochs(retrain_epochs)
    if fill:
        split = _filled(budget / speedup / protocol.shorten, total, speedup) or split
    dense, retrain = protocol.whole.head(split[0]), protocol.halved(retrain_epochs, lr, split[1])
    share = (split[0] * speedup + split[1]) / total
    exact = max(share, 1) <= (1 + TOLERANCE) * min(share, 1)  # the rule that SX-B itself is judged by
    label = f"P{budget}/kF{retrain_epochs}, {printed(lr)}"
    note = "" if exact else f", {share:.2f} times scratch's compute"
    return Row(label, SXB if exact else NEARLY, dense, retrain, note)


def retrained(protocol: Protocol, prune_at: int, lr: float, extra: int = 0) -> Row:
    """A row by its pruning epoch and LR: scratch's tail where the LR continues it, else by the halving rule.

    ``extra`` epochs go into the first stage (Table 5, §5.2). Such a row fits no regime.
    """
    if protocol.overall.at(prune_at) == lr:
        row = same_overall_schedule(protocol, prune_at)
    else:
        row = same_epochs(protocol, prune_at, lr)
    if not extra:
        return row
    longer = row.last.extend(protocol.epochs(extra))
    return Row(f"{row.label} (+{extra} epochs)", EXTENDED, row.pretrain, longer)


def entries(config: ConfigDict) -> list[dict[str, Any]]:
    """A sweep over ``config.rows`` (pruning epoch, retraining LR, extra epochs) at ``config.ratios``."""
    protocol = protocol_of(config)
    rows = [retrained(protocol, *row) for row in config.rows]
    return [overrides(row, ratio, config.shorten) for ratio in config.ratios for row in rows]


def all_rows(config: ConfigDict) -> list[dict[str, Any]]:
    """A sweep over the twelve rows at ``config.ratios``. The speedup k of SX-B is the network's own at each.

    Read are ``same_schedule``, ``same_epochs``, ``same_compute`` (retraining epochs, LR) and ``fill_compute``.
    """
    protocol, spec = protocol_of(config), speedups.spec_of(config)
    fixed = [
        scratch(protocol),
        *(same_overall_schedule(protocol, epoch) for epoch in config.same_schedule),
        *(same_epochs(protocol, epoch, lr) for epoch, lr in config.same_epochs),
    ]
    runs = []
    for ratio in config.ratios:
        k = speedups.speedup(spec, tuple(config.sparsify.layers), ratio)
        rows = config.same_compute
        by_ratio = [same_compute(protocol, epochs, lr, k, config.fill_compute) for epochs, lr in rows]
        runs += [overrides(row, ratio, config.shorten) for row in (*fixed, *by_ratio)]
    return runs


def overrides(row: Row, ratio: float, shorten: float = 1) -> dict[str, Any]:
    """The row at one pruning ratio as a sweep's entry."""
    note = "" if shorten == 1 else f", epochs / {shorten:g}"
    last = "scratch" if row.pretrain is None else "retrain"
    entry = {
        "label": f"{row.label} @ {ratio:g}{note}{row.note}",
        "regime": row.regime,
        "row": row.label,
        "pipeline": "scratch" if row.pretrain is None else "prune",
        "sparsify.ratio": ratio,
        f"{last}.epochs": row.last.epochs,
        f"{last}.schedule": str(row.last),
    }
    if row.pretrain is not None:
        entry |= {"pretrain.epochs": row.pretrain.epochs, "pretrain.schedule": str(row.pretrain)}
    return entry


def printed(lr: float) -> str:
    """An LR as the paper's labels print it: 0.1 is '1e-1'."""
    mantissa, exponent = f"{lr:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _filled(dense: float, total: int, speedup: float) -> tuple[int, int] | None:
    """Dense epochs beside ``dense`` and what they leave of ``total`` pruned ones, nearest to it.

    None where nothing is left.
    """
    splits = [(count, half_up(total - count * speedup)) for count in {max(1, int(dense)), int(dense) + 1}]
    left = [split for split in splits if split[1] >= 1]
    return min(left, key=lambda split: (abs(split[0] * speedup + split[1] - total), split), default=None)


def _inside(protocol: Protocol, prune_at: int) -> int:
    """The pruning epoch as ours, with an epoch before it and one after."""
    return min(protocol.epochs(prune_at), protocol.whole.epochs - 1)


def _label(protocol: Protocol, prune_at: int, lr: float) -> str:
    return f"P{prune_at}F{protocol.overall.epochs - prune_at}, {printed(lr)}"
