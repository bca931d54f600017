"""One contradiction in a table, and how rows are named in it."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Anomaly:
    """A contradiction: which rule found it where in which table, what is printed, what was expected."""

    table: str
    rule: str
    where: str
    printed: str
    expected: str

    def __str__(self) -> str:
        return f"{self.table}, {self.where}: printed {self.printed}, expected {self.expected} [{self.rule}]"


def label(row: Row) -> str:
    """The row's label or method, else its network."""
    return str(row.get("label") or row.get("method") or row.get("network") or "row")


def where(row: Row) -> str:
    """The row's label and ratio."""
    ratio = row.get("pruning_ratio")
    return label(row) if ratio is None else f"{label(row)} @ {ratio:g}"
