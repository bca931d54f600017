"""Rankings of many records: part by part, where nothing can be comparable between a part and the rest."""

from collections.abc import Iterator, Sequence

from prune_jax.fairness import chain
from prune_jax.fairness.ranked_groups import Ranking
from prune_jax.fairness.ranking import rank
from prune_jax.fairness.record import RunRecord

Key = tuple[object, ...]


def rank_several(records: Sequence[RunRecord], tolerance: float = 0.02) -> tuple[Ranking, ...]:
    """The groups of ``rank`` with two records or more, without comparing every record with every other.

    Args:
        records: any. What comes first decides which groups come first.
        tolerance: as for ``strictest_setup``.

    Returns:
        The same groups as ``rank`` makes of all records under S3.2.

    Example:
        >>> rank_several([RunRecord("A"), RunRecord("B")])
        ()
    """
    groups = [group for part in parts(records) for group in rank(part, rate_tolerance=tolerance).groups]
    return tuple(group for group in groups if len(group.records) > 1)


def parts(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Records in parts between which nothing is comparable under S3.2 or a stricter setup, single ones left out.

    Comparable records share metric, data set and network. They share a base model and the retraining, or else nothing
    was pretrained and they share the overall schedule.
    """
    keys = [tuple(_keys(record)) for record in records]
    joined: dict[Key, Key] = {}
    for each in keys:
        for other in each[1:]:
            joined[_root(joined, other)] = _root(joined, each[0])
    found: dict[Key, list[RunRecord]] = {}
    for each, record in zip(keys, records, strict=True):
        if each:
            found.setdefault(_root(joined, each[0]), []).append(record)
    return [part for part in found.values() if len(part) > 1]


def _root(joined: dict[Key, Key], key: Key) -> Key:
    """The key that stands for all that are joined with this one."""
    while key in joined and joined[key] != key:
        key = joined[key]
    return key


def _keys(record: RunRecord) -> Iterator[Key]:
    same = (record.measured, record.dataset, record.network)
    ids = chain.base_ids(record)
    if None in same or ids is None:
        return
    if ids:
        yield (*same, ids, chain.epochs(record, ("retrain",)), chain.schedules(record, ("retrain",)))
    if chain.epochs(record, ("pretrain",)) == 0:
        yield (*same, chain.epochs(record, chain.ALL), chain.overall_schedule(record, chain.ALL))
