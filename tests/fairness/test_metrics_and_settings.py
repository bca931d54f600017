"""Metrics with a direction, costs that papers print, and settings that differ, named whatever the setup."""

import json
from dataclasses import fields, replace

import pytest

from prune_jax.experiment import specs
from prune_jax.fairness import (
    METRICS,
    Costs,
    Metric,
    Optimiser,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
    compare,
    from_json,
    rank,
    strictest_setup,
    to_json,
)
from prune_jax.fairness.training_settings import DATA_DEFAULTS, TRAIN_DEFAULTS

PERPLEXITY = METRICS["perplexity"]


def pruned(name="pruned", *, values=(92.0, 92.1, 92.2), decay=5e-4, train=None, **stated):
    ids = tuple(f"{name}{i}" for i in range(3))
    stages = (
        Stage("pretrain", ids, 30, "0:0.1", spec={"train": train} if train else {}),
        Stage("sparsify", ids, 0),
        Stage("retrain", ids, 90, "0:0.1"),
    )
    made = RunRecord(
        name,
        "cifar10",
        "resnet56",
        costs=Costs(speedup=2.0),
        stages=stages,
        results=tuple(SeedResult(i, value) for i, value in enumerate(values)),
        optimiser=Optimiser("sgd", 0.9, decay, 128),
        augmentation=("crop", "flip"),
    )
    return replace(made, **stated)


def scratch(values=(90.0, 90.1, 90.2), train=None, **stated):
    spec = {"train": train} if train else {}
    stages = (Stage("scratch", ("x", "y", "z"), 120, "0:0.1", spec=spec),)
    return pruned("scratch", values=values, **({"stages": stages} | stated))


