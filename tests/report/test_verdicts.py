"""Verdicts on the paper's statements, on OrthP's controls and on longer retraining, from made-up runs."""

import dataclasses

import pytest
from scipy import stats

from prune_jax import fairness
from prune_jax.report import controls, extended, pruning_value, statements, tables
from prune_jax.report.verdicts import effects

MODEL = {"model": {"num_classes": 10}}


def run(row, ratio, finals, *, regime="", lr=0.1, epochs=10, recovery="none", dense=0, speedup=4):
    """A made-up run with one final accuracy a seed; ``dense`` epochs before it at ``speedup`` times the cost."""
    scratch = row == "scratch"
    results = tuple(
        fairness.SeedResult.from_epochs(
            seed,
            [fairness.EpochMetrics(0, 10.0, mean_jsv=0.1)]
            + [fairness.EpochMetrics(epoch, final, mean_jsv=0.5) for epoch in range(1, epochs + 1)],
        )
        for seed, final in enumerate(finals)
    )
    ids = tuple(map(str, range(len(finals))))
    first = (fairness.Stage("pretrain", ids, dense, "0:0.1"),) if dense else ()
    last = fairness.Stage("scratch" if scratch else "retrain", ids, epochs, f"0:{lr:g}", spec=MODEL)
    return fairness.RunRecord(
        f"{row} @ {ratio}",
        "fashion_mnist/split0",
        "conv5_bn",
        "scratch" if scratch else f"l1+{recovery}",
        fairness.Axes(ratio=str(ratio)),
        fairness.Costs("macs", 100.0, 100.0 / speedup),
        (*first, last),
        results,
        config={"row": row, "regime": regime, "sparsify": {"ratio": ratio, "recovery": recovery}},
    )


def level(mean):
    return (mean - 0.2, mean, mean + 0.1, mean + 0.2)


EARLY, LATE = "P15F105, 1e-1", "P90F30, 1e-4"


def test_a_statement_holds_fails_or_stays_open_by_sign_and_corrected_p():
    means = {0.3: (90, 80), 0.5: (80, 90), 0.7: (85.05, 85)}
    records = [
        run(row, ratio, level(mean))
        for ratio, pair in means.items()
        for row, mean in zip((EARLY, "scratch"), pair, strict=True)
    ]
    found = {ratio: told for _, ratio, _, told in statements.by_statement(records)}
    assert found == {0.3: "holds", 0.5: "does not", 0.7: "can't tell"}
    raw = [stats.ttest_ind(level(a), level(b), equal_var=False).pvalue for a, b in means.values()]
    got = [effect.p for _, _, effect, _ in statements.by_statement(records)]
    assert got == pytest.approx(fairness.holm(raw))
    text = statements.statements(records)
    assert "| does not |" in text
    assert statements.statements([]) == ""


def test_a_cell_has_a_verdict_only_where_the_papers_own_numbers_have_a_sign():
    # The paper prints 84.01 ± 0.23 against 83.31 ± 0.13 at 0.3; at 0.1 83.95 ± 0.17 against 83.68 ± 0.38.
    records = [
        run(row, ratio, level(mean)) for ratio in (0.1, 0.3) for row, mean in ((EARLY, 90), ("scratch", 80))
    ]
    cells = {ratio: (theirs, told) for _, ratio, theirs, _, told in statements.by_cell(records)}
    assert cells[0.3][0].difference == pytest.approx(0.70)
    assert cells[0.3][0].p < 0.05 < cells[0.1][0].p
    assert (cells[0.3][1], cells[0.1][1]) == ("holds", "can't tell: the paper states no sign")


@pytest.mark.parametrize(("dense", "wanted"), [(1, "holds"), (2, "not at equal compute")])
def test_a_row_that_spends_more_than_scratch_bears_on_nothing(dense, wanted):
    # In epochs of the pruned network: 4 or 8 dense ones and 6, against 10.
    row = run("P30/kF90, 1e-1", 0.5, level(90), regime="nearly SX-B", epochs=6, dense=dense)
    records = [row, run("scratch", 0.5, level(80))]
    ((_, _, _, _, told),) = statements.by_cell(records)
    assert told == wanted
    assert len(statements.by_statement(records)) == (wanted == "holds")


