"""The paper's tables as grids of cells, each with what a run must be to stand beside it."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from prune_jax.fairness import Sample, published

Row = dict[str, Any]
RUNS = 3  # the paper says "at least three" (§4)
ACCURACY, TRAINABILITY, SPEEDUP, SPARSITY = "accuracy", "trainability", "speedup", "sparsity"


class PaperCell(NamedTuple):
    """A printed value, and what a run must be to stand beside it.

    Attributes:
        printed: the value, with what is printed of its std and runs.
        quantity: what it measures.
        row: the run's ``config.row``. None: any.
        ratio: the run's pruning ratio. None: any.
    """

    printed: Sample
    quantity: str
    row: str | None
    ratio: float | None


class PaperTable(NamedTuple):
    """Rows as (label, setup) and column headings in the paper's order, and the cells that it prints."""

    number: int
    title: str
    dataset: str
    network: str
    rows: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], PaperCell]
    notes: tuple[str, ...] = ()


def paper_table(number: int) -> PaperTable:
    """Table 1, 4, 5, 6, 7 or 8.

    Raises:
        KeyError: a table that holds no runs of pruned networks.
    """
    if number not in _TABLES:
        raise KeyError(
            f"table {number} has no cells that a run could stand beside; one of {', '.join(map(str, _TABLES))}"
        )
    return _TABLES[number](number, published.rows(f"table{number}"))


def _table1(number: int, rows: Sequence[Row]) -> PaperTable:
    printed = [row for row in rows if row["quantity"] == "acc_top1"]
    labels = [f"{row['method']} {row['speedup']:g}x" for row in printed]
    cells = {}
    for label, row in zip(labels, printed, strict=True):
        cells[label, "speedup"] = PaperCell(Sample(row["speedup"]), SPEEDUP, label, None)
        cells[label, "top-1 %"] = PaperCell(Sample(row["value"]), ACCURACY, label, None)
    lines = tuple((label, "") for label in labels)
    return _make(number, "imagenet2012", "resnet50", lines, ("speedup", "top-1 %"), cells)


def _table4(number: int, rows: Sequence[Row]) -> PaperTable:
    lines = (("speedup", ""), *dict.fromkeys((row["label"], row["setup_id"] or "") for row in rows))
    cells = {}
    for row in rows:
        column = f"{row['pruning_ratio']:g}"
        cells["speedup", column] = PaperCell(Sample(row["speedup"]), SPEEDUP, None, row["pruning_ratio"])
        cells[row["label"], column] = _accuracy(row, row["pruning_ratio"])
    return _make(number, "imagenet100", "resnet34", lines, _columns(cells), cells)


def _table5(number: int, rows: Sequence[Row]) -> PaperTable:
    setups = {row["label"]: row["setup_id"] or "" for row in published.rows("table4")}
    cells = {}
    for row in rows:
        cells[row["label"], "accuracy %"] = _accuracy(row, row["pruning_ratio"])
        if row["trainability_acc"] is not None:
            printed = Sample(row["trainability_acc"])
            cell = PaperCell(printed, TRAINABILITY, row["label"], row["pruning_ratio"])
            cells[row["label"], "trainability accuracy %"] = cell
    note = "The printed trainability accuracies contradict Eq. (1): docs/errata.md, section 2."
    lines = tuple((row["label"], setups.get(row["label"], "")) for row in rows)
    columns = ("accuracy %", "trainability accuracy %")
    return _make(number, "imagenet100", "resnet34", lines, columns, cells, (note,))


def _table67(number: int, rows: Sequence[Row]) -> PaperTable:
    lines = (("sparsity %", ""), ("speedup", ""), *dict.fromkeys((row["label"], "") for row in rows))
    cells, shifted = {}, False
    for row in rows:
        ratio, printed = row["pruning_ratio_recomputed"], row["pruning_ratio_printed"]
        shifted |= ratio != printed
        column = f"{ratio:g}" if ratio == printed else f"{ratio:g} (printed {printed:g})"
        cells["sparsity %", column] = PaperCell(Sample(row["sparsity_pct"]), SPARSITY, None, ratio)
        cells["speedup", column] = PaperCell(Sample(row["speedup"]), SPEEDUP, None, ratio)
        cells[row["label"], column] = _accuracy(row, ratio)
    note = ("The printed ratios are shifted; columns follow the costs: docs/errata.md, section 1.",) * shifted
    first = rows[0]
    return _make(number, first["dataset"], first["network"], lines, _columns(cells), cells, note)


def _accuracy(row: Row, ratio: float) -> PaperCell:
    std = row["acc_std"]
    return PaperCell(Sample(row["acc_mean"], std, 1 if std is None else RUNS), ACCURACY, row["label"], ratio)


def _columns(cells: Mapping[tuple[str, str], PaperCell]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for _, column in cells))


def _make(
    number: int,
    dataset: str,
    network: str,
    rows: tuple[tuple[str, str], ...],
    columns: tuple[str, ...],
    cells: Mapping[tuple[str, str], PaperCell],
    notes: tuple[str, ...] = (),
) -> PaperTable:
    title = published.TABLES[f"table{number}"]
    return PaperTable(number, title, dataset, network, rows, columns, MappingProxyType(dict(cells)), notes)


_TABLES: Mapping[int, Callable[[int, Sequence[Row]], PaperTable]] = MappingProxyType(
    {1: _table1, 4: _table4, 5: _table5, 6: _table67, 7: _table67, 8: _table5}
)
