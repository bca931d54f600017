"""How far the Jacobian is from an isometry along the chain: the numbers beside the histograms of its spectrum."""

from collections.abc import Iterator, Sequence

from prune_jax.fairness import JSVSummary, RunRecord, Sample
from prune_jax.report import reading
from prune_jax.report.figures import longest_of_each_lr
from prune_jax.text_table import markdown

HEAD = (
    "ratio",
    "method",
    "network",
    "mean JSV",
    "isometry gap",
    "condition",
    "resolved",
    "unresolved",
)
NOTE = (
    "Isometry gap: mean of (s - 1)^2 over the Jacobian's singular values s, 0 at dynamical isometry. Condition: an "
    "example's largest over its smallest resolved value, mean over examples. Both, and the mean JSV: mean ± sample "
    "standard deviation over seeds. Resolved: how many values of all examples and seeds are told from rounding, and "
    "how many are not; the latter count as 0 in mean and gap, and not at all in the condition."
)


def isometry(records: Sequence[RunRecord]) -> str:
    """A row for each network of the chain: dense, pruned, recovered, retrained. '' where no spectrum was measured.

    Of every ratio and method the runs are those of the histograms, the longest of each initial LR. What several
    ratios share, the dense network, has one row.
    """
    rows: dict[tuple[str, str, str, tuple[JSVSummary, ...]], list[str]] = {}
    measured = [record for record in records if reading.has_spectra(record)]
    for (ratio, method), group in reading.families(measured).items():
        for record in longest_of_each_lr(group):
            for name, summaries in _networks(record):
                network = ("", "", name) if name == reading.DENSE else (ratio, method, name)
                rows[*network, tuple(summaries)] = [*network, *_cells(summaries)]
    return f"{markdown(HEAD, list(rows.values()))}\n\n{NOTE}" if rows else ""


def _networks(record: RunRecord) -> Iterator[tuple[str, list[JSVSummary]]]:
    """The record's networks from the dense one to the end of its last stage, each with a summary for every seed."""
    yield from reading.spectra_before(record).items()
    known = [[e for e in result.epochs if e.spectrum and e.epoch > 0] for result in record.results]
    ends = [epochs[-1] for epochs in known if epochs]
    if ends:
        counts = sorted({end.epoch for end in ends})
        done = "trained" if record.method == "scratch" else "retrained"
        span = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
        name = f"{done} at LR {reading.initial_lr(record):g}, {span} epochs"
        yield name, [end.spectrum for end in ends if end.spectrum]


def _cells(summaries: Sequence[JSVSummary]) -> list[str]:
    return [
        _over_seeds([s.mean for s in summaries]),
        _over_seeds([s.isometry_gap for s in summaries]),
        _over_seeds([s.condition for s in summaries]),
        str(sum(s.resolved or 0 for s in summaries)),
        str(sum(s.unresolved or 0 for s in summaries)),
    ]


def _over_seeds(values: Sequence[float | None]) -> str:
    """``mean ± sample std`` to three digits. Where some seeds state no value, how many do. '' where none does."""
    stated = [value for value in values if value is not None]
    if not stated:
        return ""
    sample = Sample.of(stated)
    std = "" if sample.std is None else f" ± {sample.std:.3g}"
    few = f" ({len(stated)} of {len(values)} seeds)" if len(stated) < len(values) else ""
    return f"{sample.mean:.3g}{std}{few}"
