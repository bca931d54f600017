"""Which runs are ranked with each other: pruning methods where a setup holds, retrainings of one pruned network."""

from collections.abc import Sequence

from prune_jax.fairness import chain
from prune_jax.fairness.comparison import TOO_WEAK
from prune_jax.fairness.ranked_groups import UNTRAINED, Rankings, rankings
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.setups import STRICTNESS, Break, Verdict, known_setup

SETTINGS = ("optimiser", "augmentation", "settings")


def rank(
    records: Sequence[RunRecord],
    required: str = "S3.2",
    significance: float = 0.05,
    rate_tolerance: float = 0.02,
) -> Rankings:
    """Rank records by accuracy, only those together between all of which ``required`` holds.

    A record joins the first group with all of whose members it is comparable. Scratch has no base model, so of it and a
    run that was pruned at initialisation ``UNTRAINED`` and equal settings of the training are asked instead. Test and
    level are ours. The paper names none.

    Args:
        records: any, in any order. What comes first decides which groups come first.
        required: S3.2, S4.1 or S4.2.
        significance: two records are told apart where their corrected p is below it.
        rate_tolerance: as for ``strictest_setup``.

    Returns:
        The rankings, and the reasons why there is more than one.

    Raises:
        KeyError: an unknown setup.
        ValueError: a setup that can't tell that a method is better, or a negative tolerance.

    Example:
        >>> from prune_jax.fairness import RunRecord, Summary
        >>> rank([RunRecord("A", summary=Summary(90.0)), RunRecord("B")]).reasons
        ('B is not ranked: it states no accuracy.',)
    """
    if known_setup(required) in TOO_WEAK or required not in STRICTNESS:
        allowed = [setup for setup in STRICTNESS if setup not in TOO_WEAK]
        raise ValueError(f"required is {required!r}, under which methods can't be ranked; allowed: {allowed}")

    def breaks(a: RunRecord, b: RunRecord, verdict: Verdict) -> tuple[Break, ...]:
        return _broken(verdict, UNTRAINED) if _untrained(a, b) else verdict.breaks[required]

    return rankings(records, breaks, significance, rate_tolerance)


def rank_retrainings(
    records: Sequence[RunRecord], significance: float = 0.05, rate_tolerance: float = 0.02
) -> Rankings:
    """Rank retrainings of the same pruned networks by accuracy: nothing but the retraining differs.

    The last sparsifying action must be the same one, for every seed, and S3.1 must hold with equal settings of the
    training. So epochs are equal, and LR schedule and rewinding are free. This says nothing of pruning methods.

    Args:
        records: as for ``rank``.
        significance: as for ``rank``.
        rate_tolerance: as for ``rank``.

    Returns:
        The rankings, and the reasons why there is more than one.

    Raises:
        ValueError: a negative tolerance.

    Example:
        >>> from prune_jax.fairness import RunRecord, SeedResult
        >>> a, b = (RunRecord(name, results=(SeedResult(0, 90.0),)) for name in "ab")
        >>> len(rank_retrainings([a, b]).groups)  # nothing says that they were pruned alike
        2
    """

    def breaks(a: RunRecord, b: RunRecord, verdict: Verdict) -> tuple[Break, ...]:
        one, other = _pruned_ids(a), _pruned_ids(b)
        parted = () if one and one == other else (Break("pruned network", _shown(one), _shown(other)),)
        return (*_broken(verdict, "S3.1"), *parted)

    return rankings(records, breaks, significance, rate_tolerance)


def rank_equal_compute(
    records: Sequence[RunRecord], significance: float = 0.05, rate_tolerance: float = 0.02
) -> Rankings:
    """Rank runs by accuracy that prune as much and train at the same compute in all: SX-B, and equal settings.

    Base model, epochs and schedules are free, and so are further settings such as a teacher: they are what is
    compared. Where stages state multiply-accumulates without those of masked weights, these are counted.

    Args:
        records: as for ``rank``.
        significance: as for ``rank``.
        rate_tolerance: as for ``rank``. It bounds the difference of the compute too.

    Returns:
        The rankings, and the reasons why there is more than one.

    Raises:
        ValueError: a negative tolerance.

    Example:
        >>> from prune_jax.fairness import RunRecord, SeedResult
        >>> a, b = (RunRecord(name, results=(SeedResult(0, 90.0),)) for name in "ab")
        >>> len(rank_equal_compute([a, b]).groups)  # nothing says what they cost
        2
    """

    def breaks(a: RunRecord, b: RunRecord, verdict: Verdict) -> tuple[Break, ...]:
        settings = [broken for broken in verdict.breaks["S3.2"] if broken.field in SETTINGS[:2]]
        return (*verdict.breaks["SX-B"], *settings)

    return rankings(records, breaks, significance, rate_tolerance)


def _broken(verdict: Verdict, setup: str) -> tuple[Break, ...]:
    """What breaks a setup that doesn't ask for equal settings of the training, or breaks these."""
    settings = [broken for broken in verdict.breaks["S3.2"] if broken.field in SETTINGS]
    return (*verdict.breaks[setup], *settings)


def _untrained(a: RunRecord, b: RunRecord) -> bool:
    """Whether neither starts from a trained base model, and they don't share their random weights either."""
    bases = [chain.base_ids(record) for record in (a, b)]
    trained = [chain.epochs(record, ("pretrain",)) for record in (a, b)]
    return None not in bases and frozenset() in bases and trained == [0, 0]


def _pruned_ids(record: RunRecord) -> tuple[str, ...]:
    """The ids of the last sparsifying action, one for each seed. None where they are unstated."""
    actions = [stage for stage in record.stages or () if stage.kind == "sparsify"]
    return (actions[-1].ids or ()) if actions else ()


def _shown(ids: Sequence[str]) -> str | None:
    return "+".join(each[:10] for each in ids[:2]) + "+…" * (len(ids) > 2) or None
