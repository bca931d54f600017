"""What a matched number of multiply-accumulates leaves open: the params that are left, method by method."""

from collections.abc import Sequence
from typing import NamedTuple

from prune_jax.fairness.record import RunRecord
from prune_jax.text_table import markdown


class Spread(NamedTuple):
    """Records of one network, data set and speedup: those that keep the fewest and the most params.

    ``fewest`` and ``most`` are (method, percent of params left, accuracy). ``correlation`` is Spearman's rank
    correlation of params left and accuracy.
    """

    network: str
    dataset: str
    speedup: float
    methods: int
    fewest: tuple[str, float, float]
    most: tuple[str, float, float]
    correlation: float


def spreads(records: Sequence[RunRecord]) -> tuple[Spread, ...]:
    """A spread for each network, data set and speedup, in the order of the records.

    Args:
        records: of which each states network, data set, speedup, compression and a summary.

    Returns:
        The spreads. A group of one record has none.

    Example:
        >>> from prune_jax.fairness import published
        >>> found = spreads(published.records("pruningbench"))
        >>> len(found), found[0].fewest[0]
        (21, 'HRank')
    """
    groups: dict[tuple[str, str, float], list[tuple[str, float, float]]] = {}
    for r in records:
        if r.costs.speedup is None or r.costs.compression is None or r.summary is None:
            continue
        key = (str(r.network), str(r.dataset), r.costs.speedup)
        groups.setdefault(key, []).append((str(r.method), 100.0 / r.costs.compression, r.summary.mean))
    return tuple(_spread(key, cells) for key, cells in groups.items() if len(cells) > 1)


def _spread(key: tuple[str, str, float], cells: list[tuple[str, float, float]]) -> Spread:
    from scipy.stats import spearmanr  # as long to import as JAX, for what few comparisons ask

    ordered = sorted(cells, key=lambda cell: cell[1])
    correlation = float(spearmanr([c[1] for c in cells], [c[2] for c in cells]).statistic)
    return Spread(*key, len(cells), ordered[0], ordered[-1], correlation)


def table(found: Sequence[Spread]) -> str:
    """The spreads as Markdown, one row each."""
    head = [
        "network, data",
        "MAC speedup",
        "methods",
        "fewest params left",
        "most params left",
        "rank correlation",
    ]
    rows = [
        [
            f"{s.network}, {s.dataset}",
            f"{s.speedup:g}x",
            str(s.methods),
            _cell(s.fewest),
            _cell(s.most),
            f"{s.correlation:+.2f}",
        ]
        for s in found
    ]
    return markdown(head, rows)


def _cell(cell: tuple[str, float, float]) -> str:
    name, left, accuracy = cell
    return f"{left:.2f} % ({name}, {accuracy:.2f})"
