"""Cells of a table as papers print them, to numbers: '92.34%', '2.1x', '92.3 ± 0.1', '1,234', '-'."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from prune_jax.fairness.anomaly import Row

ACCURACY = ("acc_mean", "accuracy", "acc")
SCALES: Mapping[str, float] = {"": 1.0, "_k": 1e3, "_m": 1e6, "_g": 1e9}
COUNTS = tuple(
    f"{prefix}{kind}{unit}"
    for prefix in ("", "base_")
    for kind in ("flops", "macs", "params", "params_left")
    for unit in SCALES
)
FRACTIONS = ("pruning_ratio",)  # of 1, where '%' divides
NUMBERS = (
    *ACCURACY, *FRACTIONS, *COUNTS, "base_acc", "acc_std", "delta", "change", "trainability_acc", "speedup",
    "mac_speedup", "compression", "sparsity_pct", "flops_cut_pct", "flops_left_pct", "macs_cut_pct", "macs_left_pct",
    "params_cut_pct", "params_left_pct", "rank",
)  # fmt: skip
UNSTATED = ("", "-", "–", "—", "n/a", "na", "none", "nan")
MARKS = " *†‡↓↑~≈\\"  # that papers put around a number
_NUMBER = r"[+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_CELL = re.compile(
    rf"[x×]?({_NUMBER})\s*(?:\\?%)?\s*(?:(?:±|\+/-|\+-)\s*({_NUMBER}))?\s*(%|x|×)?", re.IGNORECASE
)


def read_number(text: Any, column: str, place: str) -> float | None:
    """The number in a cell. None where it is empty or says that nothing is stated.

    Args:
        text: a number, or text. A percent sign, a factor's 'x' and thousands' commas are read. Of 'mean ± std' the mean
            is read. Text without a point gives an int.
        column: its column. In that of a fraction, such as 'pruning_ratio', '50%' is 0.5.
        place: what errors call the row.

    Raises:
        ValueError: for text that is no number.

    Example:
        >>> read_number("92.34%", "acc", "row 1"), read_number("50%", "pruning_ratio", "row 1")
        (92.34, 0.5)
    """
    if text is None or not isinstance(text, str):
        return text
    plain = text.replace("\N{MINUS SIGN}", "-").strip(MARKS)
    if plain.lower() in UNSTATED:
        return None
    found = _CELL.fullmatch(plain)
    if found is None:
        raise ValueError(
            f"{place}: {column} is {text!r}, which is no number; write one such as 92.34 or 92.34%, or leave it empty"
        )
    digits = found[1].replace(",", "")
    value = int(digits) if re.fullmatch(r"[+-]?\d+", digits) else float(digits)
    return value / 100.0 if "%" in plain and column in FRACTIONS else value


def read_row(row: Row, place: str) -> Row:
    """The row with numbers in the columns that hold numbers. 'mean ± std' also fills an absent ``acc_std``."""
    read = {key: read_number(cell, key, place) if key in NUMBERS else cell for key, cell in row.items()}
    for key in ACCURACY:
        text = row.get(key)
        found = _CELL.fullmatch(text.strip(MARKS)) if isinstance(text, str) else None
        if found and found[2]:
            read.setdefault("acc_std", float(found[2].replace(",", "")))
    return read


def half_unit(value: float) -> float:
    """Half a unit of the last decimal that a number shows: what rounding may have hidden. For an int 0.5.

    >>> half_unit(4.1), half_unit(252.89), half_unit(3)
    (0.05, 0.005, 0.5)
    """
    exponent = Decimal(repr(value if isinstance(value, int) else float(value))).as_tuple().exponent
    return 0.5 * 10.0 ** min(int(exponent), 0)
