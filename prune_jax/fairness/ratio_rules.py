"""Ratios that a row prints twice: a speedup beside the FLOPs, a cut beside both counts, what is left beside a cut."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from prune_jax.fairness.anomaly import Anomaly, Row, where
from prune_jax.fairness.cells import SCALES, half_unit

Fraction = Callable[[float], float]  # what a printed number says is left


def _of_factor(value: float) -> float:
    return 1.0 / value


def _of_cut(value: float) -> float:
    return 1.0 - value / 100.0


def _of_left(value: float) -> float:
    return value / 100.0


# Kind of cost -> names of its counts, and the columns that print what is left of it, with the fraction they mean.
KINDS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Fraction]]] = MappingProxyType(
    {
        "FLOPs": (
            ("flops", "macs"),
            {
                "speedup": _of_factor,
                "mac_speedup": _of_factor,
                "flops_cut_pct": _of_cut,
                "macs_cut_pct": _of_cut,
                "flops_left_pct": _of_left,
                "macs_left_pct": _of_left,
            },
        ),
        "params": (
            ("params", "params_left"),
            {
                "compression": _of_factor,
                "sparsity_pct": _of_cut,
                "params_cut_pct": _of_cut,
                "params_left_pct": _of_left,
            },
        ),
    }
)
COLUMNS = tuple(column for _, columns in KINDS.values() for column in columns)


class Kept(NamedTuple):
    """The fraction of a cost that is left, within the interval that rounding allows, and where it is printed."""

    column: str
    printed: str
    share: float
    low: float
    high: float


def ratios_agree(rows: Sequence[Row], table: str, tolerance: float = 0.02) -> list[Anomaly]:
    """Every ratio that a row prints follows from its counts, or else from the first ratio that it prints.

    Each number may be off by half a unit of its last decimal, and ratios by ``tolerance``, relative.
    """
    found = []
    for row in rows:
        for stems, columns in KINDS.values():
            printed = [*_from_counts(row, stems), *_from_ratios(row, columns)]
            for other in printed[1:]:
                if _apart(printed[0], other, tolerance):
                    expected = _as_printed(printed[0], columns[other.column])
                    found.append(
                        Anomaly(table, "ratios", f"{where(row)} {other.column}", other.printed, expected)
                    )
    return found


def one_dense_network(rows: Sequence[Row], table: str, tolerance: float = 0.02) -> list[Anomaly]:
    """Params left, in millions and in percent, tell the dense network's: of one network they agree with the median."""
    found = []
    for network in dict.fromkeys(map(_network, rows)):
        mine = [row for row in rows if _network(row) == network]
        cells = [row for row in mine if row.get("params_left_pct") and row.get("params_left_m")]
        dense = (
            median(100.0 * row["params_left_m"] / row["params_left_pct"] for row in cells) if cells else 0.0
        )
        for row in cells:
            count, percent = row["params_left_m"], row["params_left_pct"]
            low = 100.0 * (count - half_unit(count)) / (percent + half_unit(percent))
            high = 100.0 * (count + half_unit(count)) / max(percent - half_unit(percent), 1e-9)
            if not low / (1.0 + tolerance) <= dense <= high * (1.0 + tolerance):
                place = f"{where(row)} params_left_m"
                printed = f"{count:g}, {percent:g} % of {100.0 * count / percent:.2f}"
                found.append(Anomaly(table, "dense", place, printed, f"{percent:g} % of {dense:.2f}"))
    return found


def _network(row: Row) -> tuple[str, str]:
    return str(row.get("network")), str(row.get("dataset"))


def _from_counts(row: Row, stems: Sequence[str]) -> list[Kept]:
    """The first pair of a pruned and a dense count that the row states, in whatever units."""
    for stem in stems:
        pruned = [(f"{stem}{unit}", scale) for unit, scale in SCALES.items() if row.get(f"{stem}{unit}")]
        kind = stem.removesuffix("_left")
        dense = [
            (f"base_{kind}{unit}", scale) for unit, scale in SCALES.items() if row.get(f"base_{kind}{unit}")
        ]
        if pruned and dense:
            (small, a), (whole, b) = pruned[0], dense[0]
            x, y = row[small], row[whole]
            low = (x - half_unit(x)) * a / ((y + half_unit(y)) * b)
            high = (x + half_unit(x)) * a / (max(y - half_unit(y), 1e-12) * b)
            return [Kept(small, f"{x:g} of {y:g}", x * a / (y * b), low, high)]
    return []


def _from_ratios(row: Row, columns: Mapping[str, Fraction]) -> list[Kept]:
    found = []
    for column, fraction in columns.items():
        value = row.get(column)
        if value is None or (fraction is _of_factor and value - half_unit(value) <= 0):
            continue
        ends = sorted(fraction(value + side * half_unit(value)) for side in (-1, 1))
        found.append(Kept(column, f"{value:g}", fraction(value), *ends))
    return found


def _apart(a: Kept, b: Kept, tolerance: float) -> bool:
    return a.low > b.high * (1.0 + tolerance) or b.low > a.high * (1.0 + tolerance)


def _as_printed(kept: Kept, fraction: Fraction) -> str:
    """What a column of this kind should print by ``kept``, and by which cell."""
    share = kept.share
    value = 1.0 / share if fraction is _of_factor else 100.0 * (1.0 - share if fraction is _of_cut else share)
    source = kept.printed if " of " in kept.printed else f"{kept.column} {kept.printed}"
    return f"{value:.2f} ({source})"
