"""What may be concluded from two records: difference, Welch's test, the setups that hold, in one sentence."""

from dataclasses import dataclass

from prune_jax.fairness.chance import stuck_text
from prune_jax.fairness.metrics import ACCURACY, Metric
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.setups import STRICTNESS, Verdict, known_setup, strictest_setup
from prune_jax.fairness.significance import Sample, Welch, welch

TOO_WEAK = ("S1", "S2", "S3.1")


@dataclass(frozen=True)
class Comparison:
    """Two records side by side. ``winner`` is 'a' or 'b' only where a "beats" is earned, else None.

    ``welch.difference`` is a minus b, in the records' metric: percentage points of last-epoch test accuracy.
    """

    a: Sample | None
    b: Sample | None
    welch: Welch | None
    verdict: Verdict
    winner: str | None
    sentence: str


def sample(record: RunRecord) -> Sample | None:
    """The metric after the last epoch over the seeds, or the printed summary. None when neither is stated."""
    if record.results:
        return Sample.of(record.accuracies)
    if record.summary is None:
        return None
    return Sample(record.summary.mean, record.summary.std, record.summary.n)


def is_testable(stated: Sample | None) -> bool:
    """Whether a sample has what Welch's test needs of it: a std of at least two runs."""
    return stated is not None and stated.std is not None and stated.n is not None and stated.n > 1


def compare(
    a: RunRecord,
    b: RunRecord,
    required: str = "S3.2",
    significance: float = 0.05,
    rate_tolerance: float = 0.02,
) -> Comparison:
    """Compare two records. A winner needs ``required`` to hold and p < ``significance``.

    The word "beats" takes S3.2 or stricter, as the paper recommends. Where no base model is shared, as with scratch,
    ``required`` may be SX-A, SX-B or same_overall_schedule. Then the sentence says "ahead". Settings that both
    records state and that differ are named, and leave no winner under any setup. Of records with different metrics
    nothing is said but that. Seeds that learnt nothing stand inside the means, so the sentence ends with their names.

    Args:
      a: a record.
      b: another one.
      required: the setup that must hold.
      significance: what p of Welch's test must stay below. Test and number are ours.
      rate_tolerance: see ``strictest_setup``.

    Returns:
      A ``Comparison``. Its ``sentence`` says what may be concluded.

    Raises:
      KeyError: ``required`` is no setup.
      ValueError: ``required`` is weaker than S3.2.

    Example:
      >>> a, b = RunRecord("A", dataset="cifar10"), RunRecord("B", dataset="cifar10")
      >>> compare(a, b).sentence[:52]
      'Nothing to compare: accuracy unstated by A and B; S3'

    Source: arXiv 2301.05219 §6.
    """
    if known_setup(required) in TOO_WEAK:
        raise ValueError(f"{required} is too weak to name a winner; at least S3.2, or one of SX-A, SX-B")
    verdict = strictest_setup(a, b, rate_tolerance)
    ours, theirs = sample(a), sample(b)
    if ours is None or theirs is None:
        silent = " and ".join(r.name for r, s in ((a, ours), (b, theirs)) if s is None)
        sentence = f"Nothing to compare: accuracy unstated by {silent}; {verdict.explain(required)}."
        return Comparison(ours, theirs, None, verdict, None, sentence)
    metric = a.measured
    if metric != b.measured:
        sentence = f"Nothing to compare: {a.name} states {metric.text}; {b.name} states {b.measured.text}."
        return Comparison(ours, theirs, None, verdict, None, sentence)
    test = welch(ours, theirs)
    ahead, first, second = ("a", a, b) if metric.sign * test.difference >= 0 else ("b", b, a)
    samples = (ours, theirs) if ahead == "a" else (theirs, ours)
    # Judged again in the sentence's order, so that its values stand in the order of its names.
    missing = _missing(strictest_setup(first, second, rate_tolerance), test, required, significance)
    winner = None if missing else ahead
    sentence = _sentence((first.name, second.name), samples, test, missing, required, metric)
    if winner and verdict.assumed:
        sentence = f"{sentence[:-1]}, taking as equal, though unstated: {', '.join(verdict.assumed)}."
    return Comparison(ours, theirs, test, verdict, winner, sentence + _stuck(a, b))


def _stuck(a: RunRecord, b: RunRecord) -> str:
    """The seeds that learnt nothing, as a sentence of its own; '' without any."""
    named = [f"{seeds} of {record.name}" for record in (a, b) if (seeds := stuck_text(record))]
    return f" At chance: {', '.join(named)}." if named else ""


def _missing(verdict: Verdict, test: Welch, required: str, significance: float) -> list[str]:
    equal = verdict.holds(required) and not verdict.differing
    missing = [] if equal else [verdict.explain(required)]
    if test.p is None:
        missing.append(f"significance can't be tested: {test.why_not}")
    elif test.p >= significance:
        missing.append(f"the difference is not significant ({_p(test)}, needed < {significance:g})")
    return missing


def _sentence(
    names: tuple[str, str],
    samples: tuple[Sample, Sample],
    test: Welch,
    missing: list[str],
    required: str,
    metric: Metric,
) -> str:
    (first, second), points = names, abs(test.difference)
    numbers = f"{samples[0]} against {samples[1]}"
    if not missing:
        word = "beats" if required in STRICTNESS else "is ahead of"
        return (
            f"{first} {word} {second} by {_amount(points, metric)} under {required}: {numbers}, {_p(test)}."
        )
    if f"{points:.2f}" == "0.00":
        lead = f"{first} and {second} are level ({numbers})"
    else:
        lead = _lead(first, second, points, numbers, metric)
    return f"{lead}, which doesn't show that it is better: {'; '.join(missing)}."


def _lead(first: str, second: str, points: float, numbers: str, metric: Metric) -> str:
    """The better one first: 'A is 2.00 points above B (...)'. A metric other than accuracy is named."""
    side = "above" if metric.sign > 0 else "below"
    amount = f"{points:.2f}{_unit(metric)} {side}"
    if metric == ACCURACY:
        return f"{first} is {amount} {second} ({numbers})"
    return f"{first}'s {metric.name} is {amount} {second}'s ({numbers}; {metric.direction} is better)"


def _amount(points: float, metric: Metric) -> str:
    """'2.00 points'. Of a metric other than accuracy also its name and direction."""
    named = "" if metric == ACCURACY else f" in {metric.name} ({metric.direction} is better)"
    return f"{points:.2f}{_unit(metric)}{named}"


def _unit(metric: Metric) -> str:
    return " points" if metric.unit == "%" else f" {metric.unit}" if metric.unit else ""


def _p(test: Welch) -> str:
    return f"Welch p = {test.p:.2g}" if test.p is not None else "untested"