def test_a_run_at_chance_is_named_wherever_its_mean_is():
    # By hand: ten classes, so a guess has 10 % and the margin ends at 12.5.
    dead = run(LATE, 0.9, (80.0, 12.5, 81.0, 11.35), regime="same overall schedule")
    alive = run("scratch", 0.9, (80.0, 12.6, 81.0, 82.0))
    assert (fairness.at_chance(dead), fairness.at_chance(alive)) == ((1, 3), ())
    for text in (tables.accuracy([dead, alive]), pruning_value.pruning_value([dead, alive])):
        assert text.count("(at chance: seeds 1, 3)") == 1
    assert "at chance" in statements.statements([dead, alive])
    unstated = dataclasses.replace(dead, stages=(dataclasses.replace(dead.stages[-1], spec={}),))
    assert fairness.at_chance(unstated) == ()
    assert fairness.at_chance(dataclasses.replace(dead, metric=fairness.METRICS["top-5 accuracy"])) == ()


def test_controls_say_at_which_ratios_inheriting_helps():
    means = {"0.5": (90, 80, 70), "0.9": (85, 85, 70)}
    records = [
        run("", ratio, level(mean), recovery=recovery)
        for ratio, three in means.items()
        for recovery, mean in zip(("orthp", "reinit", "rescale"), three, strict=True)
    ]
    found = controls.beside_controls(records)
    assert [pair[0].difference for pair in found.values()] == pytest.approx([10, 0])
    assert [pair[1].difference for pair in found.values()] == pytest.approx([20, 15])
    lines = controls.verdicts(found)
    assert "helps beyond isometry in 1, does worse than nothing inherited in 0, and can't be told" in lines[0]
    assert "helps beyond isometry in 0" in lines[1]
    assert lines[1].endswith("in 1.")
    assert controls.controls(records[:1]) == ""


def test_longer_runs_stand_beside_the_large_lrs_shortest():
    reference = run("", 0.9, level(90), lr=0.01, epochs=8)
    others = [
        run("", 0.9, level(80), lr=0.001, epochs=8),
        run("", 0.9, level(90), lr=0.001, epochs=96),
        run("", 0.9, level(95), lr=0.01, epochs=96),
    ]
    told = {
        (r.record.results[0].epochs[-1].epoch, r.effect.difference): extended.standing(r.effect)
        for r in extended.longer_runs([*others, reference])
    }
    assert list(told.values()) == ["ahead", "behind", "not told apart"]
    assert [key[1] for key in told] == pytest.approx([-5, 10, 0])
    assert "0.1 to 0.5" in extended.extended([*others, reference])


def test_the_larger_lr_is_paired_with_the_smaller_of_the_same_network_and_kind():
    def at(lr, mean, text):
        made = run("", 0.5, level(mean), lr=lr)
        return dataclasses.replace(made, stages=(dataclasses.replace(made.stages[-1], schedule=text),))

    records = [
        at(0.01, 90, "0:0.01"),
        at(0.001, 80, "0:0.001"),
        at(0.01, 80, "0:cosine(0.01,0.0001)"),
        at(0.001, 90, "0:cosine(0.001,0.0001)"),
    ]
    assert {place[2]: pair[0].accuracies[1] for place, pair in extended.lr_pairs(records)} == {
        "step": 90,
        "cosine": 80,
    }
    rows = [line for line in extended.larger_lr(records).splitlines() if "conv5_bn" in line]
    assert [row.split("|")[-2].strip() for row in rows] == ["holds", "does not"]


def test_no_test_no_verdict():
    one = run("", 0.5, (90.0,))
    (effect,) = effects([(one, one)])
    assert effect.p is None
    assert extended.standing(effect) == "not told apart"
