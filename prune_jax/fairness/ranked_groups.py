"""Records in groups that are comparable throughout, each group ranked: every pair tested, with Holm's correction."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prune_jax.fairness.comparison import TOO_WEAK, sample
from prune_jax.fairness.letter_display import letters
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.setups import STRICTNESS, Break, Verdict, strictest_setup
from prune_jax.fairness.significance import Sample, holm, welch

UNTRAINED = "same_overall_schedule"  # asked of two runs neither of which starts from a trained base model
Breaks = Callable[[RunRecord, RunRecord, Verdict], tuple[Break, ...]]
Judge = Callable[[RunRecord, RunRecord], Verdict]


@dataclass(frozen=True)
class Ranking:
    """Records between all of which ``setup`` holds, the best mean first.

    ``setup`` is the strictest one that holds between every two. None of a record that is alone. ``samples`` are the
    accuracies in percent. ``ps`` holds for each pair of places, the smaller first, the p of Welch's test corrected by
    Holm for all pairs of this ranking. None where a pair can't be tested. ``letters``: records that share one are
    not told apart.
    """

    setup: str | None
    records: tuple[RunRecord, ...]
    samples: tuple[Sample, ...]
    ps: Mapping[tuple[int, int], float | None]
    letters: tuple[str, ...]

    @property
    def tests(self) -> int:
        """How many pairs were tested: what Holm's correction counts."""
        return sum(p is not None for p in self.ps.values())


@dataclass(frozen=True)
class Rankings:
    """``groups``, each ranked by itself, and ``reasons``: a line for each group or record not ranked with others."""

    groups: tuple[Ranking, ...]
    reasons: tuple[str, ...]


def rankings(records: Sequence[RunRecord], breaks: Breaks, significance: float, tolerance: float) -> Rankings:
    """Rank records by accuracy, those together between which nothing ``breaks``.

    Args:
        records: any. What comes first decides which groups come first. One without an accuracy is in no group.
        breaks: of two records and the verdict on them what makes them incomparable. Nothing where they are comparable.
        significance: two records are told apart where their corrected p is below it.
        tolerance: as for ``strictest_setup``.

    Returns:
        The rankings, and the reasons why there is more than one.
    """
    stated = [record for record in records if sample(record) is not None]
    silent = [f"{r.name} is not ranked: it states no accuracy." for r in records if sample(r) is None]
    judge = _remembered(lambda a, b: strictest_setup(a, b, tolerance))
    groups = comparable(stated, lambda a, b: not breaks(a, b, judge(a, b)))
    ranked = tuple(_ranked(group, significance, judge) for group in groups)
    return Rankings(ranked, (*_reasons(groups, breaks, judge), *silent))


def comparable(
    records: Sequence[RunRecord], holds: Callable[[RunRecord, RunRecord], bool]
) -> tuple[tuple[RunRecord, ...], ...]:
    """Records in groups: each joins the first one with all of whose members ``holds`` is true.

    Args:
        records: in the order in which groups are begun and filled.
        holds: whether two records are comparable. It need not be transitive, as rates have a tolerance.

    Returns:
        The groups. Every record is in exactly one.

    Example:
        >>> from prune_jax.fairness import RunRecord
        >>> runs = [RunRecord(name, network=name[0]) for name in ("a1", "b1", "a2")]
        >>> [[r.name for r in group] for group in comparable(runs, lambda x, y: x.network == y.network)]
        [['a1', 'a2'], ['b1']]
    """
    groups: list[list[RunRecord]] = []
    for record in records:
        home = next((group for group in groups if all(holds(other, record) for other in group)), None)
        if home is None:
            groups.append([record])
        else:
            home.append(record)
    return tuple(tuple(group) for group in groups)


def _remembered(judge: Judge) -> Judge:
    """Each pair is judged once in a ranking, which asks of many of them three times."""
    known: dict[frozenset[int], Verdict] = {}

    def ask(a: RunRecord, b: RunRecord) -> Verdict:
        pair = frozenset((id(a), id(b)))
        if pair not in known:
            known[pair] = judge(a, b)
        return known[pair]

    return ask


def _ranked(group: Sequence[RunRecord], significance: float, judge: Judge) -> Ranking:
    """One group: sorted, every pair tested, letters."""
    records = tuple(sorted(group, key=lambda record: -record.measured.sign * _sample(record).mean))
    samples = tuple(map(_sample, records))
    pairs = list(itertools.combinations(range(len(samples)), 2))
    ps = dict(zip(pairs, holm([welch(samples[i], samples[j]).p for i, j in pairs]), strict=True))
    apart = [pair for pair, p in ps.items() if p is not None and p < significance]
    return Ranking(_setup(group, judge), records, samples, ps, letters(len(samples), apart))


def _sample(record: RunRecord) -> Sample:
    found = sample(record)
    assert found is not None  # records without one are left out before
    return found


def _setup(group: Sequence[RunRecord], judge: Judge) -> str | None:
    """The strictest setup that holds between every two."""
    verdicts = [judge(a, b) for a, b in itertools.combinations(group, 2)]
    strict = [setup for setup in reversed(STRICTNESS) if setup not in TOO_WEAK]
    order = (*strict, UNTRAINED, *reversed(TOO_WEAK))
    return next((s for s in order if verdicts and all(v.holds(s) for v in verdicts)), None)


def _reasons(groups: Sequence[Sequence[RunRecord]], breaks: Breaks, judge: Judge) -> list[str]:
    """For each group but the first, what parts it from the earlier one to which it is nearest."""
    lines = []
    for number, group in enumerate(groups[1:], start=2):
        found = {
            before: _parting(itertools.product(groups[before - 1], group), breaks, judge)
            for before in range(1, number)
        }
        nearest = min(found, key=lambda before: len(found[before]))
        why = "; ".join(map(str, found[nearest]))
        lines.append(f"Group {number} is not ranked with group {nearest}: {why}.")
    return lines


def _parting(pairs: Iterable[tuple[RunRecord, RunRecord]], breaks: Breaks, judge: Judge) -> tuple[Break, ...]:
    """What differs in the first pair that is not comparable."""
    return next(found for a, b in pairs if (found := breaks(a, b, judge(a, b))))
