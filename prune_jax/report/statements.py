"""Which of the paper's statements on its Table 4 our runs bear out: statement by statement, then cell by cell."""

from collections.abc import Sequence
from typing import NamedTuple

from prune_jax.fairness import RunRecord, at_chance, chain, welch
from prune_jax.report import paper_tables, tables
from prune_jax.report.verdicts import LEVEL, OPEN, Effect, effects, verdict
from prune_jax.text_table import markdown


class Statement(NamedTuple):
    """A sign that the paper states: at some ratios one row of Table 4 is above another.

    Attributes:
        text: the statement in words.
        where: the place where it is printed.
        ahead: the row that is above.
        behind: the row that is below.
        ratios: the pruning ratios at which that is so.
    """

    text: str
    where: str
    ahead: str
    behind: str
    ratios: tuple[float, ...]


Made = dict[tuple[str, float], RunRecord]
TOLERANCE = 0.02  # of compute, as setups allow
ALL = (0.1, 0.3, 0.5, 0.7, 0.9, 0.95)
SCRATCH = "scratch"
STATEMENTS = (
    Statement(
        "under one overall schedule pruning is ahead of scratch",
        "Table 4, S4.2",
        "P15F105, 1e-1",
        SCRATCH,
        (0.3, 0.5, 0.7),
    ),
    Statement(
        "at equal epochs and a large retraining LR pruning is ahead of scratch",
        "Table 4, SX-A",
        "P30F90, 1e-1",
        SCRATCH,
        ALL,
    ),
    Statement(
        "at equal FLOPs pruning is ahead of scratch",
        "Table 4, SX-B",
        "P30/kF90, 1e-1",
        SCRATCH,
        ALL[:4],
    ),
    Statement(
        "at high ratios earlier pruning is better",
        "§4, p. 8",
        "P15F105, 1e-1",
        "P90F30, 1e-4",
        ALL[3:],
    ),
    Statement(
        "at equal epochs the larger retraining LR looks better",
        "§5, Table 4",
        "P30F90, 1e-1",
        "P30F90, 1e-2",
        ALL,
    ),
)
NOTE = (
    "Differences are in points of test accuracy after the last epoch. p: Welch's two-sided test on the seeds, "
    "corrected by Holm within a statement, and in the lower table within all cells. *Holds*: p < 0.05 and the sign "
    "that the paper states. *Does not*: p < 0.05 and the opposite sign. *Can't tell*: anything else."
)
CELLS = (
    "Every pruned row against scratch. The paper states a sign where its own printed mean and std give p < 0.05 with "
    "three runs; elsewhere there is nothing to hold. A row of SX-B whose whole epochs spend more than scratch's "
    "compute, by over 2 %, bears on no statement. One that spends less and is ahead still shows that pruning is."
)


def statements(records: Sequence[RunRecord]) -> str:
    """Two tables: the paper's statements at each ratio, and every cell of Table 4. '' without such runs."""
    made = {place: r for r in records if (place := _place(r)) is not None}
    if not made:
        return ""
    return "\n\n".join([_by_statement(made), NOTE, _by_cell(made), CELLS])


def by_statement(records: Sequence[RunRecord]) -> list[tuple[Statement, float, Effect, str]]:
    """Every statement at every ratio for which there are runs: the effect, and the verdict on it."""
    made = {place: r for r in records if (place := _place(r)) is not None}
    found = []
    for statement in STATEMENTS:
        pairs = {
            ratio: (made[statement.ahead, ratio], made[statement.behind, ratio])
            for ratio in statement.ratios
            if (statement.ahead, ratio) in made and (statement.behind, ratio) in made
        }
        pairs = {ratio: pair for ratio, pair in pairs.items() if not _overspent(made, statement.ahead, ratio)}
        for ratio, effect in zip(pairs, effects(list(pairs.values())), strict=True):
            found.append((statement, ratio, effect, verdict(effect, 1)))
    return found


def _by_statement(made: Made) -> str:
    head = ["the paper states", "printed in", "rows", "ratio", "difference", "p", "verdict"]
    rows = [
        [
            statement.text,
            statement.where,
            f"{statement.ahead} against {statement.behind}",
            f"{ratio:g}",
            f"{effect.difference:+.2f}",
            tables.p_text(effect.p),
            told,
        ]
        for statement, ratio, effect, told in by_statement(list(made.values()))
    ]
    return markdown(head, rows)


def by_cell(records: Sequence[RunRecord]) -> list[tuple[str, float, Effect, Effect, str]]:
    """Every pruned row at every ratio: (row, ratio, the paper's effect, ours, verdict), ours corrected by Holm."""
    made = {place: r for r in records if (place := _place(r)) is not None}
    places = [
        place for place in made if place[0] != SCRATCH and (SCRATCH, place[1]) in made and _printed(*place)
    ]
    ours = effects([(made[place], made[SCRATCH, place[1]]) for place in places])
    out = []
    for (row, ratio), effect in zip(places, ours, strict=True):
        theirs = _printed(row, ratio)
        assert theirs is not None
        told = "not at equal compute" if _overspent(made, row, ratio) else _told(theirs, effect)
        out.append((row, ratio, theirs, effect, told))
    return out


def _by_cell(made: Made) -> str:
    head = ["row", "ratio", "regime", "paper: pruned − scratch", "paper's p", "ours", "our p", "verdict"]
    rows = [
        [
            row,
            f"{ratio:g}",
            str(made[row, ratio].config.get("regime", "")),
            f"{theirs.difference:+.2f}",
            tables.p_text(theirs.p),
            f"{ours.difference:+.2f}" + ("*" if _stuck(made, row, ratio) else ""),
            tables.p_text(ours.p),
            told,
        ]
        for row, ratio, theirs, ours, told in by_cell(list(made.values()))
    ]
    star = "\n\n\\*: a seed of one of the two is at chance." if any("*" in row[5] for row in rows) else ""
    return markdown(head, rows) + star


def _told(theirs: Effect, ours: Effect) -> str:
    if theirs.p is None or theirs.p >= LEVEL:
        return f"{OPEN}: the paper states no sign"
    return verdict(ours, 1 if theirs.difference > 0 else -1)


def _stuck(made: Made, row: str, ratio: float) -> bool:
    return any(at_chance(made[place]) for place in ((row, ratio), (SCRATCH, ratio)))


def _overspent(made: Made, row: str, ratio: float) -> bool:
    """Whether a row that claims scratch's compute spends more than it, by over 2 %."""
    record, scratch = made[row, ratio], made.get((SCRATCH, ratio))
    if "SX-B" not in str(record.config.get("regime", "")) or scratch is None:
        return False
    spent, allowed = (chain.dense_epochs(r, chain.ALL) for r in (record, scratch))
    return spent is not None and allowed is not None and spent > (1 + TOLERANCE) * allowed


def _printed(row: str, ratio: float) -> Effect | None:
    """The paper's difference to scratch, and Welch's p of what it prints. None where it prints none."""
    cells = paper_tables.paper_table(4).cells
    pair = [cells.get((label, f"{ratio:g}")) for label in (row, SCRATCH)]
    if pair[0] is None or pair[1] is None:
        return None
    test = welch(pair[0].printed, pair[1].printed)
    return Effect(test.difference, test.p)


def _place(record: RunRecord) -> tuple[str, float] | None:
    """(row, ratio) of a run that stands for one of Table 4's cells."""
    row = record.config.get("row")
    ratio = record.config.get("sparsify", {}).get("ratio")
    return (str(row), float(ratio)) if row and ratio is not None and record.results else None
