"""Schedules made by rule: the paper's halving (App. A) and cosine (App. C), warm-up, cyclic restarting."""

from decimal import Decimal

from prune_jax.schedules.pieces import Piece
from prune_jax.schedules.schedule import LRSchedule, compose


def halving(
    epochs: int, lr: float, final_lr: float = 1e-5, longest_stage: int | None = 30, factor: int = 10
) -> LRSchedule:
    """Step schedule by the paper's rules: each stage takes half of what is left, then the LR falls.

    Odd remainders go up, and no stage exceeds ``longest_stage``. The last stage takes the rest. That odd remainders
    go up is inferred from the printed 83 and 53.

    Args:
      epochs: of the whole schedule.
      lr: of the first stage.
      final_lr: of the last stage.
      longest_stage: epochs that no stage exceeds. None: no such limit.
      factor: by which the LR falls from stage to stage.

    Returns:
      The schedule.

    Raises:
      ValueError: ``final_lr`` is no ``lr / factor**k``, ``longest_stage`` is below 1, or the epochs can't hold all
        stages.

    Example:
      >>> print(halving(90, 0.1))
      0:0.1,30:0.01,60:0.001,75:0.0001,83:1e-05

    Source: arXiv 2301.05219, Appendix A.
    """
    rates = _decades(lr, final_lr, factor)
    if longest_stage is not None and longest_stage < 1:
        raise ValueError(f"longest_stage must be at least 1 epoch or None, got {longest_stage}")
    start, left, pieces = 0, epochs, []
    for rate in rates[:-1]:
        length = -(-left // 2) if longest_stage is None else min(longest_stage, -(-left // 2))
        pieces.append(Piece(start, "constant", rate, rate))
        start, left = start + length, left - length
    if left < 1:
        raise ValueError(
            f"{epochs} epochs can't hold the {len(rates)} stages from {lr!r} to {final_lr!r}; "
            "use more epochs or a larger final_lr"
        )
    return LRSchedule((*pieces, Piece(start, "constant", rates[-1], rates[-1])), epochs)


def cosine(epochs: int, lr: float, final_lr: float = 0.0) -> LRSchedule:
    """Half a cosine from ``lr`` towards ``final_lr``, one step an epoch.

    That its half period is all epochs is our inference. The paper states the end LR but not T_max.

    Args:
      epochs: of the whole schedule.
      lr: of the first epoch.
      final_lr: what the curve ends at, after the last epoch.

    Returns:
      The schedule.

    Raises:
      ValueError: ``epochs`` is below 1, or an LR is not positive.

    Example:
      >>> [round(cosine(4, 0.1).at(epoch), 4) for epoch in range(4)]
      [0.1, 0.0854, 0.05, 0.0146]

    Source: arXiv 2301.05219, Appendix C.
    """
    return LRSchedule((Piece(0, "cosine", float(lr), float(final_lr), 0, epochs),), epochs)


def linear(epochs: int, lr: float, final_lr: float) -> LRSchedule:
    """A line from ``lr`` towards ``final_lr``, one step an epoch. ``final_lr`` is the next LR phase's."""
    return LRSchedule((Piece(0, "linear", float(lr), float(final_lr), 0, epochs),), epochs)


def warm_up(schedule: LRSchedule, epochs: int, lr: float) -> LRSchedule:
    """Replace the first ``epochs`` epochs by a line from ``lr`` up to the LR that holds after them.

    Length and later stages stay. Raises ValueError when the schedule is no longer than the warm-up.
    """
    rest = schedule.tail(epochs)
    return compose(linear(epochs, lr, rest.at(0)), rest)


def cyclic_restart(
    epochs: int, lr: float, low_lr: float, final_lr: float | None = None, warm_up_share: float = 0.1
) -> LRSchedule:
    """CLR of Le & Hua, "Network Pruning That Matters" (ICLR 2021, arXiv 2105.03193, Fig. 1d).

    The LR rises from the lowest to the highest of the original training in the first tenth of the epochs, then falls
    along half a cosine. The tenth and 0.001 -> 0.1 are their code's defaults. That code ends at ``low_lr / 100`` and
    warms up along a cosine, step by step. The straight warm-up, its rounding to whole epochs and ``final_lr = low_lr``
    are our inference from the text. Raises ValueError when ``epochs < 2``.
    """
    warm = max(1, round(warm_up_share * epochs))
    if not 0 < warm_up_share < 1 or warm >= epochs:
        raise ValueError(
            f"cyclic_restart: a warm-up of {warm} epochs (share {warm_up_share}) must end within {epochs}"
        )
    return compose(
        linear(warm, low_lr, lr), cosine(epochs - warm, lr, low_lr if final_lr is None else final_lr)
    )


def _decades(lr: float, final_lr: float, factor: int) -> list[float]:
    """The LRs lr, lr / factor, ..., final_lr, in decimal so that 0.1 ends at 1e-05 and not beside it."""
    rate, end = Decimal(repr(float(lr))), Decimal(repr(float(final_lr)))
    if factor < 2 or not 0 < end <= rate:
        raise ValueError(
            f"halving needs factor >= 2 and 0 < final_lr <= lr, got factor={factor}, "
            f"final_lr={final_lr!r}, lr={lr!r}"
        )
    rates = [float(rate)]
    while rate > end and rates[-1] != float(end):
        rate = rate / factor
        rates.append(float(rate))
    if rates[-1] != float(end):
        raise ValueError(f"final_lr={final_lr!r} is not lr={lr!r} divided by a power of {factor}")
    return rates
