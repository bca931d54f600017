"""Chains that rewind, or begin with random weights: what each setup sees, worked out by hand."""

import pytest

from prune_jax.fairness import Axes, Costs, RunRecord, SeedResult, strictest_setup
from prune_jax.fairness.chain import base_ids, dense_epochs, epochs, overall_schedule, schedules
from prune_jax.fairness.record import Stage

PRETRAIN = Stage("pretrain", ("base",), 60, "0:0.1,30:0.01", 100.0)
CUT = Stage("sparsify", ("cut",), 0, None, 50.0)
RETRAIN = Stage("retrain", ("end",), 40, "0:0.01", 50.0)
RANDOM = Stage("initialise", ("random",), 0, None, 100.0)
BACK = Stage("rewind", ("back",), 0, None, 50.0, {"to": 5})
SCRATCH = Stage("scratch", ("small",), 40, "0:0.01", 50.0)


def record(*stages, base="pretrained"):
    costs = Costs("macs", 100.0, 50.0, 10.0, 5.0)
    axes = Axes(base, "filter", "0.5", "l1", "one-shot")
    return RunRecord("run", "digits", "net", "l1", axes, costs, stages, (SeedResult(0, 90.0),))


PLAIN = record(PRETRAIN, CUT, RETRAIN)
REWOUND = record(PRETRAIN, CUT, BACK, RETRAIN)
AT_INIT = record(RANDOM, CUT, RETRAIN, base="random")
SMALL = record(SCRATCH, base="random")


def test_a_rewind_has_the_base_model_that_was_pruned_and_costs_nothing():
    assert base_ids(REWOUND) == {"base"}
    assert set(strictest_setup(PLAIN, REWOUND).holding) == set(strictest_setup(PLAIN, PLAIN).holding)
    kinds = ("pretrain", "sparsify", "retrain", "scratch")
    assert epochs(REWOUND, kinds) == 100
    assert dense_epochs(REWOUND, kinds) == 60 + 40 * 0.5
    assert schedules(REWOUND, ("retrain",)) == "0:0.01 (40 epochs)"
    assert overall_schedule(REWOUND, kinds) == overall_schedule(PLAIN, kinds)


def test_random_weights_are_a_base_model_that_runs_may_share():
    assert base_ids(AT_INIT) == {"random"}
    again = strictest_setup(AT_INIT, record(RANDOM, CUT, RETRAIN, base="random"))
    assert again.strictest == "S4.2"
    other = record(Stage("initialise", ("another",), 0, None, 100.0), CUT, RETRAIN, base="random")
    assert strictest_setup(AT_INIT, other).strictest == "S1"


def test_pruning_at_initialisation_beside_pruning_a_trained_network():
    verdict = strictest_setup(AT_INIT, PLAIN)
    assert verdict.strictest == "S1"
    assert "total_epochs 40 against 100" in verdict.explain("SX-A")
    longer = record(RANDOM, CUT, Stage("retrain", ("end",), 100, "0:0.01", 50.0), base="random")
    assert strictest_setup(longer, PLAIN).holds("SX-A")
    assert "50 dense epochs against 80" in strictest_setup(longer, PLAIN).explain("SX-B")
    same = record(RANDOM, CUT, Stage("retrain", ("end",), 160, "0:0.01", 50.0), base="random")
    assert strictest_setup(same, PLAIN).holds("SX-B")


def test_pruning_at_initialisation_beside_scratch():
    verdict = strictest_setup(AT_INIT, SMALL)
    assert set(verdict.holding) == {"S1", "SX-A", "SX-B", "same_overall_schedule"}
    assert "base_model random against none (scratch)" in verdict.explain("S2")


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="allowed: pretrain, initialise, sparsify, rewind, retrain, scratch"):
        Stage("rewound")
