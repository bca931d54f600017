"""When a "beats" is earned: hand-made records, Table 4's claim, Table 1's silence; cross-validation."""

import itertools
from dataclasses import replace

import pytest

from prune_jax.fairness import (
    Costs,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
    compare,
    cross_validate,
    published,
)


def run(name, accuracies, base="base", retrain="0:0.01"):
    results = tuple(SeedResult(seed, value) for seed, value in enumerate(accuracies))
    bases = (base,) * len(accuracies)
    stages = (
        Stage("pretrain", bases, 10, "0:0.1"),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 5, retrain),
    )
    return RunRecord(name, "d", "n", name, costs=Costs(speedup=2.0), stages=stages, results=results)


GOOD, POOR = run("GOOD", [90.0, 90.2, 90.4]), run("POOR", [80.0, 80.2, 80.4])


def test_a_fair_and_significant_difference_is_a_beat():
    result = compare(GOOD, POOR)
    assert result.winner == "a"
    assert result.welch.difference == pytest.approx(10.0, rel=1e-12)
    assert (result.a.std, result.a.n) == (pytest.approx(0.2, rel=1e-9), 3)
    assert result.sentence.startswith(
        "GOOD beats POOR by 10.00 points under S3.2: 90.20 ± 0.20 (n=3) against 80.20 ± 0.20 (n=3), Welch p = 4"
    )
    assert "taking as equal, though unstated: optimiser batch_size" in result.sentence
    assert compare(POOR, GOOD).winner == "b"
    assert compare(POOR, GOOD).sentence == result.sentence


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (
            run("POOR", [80.0, 80.2, 80.4], base="elsewhere"),
            "S3.2 doesn't hold (base_model base against elsew",
        ),
        (
            run("POOR", [80.0, 80.2, 80.4], retrain="0:0.001"),
            "(retrain_schedule 0:0.01 (5 epochs) against 0:0",
        ),
        (
            run("POOR", [70.0, 90.1, 95.4]),
            "the difference is not significant (Welch p = 0.58, needed < 0.05)",
        ),
        (run("POOR", [80.0]), "significance can't be tested: n too small (n=3 and n=1, a test needs 2"),
        (
            replace(POOR, results=(), summary=Summary(80.0)),
            "significance can't be tested: std and n unstated",
        ),
    ],
)
def test_else_it_says_what_is_missing(other, complaint):
    result = compare(GOOD, other)
    assert result.winner is None
    assert result.sentence.startswith("GOOD is ")
    assert "doesn't show that it is better" in result.sentence
    assert complaint in result.sentence
    assert "beats" not in result.sentence


def test_values_stand_in_the_order_of_the_names():
    result = compare(run("POOR", [80.0, 80.1], base="x"), run("GOOD", [90.0, 90.1], base="y"))
    assert result.sentence.startswith("GOOD is 10.00 points above POOR")
    assert "base_model y against x" in result.sentence


def test_level_and_unstated_accuracies():
    assert compare(GOOD, GOOD).sentence.startswith("GOOD and GOOD are level")
    nothing = compare(GOOD, replace(POOR, results=()))
    assert nothing.winner is None
    assert nothing.sentence == "Nothing to compare: accuracy unstated by POOR; S3.2 holds."


def test_required_setup():
    with pytest.raises(ValueError, match="S2 is too weak to name a winner"):
        compare(GOOD, POOR, required="S2")
    with pytest.raises(KeyError, match="unknown setup 'SXB'; did you mean 'SX-B'"):
        compare(GOOD, POOR, required="SXB")
    elsewhere = run("POOR", [80.0, 80.2, 80.4], base="elsewhere")
    assert compare(GOOD, elsewhere, "SX-B").sentence.startswith(
        "GOOD is ahead of POOR by 10.00 points under SX"
    )


def test_table1_supports_no_beats():
    records = published.records("table1")
    assert len(records) == 18
    for a, b in itertools.combinations(records, 2):
        result = compare(a, b)
        assert result.winner is None
        assert "S3.2 doesn't hold" in result.sentence
        assert "base_model unstated by both" in result.sentence
        assert "significance can't be tested: std and n unstated" in result.sentence


def test_table4_claim_pruning_beats_scratch_from_30_to_70_percent():
    """§4's only significance claim, for the best S4.2 row against scratch; the paper names no test."""
    records = published.records("table4")
    significant = []
    for ratio in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95):
        mine = [r for r in records if r.config["pruning_ratio"] == ratio]
        scratch = next(r for r in mine if r.method == "Scratch")
        best = max((r for r in mine if r.config["setup_printed"] == "S4.2"), key=lambda r: r.summary.mean)
        if compare(best, scratch, "same_overall_schedule").winner == "a":
            significant.append(ratio)
    assert significant == [0.3, 0.5, 0.7]


def four(a_a, b_a, a_b, b_b):
    spread = (-0.1, 0.0, 0.1)
    return [
        run(name, [mean + s for s in spread], retrain=lr)
        for name, mean, lr in (
            ("A", a_a, "0:0.01"),
            ("B", b_a, "0:0.01"),
            ("A", a_b, "0:0.001"),
            ("B", b_b, "0:0.001"),
        )
    ]


@pytest.mark.parametrize(
    ("means", "winner", "interaction", "conclusive", "words"),
    [
        ((90, 85, 80, 75), "a", False, True, "A is ahead under both retrainings, and pruning is why"),
        ((85, 90, 75, 80), "b", False, True, "B is ahead under both retrainings"),
        ((90, 85, 75, 80), "a", True, False, "Pruning and retraining interact; A holds the highest accuracy"),
        ((80, 75, 85, 90), "b", True, False, "Pruning and retraining interact; B holds"),
        ((90, 89.99, 80, 79.99), None, False, False, "A tie: A minus B is +0.01 points under A's"),
        ((90, 90, 80, 80), None, False, False, "A tie"),
        ((90, 85, 80, 79.99), "a", False, False, "but not significantly under both"),
        ((90, 85, 80, 80), "a", False, False, "under one retraining and level under the other"),
    ],
)
def test_cross_validation(means, winner, interaction, conclusive, words):
    result = cross_validate(*four(*means))
    assert (result.winner, result.interaction, result.conclusive) == (winner, interaction, conclusive)
    assert words in result.sentence


def test_cross_validation_of_single_runs_follows_the_signs():
    singles = [replace(r, results=r.results[:1], stages=r.stages[2:]) for r in four(90, 89.9, 80, 79.9)]
    result = cross_validate(*singles)
    assert (result.winner, result.conclusive) == ("a", False)
    assert "untested: n too small" in result.sentence


def test_cross_validation_refuses_what_it_cannot_judge():
    a_a, b_a, a_b, b_b = four(90, 85, 80, 75)
    with pytest.raises(
        ValueError, match=r"'A' and 'B' must share their retraining schedule: 0:0\.01 .* against"
    ):
        cross_validate(a_a, b_b, a_b, b_a)
    with pytest.raises(ValueError, match="record 'A' states no accuracy"):
        cross_validate(replace(a_a, results=()), b_a, a_b, b_b)
