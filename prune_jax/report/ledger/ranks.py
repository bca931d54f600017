"""Where each record of a ledger stands among those with which it may be ranked."""

from collections.abc import Sequence
from typing import NamedTuple

from prune_jax.fairness import RunRecord
from prune_jax.fairness.parts import rank_several


class Standing(NamedTuple):
    """``group`` from 1, the setup that holds in it, the place from 1 of how many, and the letters of ``Ranking``."""

    group: int
    setup: str
    place: int
    of: int
    letters: str


def standings(records: Sequence[RunRecord], tolerance: float) -> dict[int, Standing]:
    """The standing of each record that is ranked with another, by its number in ``records``."""
    number = {id(record): place for place, record in enumerate(records)}
    found: dict[int, Standing] = {}
    for count, group in enumerate(rank_several(records, tolerance), start=1):
        several = len(group.records)
        for place, (record, letters) in enumerate(zip(group.records, group.letters, strict=True), start=1):
            found[number[id(record)]] = Standing(count, str(group.setup), place, several, letters)
    return found
