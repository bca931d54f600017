"""Markdown of a report, its tables above all, as LaTeX or CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from prune_jax.nearest import unknown

Rows = list[list[str]]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "<": "$<$",
    ">": "$>$", "≥": r"$\geq$", "≤": r"$\leq$",
}  # fmt: skip


def convert(markdown: str, form: str) -> str:
    """Markdown in another form.

    Args:
        markdown: text whose tables begin every line with '|'.
        form: 'md' leaves it as it is. 'latex' makes each table a ``tabular`` with booktabs' rules, and escapes the
            rest. 'csv' makes each table a block of rows with its header, and what stands between them lines with '#'.

    Returns:
        The text, with a line end.

    Raises:
        KeyError: for another form.

    Example:
        >>> print(convert("| a | b |\\n| --- | --- |\\n| 1 ± 2 | x, y |", "csv"), end="")
        a,b
        1 ± 2,"x, y"
    """
    if form not in FORMS:
        raise KeyError(unknown("format", form, FORMS))
    return FORMS[form](markdown).rstrip("\n") + "\n"


def _latex(markdown: str) -> str:
    parts = []
    for part in _parts(markdown):
        parts.append(part if isinstance(part, list) else _latex_text(part))
    return "\n\n".join(_tabular(part) if isinstance(part, list) else part for part in parts)


def _tabular(rows: Rows) -> str:
    head, *body = [" & ".join(map(_latex_text, row)) + r" \\" for row in rows]
    columns = "l" + "r" * (len(rows[0]) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])


def _latex_text(text: str) -> str:
    """Characters that LaTeX reads otherwise are escaped. `code` and **bold** become commands."""
    plain = "".join(_LATEX.get(character, character) for character in text)
    plain = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", plain)
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", plain)


def _csv(markdown: str) -> str:
    out = io.StringIO()
    for part in _parts(markdown):
        if isinstance(part, list):
            csv.writer(out, lineterminator="\n").writerows([_plain(cell) for cell in row] for row in part)
        else:
            out.write("".join(f"# {_plain(line)}\n" for line in part.splitlines() if line.strip()))
    return out.getvalue()


def _plain(text: str) -> str:
    return re.sub(r"\*\*|`", "", text)


def _parts(markdown: str) -> Iterator[str | Rows]:
    """Tables as rows of cells without spaces around them, and the text between them."""
    for block in re.split(r"\n\s*\n", markdown.strip("\n")):
        lines = block.splitlines()
        if lines and all(line.startswith("|") for line in lines):
            yield [_cells(line) for line in (lines[0], *lines[2:])]
        elif block.strip():
            yield block


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


FORMS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"md": lambda markdown: markdown, "latex": _latex, "csv": _csv}
)


def names() -> Sequence[str]:
    """The forms that ``convert`` knows."""
    return tuple(FORMS)
