"""From the rows of a drawing to SVG, written by hand: no package is needed to make or to show it."""

import colorsys
import re
from collections.abc import Sequence
from html import escape

from prune_jax.pruning.drawing.rows import Bar, Row, Segment
from prune_jax.pruning.jaxpr.groups import Group

LINE, BAR, LONGEST, SIDE, GAP, LANE = 22, 12, 130, 190, 34, 12
CHARACTER = 6.4  # width of a letter at the font's size
FONT = "font-family='DejaVu Sans Mono, Menlo, Consolas, monospace' font-size='10.5'"
HATCH = (
    "<pattern id='frozen' width='5' height='5' patternUnits='userSpaceOnUse' patternTransform='rotate(45)'>"
    "<rect width='2' height='5' fill='white' fill-opacity='0.75'/></pattern>"
)
GREY = "#9a9a9a"


def color(number: int) -> str:
    """The colour of a group: neighbours in the list differ most."""
    if number < 0:
        return GREY
    shade = (0.45, 0.58, 0.36)[number % 3]
    red, green, blue = colorsys.hls_to_rgb((0.58 + number * 0.381966) % 1, shade, 0.6)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def svg_of(rows: Sequence[Row], groups: Sequence[Group], after: Sequence[int], title: str) -> str:
    """The whole drawing. ``after`` is the number of channels that each group keeps."""
    left = 14 + CHARACTER * max([len(row.name) for row in rows] + [8])
    scale = LONGEST / max([_root(bar) for row in rows for bar in (*row.reads, *row.makes)] + [1.0])
    lanes = _lanes(rows)
    top = 52 if title else 30
    right = left + 2 * SIDE + GAP
    parts = [_text(left, top - 8, "reads", weight="bold"), _text(left + SIDE + GAP, top - 8, "makes", "bold")]
    if title:
        parts.append(_text(10, 20, title, "bold"))
    for place, row in enumerate(rows):
        parts += _row(row, top + place * LINE, left, scale, groups)
    parts += [_tie(number, lane, at, top, right) for (number, at), lane in lanes.items()]
    legend_top = top + len(rows) * LINE + 30
    legend = [_entry(number, group, after[number]) for number, group in enumerate(groups)]
    for number, (group, line) in enumerate(zip(groups, legend, strict=True)):
        y = legend_top + number * LINE
        parts += [_rect(12, y, 26, number, bool(group.frozen)), _text(46, y + 10, line)]
    widest = max(
        [right + LANE * (max(lanes.values(), default=0) + 2)] + [60 + CHARACTER * len(x) for x in legend]
    )
    height = legend_top + len(groups) * LINE + 8
    parts.insert(0, _text(10, legend_top - 9, "groups: channels before → after", "bold"))
    return _page(parts, round(widest), height)


def _page(parts: Sequence[str], width: int, height: int) -> str:
    size = f"width='{width}' height='{height}'"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {size} {FONT}>"
        f"<defs>{HATCH}</defs><rect {size} fill='white'/>{''.join(parts)}</svg>"
    )


def _row(row: Row, y: float, left: float, scale: float, groups: Sequence[Group]) -> list[str]:
    out = [_text(8, y + 10, row.name)]
    out += _bars(row.reads, left, y, scale, groups)
    out.append(_text(left + SIDE + 8, y + 10, "→"))
    return out + _bars(row.makes, left + SIDE + GAP, y, scale, groups)


def _bars(bars: Sequence[Bar], x: float, y: float, scale: float, groups: Sequence[Group]) -> list[str]:
    """The axes of one side, beside each other, and their numbers of channels before and after."""
    out = []
    for bar in bars:
        total = sum(segment.length for segment in bar)
        for segment in bar:
            width = max(scale * _root(bar) / len(bars) ** 0.5 * segment.length / total, 1.5)
            out.append(_segment(segment, x, y, width, groups))
            x += width
        x += 5
    return [*out, _text(x, y + 10, " × ".join(_sizes(bar) for bar in bars))]


def _sizes(bar: Bar) -> str:
    before, after = sum(s.length for s in bar), sum(s.kept for s in bar)
    return str(before) if before == after else f"{before}→{after}"


def _segment(segment: Segment, x: float, y: float, width: float, groups: Sequence[Group]) -> str:
    """The kept part is full, what goes is pale."""
    group = groups[segment.group] if segment.group >= 0 else None
    frozen = group is not None and bool(group.frozen)
    full = width * segment.kept / segment.length
    tip = f"<title>{escape(_tip(segment.group, group))}</title>"
    pale = _rect(x, y, width, segment.group, False, opacity=0.22)
    return f"<g>{tip}{pale}{_rect(x, y, full, segment.group, frozen)}</g>"


def _tip(number: int, group: Group | None) -> str:
    return "of no group" if group is None else f"group {number}: {group.name}"


def _rect(x: float, y: float, width: float, number: int, frozen: bool, opacity: float = 1) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{BAR}'"
    hatch = f"<rect {place} fill='url(#frozen)' class='frozen'/>" if frozen else ""
    return f"<rect {place} fill='{color(number)}' fill-opacity='{opacity:g}'/>{hatch}"


def _text(x: float, y: float, words: str, weight: str = "normal") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' font-weight='{weight}'"
    return f"<text {place} fill='#222' xml:space='preserve'>{escape(words)}</text>"


def _root(bar: Bar) -> float:
    return sum(segment.length for segment in bar) ** 0.5


def _lanes(rows: Sequence[Row]) -> dict[tuple[int, tuple[int, ...]], int]:
    """(group, rows of its makers) -> a lane of its own, for groups that several layers make."""
    makers: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        for number in sorted({segment.group for bar in row.makes for segment in bar} - {-1}):
            makers.setdefault(number, []).append(place)
    ends: list[int] = []
    out = {}
    for number, places in sorted(makers.items(), key=lambda item: item[1][0]):
        if len(places) < 2:
            continue
        lane = next((k for k, end in enumerate(ends) if end < places[0]), len(ends))
        ends[lane : lane + 1] = [places[-1]]
        out[number, tuple(places)] = lane
    return out


def _tie(number: int, lane: int, places: Sequence[int], top: float, x: float) -> str:
    """A line along the layers that make one group together, with a dot at each."""
    x += lane * LANE
    ys = [top + place * LINE + BAR / 2 for place in places]
    line = f"<line x1='{x}' x2='{x}' y1='{ys[0]}' y2='{ys[-1]}' stroke='{color(number)}' stroke-width='2.5'/>"
    dots = "".join(f"<circle cx='{x}' cy='{y}' r='3.6' fill='{color(number)}'/>" for y in ys)
    return f"<g class='tie'><title>group {number}</title>{line}{dots}</g>"


def _entry(number: int, group: Group, after: int) -> str:
    """One line of the legend. Where in the code a reason comes from is left to the report."""
    sizes = f"{group.size}" if after == group.size else f"{group.size} → {after}"
    note = ""
    if group.frozen:
        note = f"frozen: {_short(group.frozen)}"
    elif not group.maskable:
        note = f"surgery only: {_short(group.unmaskable or '')}"
    return f"{number:>3}  {group.name}  {sizes}" + (f"   {note}" if note else "")


def _short(reason: str) -> str:
    return re.sub(r" \(at .*", "", reason)
