"""Parts of a sweep: ``--sweep=3/16`` is the third of sixteen."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Shard(NamedTuple):
    """Part ``number`` (from 1) of ``parts`` parts of a sweep."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"


WHOLE = Shard(1, 1)


def parse(text: str) -> Shard:
    """The shard that ``--sweep`` names: ``all``, or ``i/n`` with i from 1 to n. ValueError for anything else."""
    if text == "all":
        return WHOLE
    given = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    if given is None:
        raise ValueError(
            f"--sweep={text}: write --sweep for all runs, or --sweep=3/16 for the third of 16 shards"
        )
    number, count = map(int, given.groups())
    if count < 1:
        raise ValueError(f"--sweep={text}: a sweep has at least one shard; --sweep alone is all of it")
    if not 1 <= number <= count:
        raise ValueError(
            f"--sweep={text}: shards are counted from 1, so it is --sweep=1/{count} to --sweep={count}/{count}"
            f" (with Slurm, --array=1-{count})"
        )
    return Shard(number, count)


def part(items: Sequence[T], shard: Shard) -> list[T]:
    """Every ``parts``-th item from the ``number``-th on: each item is in one shard, neighbours in different ones.

    Neighbours in a sweep take alike long, so shards do. Some are empty where there are more of them than items.
    """
    return list(items[shard.number - 1 :: shard.parts])
