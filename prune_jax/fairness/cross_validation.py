"""Cross-validating finetuning setups (§3.2): each method once with its own retraining, once with the other's."""

from dataclasses import dataclass

from prune_jax.fairness import chain
from prune_jax.fairness.comparison import sample
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.significance import Sample, Welch, welch


@dataclass(frozen=True)
class CrossValidation:
    """``winner``: 'a', 'b' or None (tie). ``interaction``: the two retrainings disagree about who is ahead.

    ``under_a`` and ``under_b`` compare A with B (A minus B) under A's and under B's retraining. The result
    is ``conclusive`` when the winner is ahead, significantly, under both.
    """

    winner: str | None
    interaction: bool
    conclusive: bool
    under_a: Welch
    under_b: Welch
    sentence: str


def cross_validate(
    a_with_a: RunRecord,
    b_with_a: RunRecord,
    a_with_b: RunRecord,
    b_with_b: RunRecord,
    significance: float = 0.05,
) -> CrossValidation:
    """Decide between methods A and B, each once with its own retraining and once with the other's.

    Where both differences have one sign, that method wins, and pruning is why. Where they differ, pruning and
    retraining interact. Then the comparison that holds the highest of the four accuracies decides, less
    conclusively, by the paper's rule. It is a tie where both differences can be tested and neither is significant.
    That rule is ours, as the paper gives no threshold.

    Args:
      a_with_a: A with A's retraining.
      b_with_a: B with A's retraining.
      a_with_b: A with B's retraining.
      b_with_b: B with B's retraining.
      significance: what p of Welch's test must stay below.

    Returns:
      A ``CrossValidation``. Its ``sentence`` says who won and why.

    Raises:
      ValueError: a pair doesn't share its retraining, or a record states no accuracy.

    Example:
      >>> from prune_jax.fairness import Stage, Summary
      >>> def run(method, schedule, accuracy):
      ...     chain = (Stage("retrain", epochs=30, schedule=schedule),)
      ...     return RunRecord(method, method=method, stages=chain, summary=Summary(accuracy, std=0.1, n=3))
      >>> short, long = "0:0.01", "0:0.1"
      >>> with_short = run("A", short, 93.0), run("B", short, 92.0)
      >>> cross_validate(*with_short, run("A", long, 94.0), run("B", long, 93.0)).winner
      'a'

    Source: arXiv 2301.05219 §3.2.
    """
    _shared_retraining(a_with_a, b_with_a)
    _shared_retraining(a_with_b, b_with_b)
    means = [_sample(record) for record in (a_with_a, b_with_a, a_with_b, b_with_b)]
    under_a, under_b = welch(means[0], means[1]), welch(means[2], means[3])
    significant = [test.p is not None and test.p < significance for test in (under_a, under_b)]
    first, second = under_a.difference, under_b.difference
    interaction = first * second < 0
    if (first == 0 and second == 0) or not (any(significant) or _untested(under_a, under_b)):
        winner = None
    elif interaction:
        under = under_a if max(m.mean for m in means[:2]) >= max(m.mean for m in means[2:]) else under_b
        winner = "a" if under.difference > 0 else "b"
    else:
        winner = "a" if first + second > 0 else "b"
    conclusive = winner is not None and not interaction and all(significant)
    names = (a_with_a.method or a_with_a.name, b_with_b.method or b_with_b.name)
    sentence = _sentence(names, winner, interaction, conclusive, under_a, under_b)
    return CrossValidation(winner, interaction, conclusive, under_a, under_b, sentence)


def _shared_retraining(a: RunRecord, b: RunRecord) -> None:
    ours, theirs = (chain.schedules(record, ("retrain",)) for record in (a, b))
    if ours is None or ours != theirs:
        raise ValueError(
            f"{a.name!r} and {b.name!r} must share their retraining schedule: "
            f"{ours or 'unstated'} against {theirs or 'unstated'}"
        )


def _sample(record: RunRecord) -> Sample:
    found = sample(record)
    if found is None:
        raise ValueError(f"record {record.name!r} states no accuracy")
    return found


def _untested(*tests: Welch) -> bool:
    return any(test.p is None for test in tests)


def _sentence(
    names: tuple[str, str],
    winner: str | None,
    interaction: bool,
    conclusive: bool,
    under_a: Welch,
    under_b: Welch,
) -> str:
    shown = ", ".join(
        f"{test.difference:+.2f} points under {name}'s retraining ({_p(test)})"
        for name, test in zip(names, (under_a, under_b), strict=True)
    )
    if winner is None:
        return f"A tie: {names[0]} minus {names[1]} is {shown}."
    name = names[0] if winner == "a" else names[1]
    if interaction:
        return f"Pruning and retraining interact; {name} holds the highest accuracy, which is weak: {shown}."
    strength = "and pruning is why" if conclusive else "but not significantly under both"
    both = under_a.difference * under_b.difference > 0
    where = "under both retrainings" if both else "under one retraining and level under the other"
    return f"{name} is ahead {where}, {strength}: {shown}."


def _p(test: Welch) -> str:
    return f"Welch p = {test.p:.2g}" if test.p is not None else f"untested: {test.why_not}"
