"""``report.html``: every seed's curve in one file that needs no other, to point at and to filter.

Bokeh draws it: filters and hover need no JavaScript framework of ours, and a page is 1.7 MB. Plotly's would be 4.7 MB,
and Vega's bundle of 0.9 MB takes seconds of a processor to put together, in every process that writes a report.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from prune_jax.fairness import RunRecord, SeedResult
from prune_jax.report import reading
from prune_jax.report.figures import COLORS

# Quantity of an epoch -> title of its panel and kind of its axis.
PANELS: Mapping[str, tuple[str, Any]] = {
    "test_accuracy": ("test accuracy (%)", "linear"),
    "mean_jsv": ("mean Jacobian singular value", "log"),
}
FILTERS: Mapping[str, str] = {"ratio": "pruning ratio", "lr": "initial LR", "method": "method"}
HOVER = ("run", "seed", "epoch", "id", "ratio", "lr", "method")
# What a filter does: shows the points and lines whose run has one of the chosen values. None chosen shows all.
KEEP = """
sources.forEach((source, number) => {
  const shown = (_, i) =>
    boxes.every((box) => !box.value.length || box.value.includes(source.data[box.name][i]));
  filters[number].booleans = Array.from(source.data.run, shown);
});
"""
Row = dict[str, Any]


def html(title: str, records: Sequence[RunRecord]) -> str | None:
    """The page.

    Args:
        title: its heading.
        records: runs. Those without a curve are left out.

    Returns:
        The page's text, equal for equal records. None where no record has a curve.
    """
    drawn = [record for record in records if record.stages and reading.has(record, "test_accuracy")]
    if not drawn:
        return None
    from bokeh.embed import json_item
    from bokeh.resources import Resources

    into: Any = "curves"
    item = json.dumps(_numbered(json_item(_layout(drawn), into)), separators=(",", ":"))
    script = Resources(mode="inline", components=["bokeh", "bokeh-widgets"], minified=True).render_js()
    head = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>{escape(title)}</title>\n"
    hint = "Point at a curve to see its run, seed, epoch and id. Choose values to see only those runs."
    body = f'<h1>{escape(title)}</h1>\n<p>{hint}</p>\n<div id="curves"></div>'
    safe = item.replace("</", "<\\/")
    return (
        f"{head}<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1rem 1.5rem; }}"
        f'</style>\n<link rel="icon" href="data:,">\n{script}\n</head>\n<body>\n{body}\n'
        f"<script>Bokeh.embed.embed_item({safe})</script>\n</body></html>\n"
    )


def curves(record: RunRecord, quantity: str) -> Iterator[Row]:
    """A row for each seed: its curve of ``quantity`` along the last stage, and what the page says of it.

    ``id`` is that of the seed's last stage. Epoch 0 is before its first step.
    """
    ids = reading.last_stage(record).ids or ("unstated",) * len(record.results)
    for result, its_id in zip(record.results, ids, strict=True):
        points = _points(result, quantity)
        if points:
            epochs, values = zip(*points, strict=True)
            yield {"run": record.name, "seed": str(result.seed), "id": its_id, **_told(record)} | {
                "epoch": list(epochs),
                "value": list(values),
            }


def _points(result: SeedResult, quantity: str) -> list[tuple[int, float]]:
    found = [(metrics.epoch, getattr(metrics, quantity)) for metrics in result.epochs]
    return [(epoch, value) for epoch, value in found if value is not None]


def _told(record: RunRecord) -> Row:
    """What a run can be filtered by, as text."""
    return {
        "ratio": str(record.axes.ratio),
        "lr": f"{reading.initial_lr(record):g}",
        "method": str(record.method),
    }


def _by_value(text: str) -> tuple[float, str]:
    """Numbers in their order, then other text in its own."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _layout(records: Sequence[RunRecord]) -> Any:
    """Filters above a panel for each quantity that was measured."""
    from bokeh.layouts import column, row
    from bokeh.models import CustomJS
    from bokeh.models.widgets import MultiSelect

    told = [_told(record) for record in records]
    options = {name: sorted({each[name] for each in told}, key=_by_value) for name in FILTERS}
    boxes = {
        name: MultiSelect(title=title, options=options[name], name=name, size=4)
        for name, title in FILTERS.items()
    }
    colors = {
        lr: COLORS[i % len(COLORS)] for i, lr in enumerate(sorted(options["lr"], key=float, reverse=True))
    }
    figures, pairs = [], []
    for quantity in PANELS:
        rows = [each for record in records for each in curves(record, quantity)]
        if rows:
            figure, its_pairs = _panel(quantity, rows, colors)
            figures.append(figure)
            pairs += its_pairs
    for figure in figures[1:]:
        figure.x_range = figures[0].x_range
    sources, filters = (list(each) for each in zip(*pairs, strict=True))
    keep = CustomJS(args={"boxes": list(boxes.values()), "sources": sources, "filters": filters}, code=KEEP)
    for box in boxes.values():
        box.js_on_change("value", keep)
    return column(row(*boxes.values()), *figures, sizing_mode="stretch_width")


