"""Rows of texts as a table: columns for a terminal, or Markdown."""

from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def aligned(rows: Rows) -> str:
    """One line a row, columns two spaces apart, as wide as their widest cell.

    Example: ``aligned([["name", "size"], ["a", "10"]])`` is ``"name  size\\na     10"``.
    """
    return "\n".join("  ".join(row).rstrip() for row in padded(rows))


def markdown(head: Sequence[str], rows: Rows, *, pad: bool = False) -> str:
    """A Markdown table. With ``pad``, cells are filled up so that it is read as text too."""
    first, *rest = padded([head, *rows]) if pad else [head, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (first, ["---"] * len(head), *rest))


def padded(rows: Rows) -> list[list[str]]:
    """Cells filled up with spaces to the width of their column. ValueError for rows of different lengths."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