# What differs in scratch -> what every sentence names. By hand.
DIFFERENT = {
    "batch": ({"optimiser": Optimiser("sgd", 0.9, 5e-4, 1024)}, "optimiser batch_size=128 against batch_size=1024"),
    "augmentation": ({"augmentation": ()}, "augmentation crop+flip against none"),
    "distillation": (
        {"settings": {"distillation": "resnet50"}},
        "settings distillation=none against distillation=resnet50",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("required", ["SX-A", "S3.2"])
def test_settings_that_differ_are_named_and_leave_no_winner(what, required):
    changes, words = DIFFERENT[what]
    found = compare(pruned(settings={"distillation": "none"}), scratch(**changes), required)
    assert words in found.sentence
    assert found.winner is None
    assert "ahead" not in found.sentence
    assert found.sentence.count(words) == 1


def test_equal_settings_leave_the_winner_and_the_sentence_as_they_were():
    found = compare(pruned(), scratch(), "SX-A")
    assert found.winner == "a"
    assert found.sentence.startswith(
        "pruned is ahead of scratch by 2.00 points under SX-A: 92.10 ± 0.10 (n=3)"
    )
    assert compare(pruned(), scratch(settings={"mixup": 0.2}), "SX-A").winner == "a"  # stated by one alone


def test_a_setup_of_table_2_that_asks_for_no_settings_holds_and_names_them():
    verdict = strictest_setup(pruned(), scratch(decay=0.0))
    assert verdict.holds("SX-A")
    assert verdict.explain("SX-A") == (
        "SX-A holds, though settings differ: optimiser weight_decay=0.0005 against weight_decay=0.0"
    )
    assert not verdict.holds("S3.2")
    assert strictest_setup(pruned(), replace(pruned(), settings={"a": 1})).explain("S4.2") == "S4.2 holds"


def test_further_settings_break_what_asks_for_settings():
    a, b = (pruned(settings={"distillation": teacher}) for teacher in ("resnet50", "resnet101"))
    verdict = strictest_setup(a, b)
    assert verdict.strictest == "S3.1"
    assert "distillation=resnet50 against distillation=resnet101" in verdict.explain("S3.2")
    assert strictest_setup(a, pruned()).assumed == ("settings distillation",)


def test_the_pretraining_counts_where_no_base_model_is_shared():
    a, b = pruned(train={"batch_size": 1024, "schedule": "0:0.1"}), scratch(train={"batch_size": 128})
    assert (
        "training from random weights: batch_size=1024 against batch_size=128"
        in compare(a, b, "SX-A").sentence
    )
    other = pruned(train={"batch_size": 128})
    assert strictest_setup(a, other).differing == ()  # one base model, by its ids


def test_what_specs_leave_out_is_at_the_values_that_specs_say():
    for defaults, spec in ((TRAIN_DEFAULTS, specs.TrainSpec), (DATA_DEFAULTS, specs.DataSpec)):
        assert dict(defaults) == {f.name: f.default for f in fields(spec) if f.name in defaults}


def test_an_option_that_one_run_of_this_package_uses_alone_is_a_difference():
    def run(**train):
        retrain = Stage("retrain", ("x", "y", "z"), 90, "0:0.1", spec={"train": {"batch_size": 128, **train}})
        return pruned(stages=(*pruned().stages[:2], retrain))

    verdict = strictest_setup(run(precision="bfloat16"), run())
    assert verdict.strictest == "S3.1"
    assert "optimiser precision=bfloat16 against precision=float32" in verdict.explain("S3.2")
    other = replace(run(), optimiser=Optimiser("sgd", 0.9, 5e-4, 128, {"label_smoothing": 0.1}))
    assert "label_smoothing=0.1 against label_smoothing=0.0" in strictest_setup(other, run()).explain("S1")
    assert strictest_setup(other, pruned()).assumed == (
        "optimiser label_smoothing",
    )  # a record without specs
    a, b = pruned(), scratch()
    train, data = {"batch_size": 128}, {"name": "cifar10"}
    crops = replace(a.stages[0], ids=("p",) * 3, spec={"train": train, "data": data | {"crop_pad": 4}})
    a = replace(a, stages=(crops, *a.stages[1:]))
    b = replace(b, stages=(replace(b.stages[0], spec={"train": train, "data": data}),))
    assert "training from random weights: crop_pad=4 against crop_pad=0" in compare(a, b, "SX-A").sentence


def test_lower_is_better_where_the_metric_says_so():
    a = pruned("magnitude", values=(14.8, 14.9, 15.0), metric=PERPLEXITY)
    b = replace(pruned("magnitude", values=(6.3, 6.4, 6.5), metric=PERPLEXITY), name="wanda")
    found = compare(a, b)
    assert found.winner == "b"
    assert found.sentence.startswith(
        "wanda beats magnitude by 8.50 in perplexity (lower is better) under S3.2: 6.40 ± 0.10 (n=3) against 14.90"
    )
    assert compare(b, a).winner == "a"


def test_a_metric_is_read_off_a_data_set_that_is_known_for_it_and_never_mixed():
    a, b = (
        RunRecord(n, "wikitext2", "llama2-7b", summary=Summary(v)) for n, v in (("a", 14.89), ("b", 6.42))
    )
    assert compare(a, b).sentence.startswith(
        "b's perplexity is 8.47 below a's (6.42 (n=unstated) against 14.89 (n=unstated); lower is better), which"
    )
    other = replace(b, metric=METRICS["bits per byte"])
    assert compare(a, other).sentence == (
        "Nothing to compare: a states perplexity, lower is better; b states bits per byte in bits, lower is better."
    )
    assert not strictest_setup(a, other).holds("S1")


def test_points_of_another_percentage_are_named():
    a, b = (RunRecord(n, "coco", summary=Summary(v)) for n, v in (("a", 40.0), ("b", 38.5)))
    assert compare(a, b).sentence.startswith(
        "a's mAP is 1.50 points above b's (40.00 (n=unstated) against 38.50"
    )


def test_large_values_are_a_perplexity_and_no_percentage():
    assert RunRecord("m", metric=PERPLEXITY, summary=Summary(146_760.7)).summary.mean == 146_760.7
    seeds = (SeedResult(0, 146_760.7),)
    assert RunRecord("m", "c4", results=seeds).accuracies == (146_760.7,)
    with pytest.raises(
        ValueError, match=r"percentage from 0 to 100, got 146760.7; .*state the record's metric"
    ):
        RunRecord("m", "cifar10", summary=Summary(146_760.7))
    with pytest.raises(ValueError, match="metric 'x' has direction 'up'"):
        Metric("x", direction="up")
    with pytest.raises(ValueError, match="top5 is a percentage"):
        Summary(70.0, top5=101.0)


def test_a_ranking_puts_the_better_one_first_and_asks_for_equal_settings():
    names = {"a": (14.8, 14.9, 15.0), "b": (6.3, 6.4, 6.5)}
    same = [replace(pruned("x", values=v, metric=PERPLEXITY), name=n) for n, v in names.items()]
    assert [r.name for r in rank(same).groups[0].records] == ["b", "a"]
    taught = replace(same[1], settings={"distillation": "x"})
    assert len(rank([replace(same[0], settings={"distillation": "no"}), taught]).groups) == 2
    assert len(rank([same[0], replace(same[1], metric=METRICS["bits per byte"])]).groups) == 2


@pytest.mark.parametrize("schema", [3, 4])
def test_new_fields_survive_a_round_trip_and_older_records_leave_them_unstated(schema):
    costs = Costs(speedup=2.0, latency_ms=3.99, latency_device="A100", training_flops=0.66)
    record = pruned(costs=costs, metric=PERPLEXITY, settings={"distillation": "resnet50"}, results=())
    record = replace(record, summary=Summary(71.98, top5=91.01))
    assert from_json(to_json(record)) == record
    old = json.loads(to_json(pruned())) | {"schema": schema}
    for key in ("metric", "settings"):
        del old[key]
    for key in ("latency_ms", "latency_device", "training_flops"):
        del old["costs"][key]
    for result in old["results"]:
        del result["top5"]
    assert from_json(json.dumps(old)) == pruned()


def test_printed_training_flops_stand_in_for_a_chain_that_is_unstated():
    def stated(flops, speedup=2.0):
        costs = Costs(speedup=speedup, training_flops=flops)
        return pruned(stages=None, costs=costs)

    assert strictest_setup(stated(0.66), stated(0.665)).holds("SX-B")
    assert strictest_setup(stated(0.66), stated(0.80)).explain("SX-B") == (
        "SX-B doesn't hold (total_compute 0.66 times the dense network's training against 0.8 times the dense "
        "network's training)"
    )
