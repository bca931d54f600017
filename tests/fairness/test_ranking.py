"""Methods are ranked together only where a setup holds between all of them; pairs against SciPy."""

import itertools
from dataclasses import replace

import pytest
from scipy import stats

from prune_jax.fairness import (
    Costs,
    Optimiser,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
    comparable,
    rank,
    rank_equal_compute,
    rank_retrainings,
)


def run(name, accuracies, speedup=2.0, retrain="0:0.01", base="base", **costs):
    """A made-up method on one base model."""
    results = tuple(SeedResult(seed, value) for seed, value in enumerate(accuracies))
    stages = (
        Stage("pretrain", tuple(f"{base}{seed}" for seed in range(len(results))), 10, "0:0.1"),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 5, retrain),
    )
    costs = Costs(speedup=speedup, **costs)
    return RunRecord(name, "d", "n", name, costs=costs, stages=stages, results=results)


GOOD = run("good", [90.0, 90.2, 90.4, 90.1])
ALSO = run("also", [89.9, 90.1, 90.6, 90.2])
POOR = run("poor", [80.0, 80.3, 80.9, 80.2])


def test_one_group_is_ordered_tested_and_lettered():
    found = rank([POOR, GOOD, ALSO])
    (group,) = found.groups
    assert found.reasons == ()
    assert [record.name for record in group.records] == ["also", "good", "poor"]
    assert group.setup == "S4.2"
    pairs = list(itertools.combinations(group.records, 2))
    raw = [stats.ttest_ind(a.accuracies, b.accuracies, equal_var=False).pvalue for a, b in pairs]
    order = sorted(range(3), key=lambda i: raw[i])
    wanted, highest = [0.0] * 3, 0.0
    for factor, place in zip((3, 2, 1), order, strict=True):
        highest = wanted[place] = max(highest, min(1.0, factor * raw[place]))
    assert [group.ps[pair] for pair in ((0, 1), (0, 2), (1, 2))] == pytest.approx(wanted, rel=1e-10)
    assert group.tests == 3
    assert group.letters == ("a", "a", "b")


def test_a_difference_that_one_test_would_show_is_lost_among_many():
    near = run("near", [89.6, 89.7, 89.95, 89.8])
    assert rank([GOOD, near]).groups[0].letters == ("a", "b")
    rest = [run(f"like{i}", [a + i / 100 for a in GOOD.accuracies]) for i in range(6)]
    crowd = rank([GOOD, near, *rest]).groups[0]
    places = [record.name for record in crowd.records]
    assert set(crowd.letters[places.index("good")]) & set(crowd.letters[places.index("near")])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"speedup": 4.0}, "rate (speedup) 2x against 4x."),
        (
            {"retrain": "0:0.001"},
            "retrain_schedule 0:0.01 (5 epochs) against 0:0.001 (5 epochs).",
        ),
        (
            {"base": "other"},
            "base_model base0+base1+base2+… against other0+other1+other2+….",
        ),
    ],
)
def test_what_is_in_no_common_setup_is_not_ranked_together(change, why):
    found = rank([GOOD, run("elsewhere", [99.0, 99.1, 99.2, 99.3], **change), POOR])
    assert [[r.name for r in group.records] for group in found.groups] == [["good", "poor"], ["elsewhere"]]
    assert found.groups[1].setup is None
    assert found.groups[1].letters == ("a",)
    assert found.reasons == (f"Group 2 is not ranked with group 1: {why}",)


def test_each_group_is_held_against_the_one_nearest_to_it():
    found = rank([GOOD, run("b", [1.0], 4.0), run("c", [1.0], 4.0, "0:0.001")])
    assert found.reasons[1].startswith("Group 3 is not ranked with group 2: retrain_schedule")


def test_masks_of_different_ratios_are_not_at_one_rate():
    """Masks leave MACs as they are, so a speedup of 1 on both sides is no equal rate."""
    half, tenth, also_half = (
        run(name, [90.0, 91.0], 1.0, compression=rate)
        for name, rate in (("half", 2.0), ("tenth", 10.0), ("too", 2.01))
    )
    found = rank([half, tenth, also_half])
    assert [[r.name for r in group.records] for group in found.groups] == [["half", "too"], ["tenth"]]
    assert "rate (compression) 2x against 10x" in found.reasons[0]


def test_runs_without_a_base_model_are_held_to_one_schedule_and_equal_settings():
    def fresh(name, schedule="0:0.1", momentum=0.9, epochs=5):
        stages = (Stage("sparsify", None, 0), Stage("retrain", None, epochs, schedule))
        return replace(run(name, [70.0, 71.0]), stages=stages, optimiser=Optimiser("sgd", momentum))

    scratch = replace(fresh("scratch"), stages=(Stage("scratch", None, 5, "0:0.1"),))
    found = rank([fresh("snip"), fresh("longer", epochs=9), fresh("heavy", momentum=0.5), scratch, GOOD])
    assert [[r.name for r in group.records] for group in found.groups] == [
        ["snip", "scratch"],
        ["longer"],
        ["heavy"],
        ["good"],
    ]
    assert found.groups[0].setup == "same_overall_schedule"
    assert "with group 1: total_epochs 5 against 9; overall_schedule" in found.reasons[0]
    assert ": optimiser momentum=0.9 against momentum=0.5." in found.reasons[1]
    assert "base_model none (scratch) against base0" in found.reasons[2]


