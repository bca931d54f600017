"""Runs that learnt nothing: their accuracy is that of a guess, and a mean must not hide them."""

from prune_jax.fairness.metrics import ACCURACY
from prune_jax.fairness.record import RunRecord

# A network that names one class for every image gets that class's share, a little more than 1 / classes at most.
MARGIN = 1.25


def chance(record: RunRecord) -> float | None:
    """The accuracy of a guess in percent, 100 / classes, from the network that a stage states. None where none does.

    Args:
        record: any record.

    Returns:
        Percent, or None for an unstated number of classes.

    Example:
        >>> from prune_jax.fairness import RunRecord, Stage
        >>> chance(RunRecord("a", stages=(Stage("scratch", spec={"model": {"num_classes": 10}}),)))
        10.0
    """
    for stage in record.stages or ():
        model = stage.spec.get("model")
        classes = model.get("num_classes") if isinstance(model, dict) else None
        if classes:
            return 100.0 / float(classes)
    return None


def at_chance(record: RunRecord) -> tuple[int, ...]:
    """The seeds whose accuracy at the last epoch is at most ``MARGIN`` times that of a guess.

    Args:
        record: any record.

    Returns:
        Seeds in the record's order. Empty where the number of classes is unstated, and for any metric but top-1
        accuracy.

    Example:
        >>> from prune_jax.fairness import RunRecord, SeedResult, Stage
        >>> stage = Stage("scratch", spec={"model": {"num_classes": 10}})
        >>> at_chance(RunRecord("a", stages=(stage,), results=(SeedResult(0, 11.4), SeedResult(1, 90.0))))
        (0,)
    """
    guess = chance(record)
    if guess is None or record.measured != ACCURACY:
        return ()
    return tuple(r.seed for r in record.results if r.last_accuracy <= MARGIN * guess)


def stuck_text(record: RunRecord) -> str:
    """The seeds of ``at_chance`` as a sentence names them; '' where there are none.

    Args:
        record: any record.

    Returns:
        'seed 0', 'seeds 1, 3' or ''.

    Example:
        >>> from prune_jax.fairness import RunRecord, SeedResult, Stage
        >>> stage = Stage("scratch", spec={"model": {"num_classes": 10}})
        >>> stuck_text(RunRecord("a", stages=(stage,), results=(SeedResult(0, 11.4), SeedResult(1, 9.8))))
        'seeds 0, 1'
    """
    stuck = at_chance(record)
    return f"seed{'s' * (len(stuck) > 1)} {', '.join(map(str, stuck))}" if stuck else ""