def _panel(quantity: str, rows: Sequence[Row], colors: Mapping[str, str]) -> tuple[Any, list[Any]]:
    """One figure: a line for each seed, and its points, which say what they are."""
    from bokeh.models import BooleanFilter, CDSView, ColumnDataSource, HoverTool
    from bokeh.plotting import figure

    title, kind = PANELS[quantity]
    sources = [ColumnDataSource(_columns(made, colors)) for made in (rows, list(_spread(rows)))]
    filters = [BooleanFilter() for _ in sources]
    lines, points = (CDSView(filter=each) for each in filters)
    drawn = figure(
        height=380, max_width=1100, sizing_mode="stretch_width",
        y_axis_type=kind, x_axis_label="epoch of the last stage", y_axis_label=title,
        tools="pan,wheel_zoom,box_zoom,reset,save", name=quantity,
    )  # fmt: skip
    style: Any = {"line_color": "color", "line_width": 1.4, "line_alpha": 0.6, "legend_field": "key"}
    drawn.multi_line("epoch", "value", source=sources[0], view=lines, **style)
    dots = drawn.scatter("epoch", "value", source=sources[1], view=points, size=5, color="color", alpha=0.6)
    tips = [(name, f"@{name}") for name in HOVER] + [(title, "@value{0.[0000]}")]
    drawn.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    drawn.legend[0].orientation = "horizontal"
    drawn.add_layout(drawn.legend[0], "above")  # the curves fill the panel, and a narrow window its width
    return drawn, [list(pair) for pair in zip(sources, filters, strict=True)]


def _columns(rows: Sequence[Row], colors: Mapping[str, str]) -> dict[str, list[Any]]:
    columns = {name: [row[name] for row in rows] for name in (*HOVER, "value")}
    return columns | {
        "color": [colors[row["lr"]] for row in rows],
        "key": [f"LR {row['lr']}" for row in rows],
    }


def _spread(rows: Sequence[Row]) -> Iterator[Row]:
    """A row for each point."""
    for row in rows:
        for epoch, value in zip(row["epoch"], row["value"], strict=True):
            yield {**row, "epoch": epoch, "value": value}


def _numbered(item: Any) -> Any:
    """Bokeh's document with its objects numbered in their order. Bokeh's own numbers count what a process made."""
    known: dict[str, str] = {}

    def learn(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("type") == "object" and "id" in value:
                known.setdefault(value["id"], f"o{len(known)}")
            for each in value.values():
                learn(each)
        elif isinstance(value, list | tuple):
            for each in value:
                learn(each)

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: known.get(each, each) if key in ("id", "root_id") else renamed(each)
                for key, each in value.items()
            }
        return [renamed(each) for each in value] if isinstance(value, list | tuple) else value

    learn(item)
    return renamed(item)
