"""Where each record of a ledger stands among those with which it may be ranked."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prune_jax import fairness
from prune_jax.fairness import RunRecord, chain

Key = tuple[object, ...]


class Standing(NamedTuple):
    """``group`` from 1, the setup that holds in it, the place from 1 of how many, and the letters of ``Ranking``."""

    group: int
    setup: str
    place: int
    of: int
    letters: str


def standings(records: Sequence[RunRecord], tolerance: float) -> dict[int, Standing]:
    """The standing of each record that is ranked with another, by its number in ``records``.

    The groups are those of ``fairness.rank`` over all records. It is asked of each part by itself between which and
    the rest nothing can be comparable, so that thousands of records take seconds.
    """
    number = {id(record): place for place, record in enumerate(records)}
    found: dict[int, Standing] = {}
    groups = 0
    for part in parts(records):
        for group in fairness.rank(part, rate_tolerance=tolerance).groups:
            if len(group.records) < 2 or group.setup is None:
                continue
            groups += 1
            for place, (record, letters) in enumerate(
                zip(group.records, group.letters, strict=True), start=1
            ):
                found[number[id(record)]] = Standing(groups, group.setup, place, len(group.records), letters)
    return found


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
