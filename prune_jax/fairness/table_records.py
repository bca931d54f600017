"""Rows of a table that somebody typed in, to records. ``table_file`` reads the file and explains the columns."""

import re
from collections.abc import Sequence

from prune_jax.fairness.cells import UNSTATED, read_number
from prune_jax.fairness.metrics import METRICS, Metric
from prune_jax.fairness.record import Axes, Costs, Optimiser, RunRecord, SeedResult, Stage, Summary
from prune_jax.fairness.table_file import SETTING, Row

AXES = ("base_model", "granularity", "pruning_ratio", "criterion", "pruning_schedule")


def records(rows: Sequence[Row], place: str = "table") -> tuple[RunRecord, ...]:
    """A record for each row.

    Args:
        rows: column -> text, as ``read_csv`` gives them. Empty cells, '-' and 'n/a' are unstated.
        place: what errors call the table.

    Returns:
        The records, in the order of the rows.

    Raises:
        ValueError: naming line and column, for a cell that can't be read, a name that is missing or there twice, and
            stages that don't go together.

    Example:
        >>> (made,) = records([{"name": "A", "dataset": "cifar10", "value": "92.34 ± 0.12", "n": "3"}])
        >>> made.summary.mean, made.summary.std
        (92.34, 0.12)
    """
    made: dict[str, RunRecord] = {}
    for i, row in enumerate(rows, start=1):
        where = f"{place}, line {row.get('line', i)}"
        try:
            record = _record(_Cells(row, where))
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
        if record.name in made:
            raise ValueError(f"{where}: name {record.name!r} is there already; each record has its own")
        made[record.name] = record
    return tuple(made.values())


class _Cells:
    """The cells of a row by column: text, or a number, or None where it is unstated."""

    def __init__(self, row: Row, place: str) -> None:
        self.row, self.place = row, place

    def text(self, column: str) -> str | None:
        """The cell without spaces around it."""
        plain = (self.row.get(column) or "").strip()
        return None if plain.lower() in UNSTATED else plain

    def number(self, column: str) -> float | None:
        """The cell as a number."""
        return read_number(self.text(column), column, self.place)

    def whole(self, column: str) -> int | None:
        """The cell as a whole number."""
        value = self.number(column)
        if value is not None and value != int(value):
            raise ValueError(f"{self.place}: {column} is {value:g}; it is a whole number")
        return None if value is None else int(value)

    def scaled(self, column: str, scale: float) -> float | None:
        """A count in units of ``scale``."""
        value = self.number(column)
        return None if value is None else value * scale


def _record(cells: _Cells) -> RunRecord:
    name = cells.text("name")
    if name is None:
        raise ValueError("name is empty; a record needs one")
    _refuse_lonely(cells)
    results = _results(cells)
    return RunRecord(
        name=name,
        dataset=cells.text("dataset"),
        network=cells.text("network"),
        method=cells.text("method"),
        metric=_metric(cells),
        axes=Axes(*map(cells.text, AXES)),
        costs=_costs(cells),
        stages=_stages(cells, max(len(results), 1)),
        results=results,
        summary=None if results else _summary(cells),
        optimiser=_optimiser(cells),
        augmentation=_augmentation(cells.text("augmentation")),
        settings={
            key.removeprefix(SETTING): cells.text(key)
            for key in cells.row
            if key.startswith(SETTING) and cells.text(key) is not None
        },
        device=cells.text("device"),
        source=cells.text("source"),
    )


# Columns that say nothing without another one.
LONELY = (
    (("std", "n"), "value"),
    (("base_value", "top5"), "value or values"),
    (("metric_unit", "metric_direction"), "metric"),
    (("latency_device",), "latency_ms"),
    (("latency_ms",), "latency_device or device"),
)


def _refuse_lonely(cells: _Cells) -> None:
    """Raise ValueError for a cell that nothing would be made of."""
    for columns, needed in LONELY:
        stated = [column for column in columns if cells.text(column) is not None]
        if stated and not any(cells.text(column) is not None for column in needed.split(" or ")):
            raise ValueError(
                f"{' and '.join(stated)} stated without {needed}; give that too, or leave both empty"
            )


def _metric(cells: _Cells) -> Metric | None:
    name, unit, direction = (cells.text(key) for key in ("metric", "metric_unit", "metric_direction"))
    if name is None or (name in METRICS and unit is None and direction is None):
        return None if name is None else METRICS[name]
    if direction is None:
        raise ValueError(
            f"metric {name!r} is none of {', '.join(METRICS)}; give metric_direction: higher or lower, whichever is "
            "better"
        )
    return Metric(name, unit or "", direction)


def _results(cells: _Cells) -> tuple[SeedResult, ...]:
    text = cells.text("values")
    if text is None:
        return ()
    if cells.text("value") is not None:
        raise ValueError("value and values are both stated; give the runs or their mean")
    base, top5 = cells.number("base_value"), cells.number("top5")
    values = [read_number(part, "values", cells.place) for part in text.split(";")]
    if None in values:
        raise ValueError(f"values is {text!r}; it holds a number for each run, joined by semicolons")
    return tuple(
        SeedResult(i, float(value), base_accuracy=base, top5=top5)
        for i, value in enumerate(values)
        if value is not None
    )


def _summary(cells: _Cells) -> Summary | None:
    mean = cells.number("value")
    if mean is None:
        return None
    within = re.search(r"(?:±|\+/?-)\s*([\d.]+)", cells.text("value") or "")
    std = cells.number("std")
    return Summary(
        float(mean),
        float(within[1]) if within and std is None else std,
        cells.whole("n"),
        cells.number("base_value"),
        cells.number("top5"),
    )


def _costs(cells: _Cells) -> Costs:
    return Costs(
        cells.text("cost_convention"),
        cells.scaled("dense_macs_g", 1e9),
        cells.scaled("pruned_macs_g", 1e9),
        cells.scaled("dense_params_m", 1e6),
        cells.scaled("pruned_params_m", 1e6),
        cells.number("speedup"),
        cells.number("compression"),
        cells.number("latency_ms"),
        cells.text("latency_device"),
        cells.number("training_flops"),
    )


def _stages(cells: _Cells, seeds: int) -> tuple[Stage, ...] | None:
    """Pretrain, sparsify, retrain, or scratch alone. None where a row states nothing of any."""
    kinds = ("pretrain", "sparsify", "retrain", "scratch")
    keys = {kind: [f"{kind}_epochs", f"{kind}_schedule"] for kind in kinds}
    keys["pretrain"].append("base_model_id")
    stated = [kind for kind in kinds if any(cells.text(key) is not None for key in keys[kind])]
    if not stated:
        return None
    if "scratch" in stated and len(stated) > 1:
        raise ValueError(
            f"scratch and {', '.join(stated[:-1])} are both stated; a network trained from scratch has no other stage"
        )
    base = cells.text("base_model_id")
    chain = ("scratch",) if "scratch" in stated else kinds[:3]
    return tuple(
        Stage(
            kind,
            (base,) * seeds if kind == "pretrain" and base else None,
            cells.whole(f"{kind}_epochs"),
            cells.text(f"{kind}_schedule"),
        )
        for kind in chain
    )


def _optimiser(cells: _Cells) -> Optimiser | None:
    name, batch = cells.text("optimiser"), cells.whole("batch_size")
    momentum, decay = cells.number("momentum"), cells.number("weight_decay")
    if name is None and batch is None and momentum is None and decay is None:
        return None
    return Optimiser(name, momentum, decay, batch)


def _augmentation(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text.lower() == "no" else tuple(part.strip() for part in text.split("+"))