def test_scratch_is_ranked_with_runs_that_were_pruned_at_initialisation():
    """These share their random weights with each other, so that S3.2 holds between them; scratch has none of them."""

    def at_init(name, schedule="0:0.1", random="random"):
        stages = (
            Stage("initialise", tuple(f"{random}{seed}" for seed in range(2))),
            Stage("sparsify", None, 0),
            Stage("retrain", None, 5, schedule),
        )
        return replace(run(name, [70.0, 71.0]), stages=stages)

    scratch = replace(run("scratch", [60.0, 61.0]), stages=(Stage("scratch", None, 5, "0:0.1"),))
    others = at_init("other weights", random="others")
    found = rank([at_init("snip"), at_init("grasp"), scratch, at_init("small LR", "0:0.01"), others])
    names = [[r.name for r in group.records] for group in found.groups]
    assert names == [["snip", "grasp", "scratch"], ["small LR"], ["other weights"]]
    assert found.groups[0].setup == "same_overall_schedule"
    assert rank([at_init("snip"), at_init("grasp")]).groups[0].setup == "S4.2"


def test_what_cannot_be_tested_is_not_told_apart_and_not_counted():
    single = run("single", [10.0])
    single = replace(single, stages=(replace(single.stages[0], ids=None), *single.stages[1:]))
    group = rank([run("one", [90.0], base="b"), run("two", [10.0], base="b")]).groups[0]
    assert (group.ps, group.tests, group.letters) == ({(0, 1): None}, 0, ("a", "a"))
    silent = rank([GOOD, replace(POOR, results=()), single])
    assert silent.reasons[-1] == "poor is not ranked: it states no accuracy."
    assert rank([]).groups == rank([]).reasons == ()
    printed = replace(GOOD, name="printed", results=(), summary=Summary(91.0, 0.1, 4))
    assert [r.name for r in rank([GOOD, printed]).groups[0].records] == ["printed", "good"]


def test_a_group_is_comparable_throughout():
    """Rates have a tolerance, so that being comparable is not transitive."""
    runs = [run(str(rate), [1.0], rate) for rate in (2.0, 2.03, 2.06)]
    groups = comparable(runs, lambda a, b: abs(a.costs.speedup - b.costs.speedup) <= 0.04)
    assert [[r.name for r in group] for group in groups] == [["2.0", "2.03"], ["2.06"]]
    assert [len(group.records) for group in rank(runs).groups] == [2, 1]


def retrained(name, schedule, pruned="cut", epochs=5, momentum=0.9):
    """A made-up retraining of a pruned network."""
    made = run(name, [90.0, 91.0, 92.0])
    ids = tuple(f"{pruned}{seed}" for seed in range(3))
    stages = (made.stages[0], Stage("sparsify", ids, 0), Stage("retrain", None, epochs, schedule))
    return replace(made, stages=stages, optimiser=Optimiser("sgd", momentum))


def test_retrainings_are_ranked_where_the_pruned_networks_are_the_same_ones():
    runs = [
        retrained("fine-tuning", "0:0.001"),
        retrained("rewound LR", "0:0.1,3:0.01"),
        retrained("of others", "0:0.1", pruned="elsewhere"),
        retrained("longer", "0:0.1", epochs=9),
        retrained("other momentum", "0:0.1", momentum=0.5),
    ]
    found = rank_retrainings(runs)
    assert [[r.name for r in group.records] for group in found.groups] == [
        ["fine-tuning", "rewound LR"],
        ["of others"],
        ["longer"],
        ["other momentum"],
    ]
    assert found.groups[0].setup == "S3.1"
    assert [line.split(": ", 1)[1] for line in found.reasons] == [
        "pruned network cut0+cut1+… against elsewhere0+elsewhere1+….",
        "retrain_epochs 5 against 9.",
        "optimiser momentum=0.9 against momentum=0.5.",
    ]
    assert [len(group.records) for group in rank(runs).groups] == [1] * 5  # no two of them compare methods


def test_equal_compute_counts_what_a_mask_leaves_and_extra_passes():
    """Of 300 MACs a mask leaves 90, and 30 more are taken a step: 30 * (90 + 30 / 3) / 300 = 10 dense epochs."""

    def made(name, epochs, momentum=0.9, **stated):
        costs = Costs("macs", 300, 300, 100, 30)
        stages = (Stage("scratch", None, epochs, "0:0.1", 300, **stated),)
        sgd = Optimiser("sgd", momentum)
        return replace(run(name, [70.0, 71.0]), costs=costs, stages=stages, optimiser=sgd)

    runs = [
        made("dense", 10),
        made("sparse", 30, masked_macs=90, extra_macs=30),
        made("without the extra passes", 30, masked_macs=90),
        made("heavy", 10, momentum=0.5),
    ]
    found = rank_equal_compute(runs)
    assert [[r.name for r in group.records] for group in found.groups] == [
        ["dense", "sparse"],
        ["without the extra passes"],
        ["heavy"],
    ]
    assert "total_compute 10 dense epochs against 9 dense epochs" in found.reasons[0]
    assert "optimiser momentum=0.9 against momentum=0.5" in found.reasons[1]


@pytest.mark.parametrize("setup", ["S1", "S3.1", "SX-A"])
def test_a_setup_that_names_no_winner_is_refused(setup):
    with pytest.raises(
        ValueError, match=r"under which methods can't be ranked; allowed: \['S3.2', 'S4.1', 'S4.2'\]"
    ):
        rank([GOOD, POOR], required=setup)
    with pytest.raises(KeyError, match=r"unknown setup 'S3.3'"):
        rank([GOOD], required="S3.3")
