"""Methods ranked only where a setup holds between all of them; every pair tested, with Holm's correction."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prune_jax.fairness import chain
from prune_jax.fairness.comparison import TOO_WEAK, sample
from prune_jax.fairness.letter_display import letters
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.setups import STRICTNESS, Break, known_setup, strictest_setup
from prune_jax.fairness.significance import Sample, holm, welch

WITHOUT_BASE = "same_overall_schedule"  # what is asked of two runs that start from no base model
SETTINGS = ("optimiser", "augmentation")
Breaks = Callable[[RunRecord, RunRecord], tuple[Break, ...]]


@dataclass(frozen=True)
class Ranking:
    """Records between all of which ``setup`` holds, the highest mean accuracy first.

    ``setup`` is the strictest one that holds between every two; None of a record that is alone. ``samples`` are the
    accuracies in percent. ``ps`` holds for each pair of places, the smaller first, the p of Welch's test corrected by
    Holm for all pairs of this ranking; None where a pair can't be tested. ``letters``: records that share one are
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


def rank(
    records: Sequence[RunRecord],
    required: str = "S3.2",
    significance: float = 0.05,
    rate_tolerance: float = 0.02,
) -> Rankings:
    """Rank records by accuracy, only those together between all of which ``required`` holds.

    A record joins the first group with all of whose members it is comparable. Two runs that start from no base
    model, such as scratch and pruning at initialisation, share none: of them ``WITHOUT_BASE`` and equal settings of
    the training are asked instead. Test and level are ours; the paper names none.

    Args:
        records: any, in any order; what comes first decides which groups come first.
        required: S3.2, S4.1 or S4.2.
        significance: two records are told apart where their corrected p is below it.
        rate_tolerance: as for ``strictest_setup``.

    Returns:
        The rankings, and the reasons why there is more than one.

    Raises:
        KeyError: an unknown setup.
        ValueError: a setup that can't tell that a method is better, or a negative tolerance.

    Example:
        >>> from prune_jax.fairness import RunRecord, Summary
        >>> rank([RunRecord("A", summary=Summary(90.0)), RunRecord("B")]).reasons
        ('B is not ranked: it states no accuracy.',)
    """
    if known_setup(required) in TOO_WEAK or required not in STRICTNESS:
        allowed = [setup for setup in STRICTNESS if setup not in TOO_WEAK]
        raise ValueError(f"required is {required!r}, under which methods can't be ranked; allowed: {allowed}")
    stated = [record for record in records if sample(record) is not None]
    silent = [f"{r.name} is not ranked: it states no accuracy." for r in records if sample(r) is None]

    def breaks(a: RunRecord, b: RunRecord) -> tuple[Break, ...]:
        return _breaks(a, b, required, rate_tolerance)

    groups = comparable(stated, lambda a, b: not breaks(a, b))
    ranked = tuple(_ranked(group, significance, rate_tolerance) for group in groups)
    return Rankings(ranked, (*_reasons(groups, breaks, required), *silent))


def comparable(
    records: Sequence[RunRecord], holds: Callable[[RunRecord, RunRecord], bool]
) -> tuple[tuple[RunRecord, ...], ...]:
    """Records in groups: each joins the first one with all of whose members ``holds`` is true.

    Args:
        records: in the order in which groups are begun and filled.
        holds: whether two records are comparable; it need not be transitive, as rates have a tolerance.

    Returns:
        The groups; every record is in exactly one.

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


def _breaks(a: RunRecord, b: RunRecord, required: str, tolerance: float) -> tuple[Break, ...]:
    verdict = strictest_setup(a, b, tolerance)
    if not _without_base(a, b):
        return verdict.breaks[required]
    settings = [broken for broken in verdict.breaks["S3.2"] if broken.field in SETTINGS]
    return (*verdict.breaks[WITHOUT_BASE], *settings)


def _without_base(a: RunRecord, b: RunRecord) -> bool:
    return chain.base_ids(a) == chain.base_ids(b) == frozenset()


def _ranked(group: Sequence[RunRecord], significance: float, tolerance: float) -> Ranking:
    """One group: sorted, every pair tested, letters."""
    records = tuple(sorted(group, key=lambda record: -_sample(record).mean))
    samples = tuple(map(_sample, records))
    pairs = list(itertools.combinations(range(len(samples)), 2))
    ps = dict(zip(pairs, holm([welch(samples[i], samples[j]).p for i, j in pairs]), strict=True))
    apart = [pair for pair, p in ps.items() if p is not None and p < significance]
    return Ranking(_setup(records, tolerance), records, samples, ps, letters(len(samples), apart))


def _sample(record: RunRecord) -> Sample:
    found = sample(record)
    assert found is not None  # records without one are left out before
    return found


def _setup(records: Sequence[RunRecord], tolerance: float) -> str | None:
    """The strictest setup that holds between every two."""
    if len(records) < 2:
        return None
    verdicts = [strictest_setup(a, b, tolerance) for a, b in itertools.combinations(records, 2)]
    strict = (s for s in reversed(STRICTNESS) if all(v.holds(s) for v in verdicts))
    return WITHOUT_BASE if _without_base(*records[:2]) else next(strict, None)


def _reasons(groups: Sequence[Sequence[RunRecord]], breaks: Breaks, required: str) -> list[str]:
    """For each group but the first, what parts it from the earlier one to which it is nearest."""
    lines = []
    for number, group in enumerate(groups[1:], start=2):
        nearest = {before: _parting(groups[before - 1], group, breaks) for before in range(1, number)}
        before = min(nearest, key=lambda place: len(nearest[place][0]))
        broken, (a, b) = nearest[before]
        setup = WITHOUT_BASE if _without_base(a, b) else required
        why = "; ".join(map(str, broken))
        lines.append(f"Group {number} is not ranked with group {before}: {setup} doesn't hold ({why}).")
    return lines


def _parting(
    one: Sequence[RunRecord], other: Sequence[RunRecord], breaks: Breaks
) -> tuple[tuple[Break, ...], tuple[RunRecord, RunRecord]]:
    """What breaks the setup between the first two records, one of each group, between which it doesn't hold."""
    for pair in itertools.product(one, other):
        found = breaks(*pair)
        if found:
            return found, pair
    raise AssertionError("two groups of which every pair is comparable are one")
