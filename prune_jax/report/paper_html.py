"""A table of the paper with ours in it, as one HTML file without any other."""

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from prune_jax.fairness import RunRecord
from prune_jax.report import beside_paper

# The paper's colours for Table 4's setups (blue, orange, green), each with a mark of its own.
SETUPS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "S4.2": ("#0b6fb8", "●", "same overall LR schedule as scratch"),
        "SX-A": ("#b35f00", "■", "as many epochs as scratch"),
        "SX-B": ("#2f7d4a", "▲", "as many training FLOPs as scratch"),
    }
)
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .6rem; }
th, td { border-bottom: 1px solid #ccc; padding: .3rem .7rem; text-align: right; vertical-align: top; }
th:first-child { text-align: left; white-space: nowrap; }
td span { display: block; white-space: nowrap; }
.paper { color: #666; } .ours { font-weight: 600; } .difference { font-size: .85em; }
"""


def page(number: int, records: Sequence[RunRecord]) -> str:
    """The whole page: title, legend, and per cell the paper's value, ours and the difference."""
    made = beside_paper.beside(number, records)
    head = "".join(f"<th>{escape(column)}</th>" for column in made.table.columns)
    body = "\n".join(_row(made, label, setup) for label, setup in made.table.rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in (beside_paper.NOTE, *made.notes))
    title = escape(made.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{_legend(made)}"
        f"<table><caption>{title}</caption>\n<tr><th>row</th>{head}</tr>\n{body}\n</table>\n"
        '<p><span class="paper">grey: the paper</span>, <span class="ours">bold: ours</span>, below it '
        f"ours − paper</p>\n{notes}\n</body></html>\n"
    )


def _row(made: beside_paper.Beside, label: str, setup: str) -> str:
    cells = "".join(_cell(beside_paper.texts(made, (label, column))) for column in made.table.columns)
    return f"<tr><th>{_mark(setup)}{escape(label)}</th>{cells}</tr>"


def _cell(texts: tuple[str, str, str]) -> str:
    names = ("paper", "ours", "difference")
    spans = [
        f'<span class="{name}">{escape(text)}</span>' for name, text in zip(names, texts, strict=True) if text
    ]
    return f"<td>{''.join(spans)}</td>"


def _mark(setup: str) -> str:
    if setup not in SETUPS:
        return ""
    color, mark, _ = SETUPS[setup]
    return f'<span style="color:{color}" title="{setup}">{mark}</span> '


def _legend(made: beside_paper.Beside) -> str:
    used = [setup for setup in SETUPS if any(setup == s for _, s in made.table.rows)]
    items = [f"{_mark(setup)}{setup}: {SETUPS[setup][2]}" for setup in used]
    return f"<p>{'; '.join(items)}</p>\n" if items else ""
