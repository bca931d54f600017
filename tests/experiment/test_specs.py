import dataclasses

import pytest

from prune_jax.experiment import specs

DATA = specs.DataSpec("digits", (0.3,), (0.4,))
MODEL = specs.ModelSpec("mlp7_linear", (8, 8, 1), 10)
TRAIN = specs.TrainSpec("0:0.01", 3, 100, 0.9, 0.0)
CHAIN = (
    specs.Pretrain(DATA, MODEL, TRAIN),
    specs.Sparsify("l1", (("layers/0", 0.5),)),
    specs.Retrain(DATA, TRAIN),
)


def changed(spec, path, value):
    head, *rest = path.split(".")
    if rest:
        value = changed(getattr(spec, head), ".".join(rest), value)
    return dataclasses.replace(spec, **{head: value})


def test_ids_are_stable_across_releases():
    # written down once: a change here would orphan every checkpoint that users have
    assert specs.chain_ids(CHAIN, 0) == ("72355a8b2de276f2", "2b871a2cafd74141", "a3b0415f70e7a92e")


HALF = specs.Sparsify("l1", (("layers/0", 0.5),))
QUARTER = specs.Sparsify("l1", (("layers/0", 0.25),))
RETRAIN = specs.Retrain(DATA, TRAIN)


@pytest.mark.parametrize(
    ("chain", "ids"),
    [
        ((specs.Scratch(DATA, MODEL, HALF.ratios, TRAIN),), "9fb42829221793bf"),
        (
            (specs.Imported("0" * 64, MODEL, DATA), HALF, RETRAIN),
            "0000000000000000 9cd1a3a4a04a5f20 37d0831b70f298ad",
        ),
        (
            (CHAIN[0], QUARTER, RETRAIN, HALF, RETRAIN),
            "72355a8b2de276f2 a8a933323a5d022f 0be8fdd320f83b5f a39a448b0502262b bf153aeff8597ea2",
        ),
        (
            (
                CHAIN[0],
                HALF,
                specs.Retrain(DATA, changed(TRAIN, "extend", specs.Plateau(10, 0.02, 0.05, 20, 200))),
            ),
            "72355a8b2de276f2 2b871a2cafd74141 9d9a5ee677cf8913",
        ),
        (
            (
                CHAIN[0],
                specs.Sparsify(
                    "l1", (), "unstructured", ranking=specs.Ranking(("*",), 0.5, normalise="none")
                ),
            ),
            "72355a8b2de276f2 baaad509d5105ce2",
        ),
        (
            (
                CHAIN[0],
                specs.Sparsify(
                    "taylor", (), ranking=specs.Ranking(("*",), speedup=2.0), evidence=specs.Gathering(4, 100)
                ),
            ),
            "72355a8b2de276f2 18c26783f936f9cc",
        ),
    ],
    ids=["scratch", "imported", "two rounds", "plateau", "unstructured", "speedup"],
)
def test_ids_of_every_kind_of_stage_are_stable_too(chain, ids):
    assert specs.chain_ids(chain, 0) == tuple(ids.split())


def test_recovery_of_the_first_definition_keeps_its_id():
    old = specs.Sparsify("l1", (("layers/0", 0.5),), recovery="orthp")
    assert "recovery_version" not in specs.stated(old)
    assert specs.stage_id(old, 0, None) == "7a351840d45a5112"


@pytest.mark.parametrize(
    ("position", "path", "value"),
    [
        (0, "data.split_seed", 1),
        (0, "model.options", (("hidden", 50),)),
        (0, "train.schedule", "0:0.1"),
        (1, "ratios", (("layers/0", 0.6),)),
        (1, "recovery", "orthp"),
        (1, "recovery_version", 2),
        (2, "train.weight_decay", 0.1),
        (2, "train.extend", specs.Plateau(10, 0.02, 0.05, 20, 200)),
    ],
)
def test_a_changed_field_changes_its_stage_and_all_below_it(position, path, value):
    chain = list(CHAIN)
    chain[position] = changed(chain[position], path, value)
    for i, (old, new) in enumerate(
        zip(specs.chain_ids(CHAIN, 0), specs.chain_ids(tuple(chain), 0), strict=True)
    ):
        assert (old == new) == (i < position)


def test_the_seed_changes_every_id():
    assert not set(specs.chain_ids(CHAIN, 0)) & set(specs.chain_ids(CHAIN, 1))


def test_a_new_field_at_its_default_leaves_old_ids_alone():
    @dataclasses.dataclass(frozen=True)
    class Sparsify(specs.Sparsify):
        new_option: float = 0.5

    old = specs.Sparsify("l1", (("layers/0", 0.5),))
    assert specs.stage_id(Sparsify(*dataclasses.astuple(old)), 0, None) == specs.stage_id(old, 0, None)
    other = Sparsify("l1", (("layers/0", 0.5),), new_option=0.6)
    assert specs.stage_id(other, 0, None) != specs.stage_id(old, 0, None)


def test_measurements_are_named_as_before_where_nothing_young_is_set():
    assert repr(specs.Measure(100, 2)) == "Measure(jsv_examples=100, jsv_every=2)"  # records are named by it
    assert repr(specs.Measure(100, 2, "spectrum")) != repr(specs.Measure(100, 2))


def test_measurements_give_the_same_values_on_the_same_examples():
    jsv = specs.Measure(100, 2)
    assert jsv.same_values(specs.Measure(100, 1, "spectrum"))
    assert not jsv.same_values(specs.Measure(200, 2))
