import dataclasses
import statistics

import pytest

from prune_jax import fairness
from prune_jax.experiment import specs
from prune_jax.experiment.config import plateau_rule
from prune_jax.experiment.training.plateau import plateau_start, plateau_step
from prune_jax.fairness import chain
from prune_jax.report import plateau, reading, tables


def record(lr, finals, lengths=None):
    """A made-up retraining of 4 epochs; with ``lengths`` (one per seed, two LR stages each) by a plateau rule."""
    results, stages = [], lengths or [(2, 2)] * len(finals)
    for seed, (final, (first, second)) in enumerate(zip(finals, stages, strict=True)):
        rates = [None] + [lr] * first + [lr / 10] * second
        metrics = [fairness.EpochMetrics(e, final, 1.0, 0.5, rate) for e, rate in enumerate(rates)]
        schedule = f"0:{lr},{first}:{lr / 10}" if lengths else None
        results.append(fairness.SeedResult.from_epochs(seed, metrics, schedule=schedule))
    ids = tuple(f"{lr}{seed}" for seed in range(len(finals)))
    same = len({sum(pair) for pair in stages}) == 1
    text = "plateau(loss=0.02) of at most 0:1" if lengths else f"0:{lr},2:{lr / 10}"
    last = fairness.Stage("retrain", ids, sum(stages[0]) if same else None, text)
    return fairness.RunRecord(
        f"{lr}", "d", "n", "l1", fairness.Axes(ratio="0.5"), stages=(last,), results=tuple(results)
    )


def test_the_spread_by_hand():
    fixed = [record(0.01, (80.0, 84.0)), record(0.003, (70.0, 71.0)), record(0.001, (50.0, 56.0))]
    extended = [record(0.01, (81.0, 83.0), [(3, 2), (5, 4)]), record(0.001, (78.0, 80.0), [(9, 2), (9, 3)])]
    lines = [line for line in plateau.lr_spread([*extended, *fixed]).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    error = (statistics.variance((80.0, 84.0)) / 2 + statistics.variance((50.0, 56.0)) / 2) ** 0.5
    assert rows[3] == ["0.5", "fixed", "**all**", "", "", "**4**", f"**29.00 ± {error:.2f}**"]
    assert rows[4] == ["0.5", "plateau", "0.01", "82.00 ± 1.41", "5, 9", "7", ""]
    assert rows[6][-2:] == ["**9**", "**3.00 ± 1.41**"]
    assert plateau.spread_of([record(0.01, (80.0,)), record(0.001, (70.0,))]) == (10.0, None)


RULE = specs.Plateau(window=2, loss=0.02, jsv=0.05, minimum=3, examples=1)
LONGEST = (8, 4)


def ruled(signals):
    """A retraining whose stages end as the rule itself says, from (losses, JSVs) for each seed; and why they ended."""
    results, capped = [], []
    for seed, (losses, jsvs) in enumerate(signals):
        state, metrics, reasons = plateau_start(), [fairness.EpochMetrics(0, 50.0)], []
        for epoch, (loss, jsv) in enumerate(zip(losses, jsvs, strict=True), start=1):
            lr = (0.01, 0.001)[int(state.stage)]
            metrics.append(fairness.EpochMetrics(epoch, 50.0, loss, None, lr, train_jsv=jsv))
            longer = plateau_step(state, loss, jsv, RULE, (99, 99))
            state = plateau_step(state, loss, jsv, RULE, LONGEST)
            if int(state.epochs) != int(longer.epochs) or bool(state.done) != bool(longer.done):
                reasons.append(1 + (lr == 0.001))  # over by its length alone
            if state.done:
                break
        schedule = plateau_rule.realised([m.lr for m in metrics[1:]])
        results.append(fairness.SeedResult.from_epochs(seed, metrics, schedule=schedule))
        capped.append(reasons)
    train = specs.TrainSpec("0:0.01,8:0.001", 12, 1, 0.0, 0.0, extend=RULE)
    spec = {"train": dataclasses.asdict(train)}
    last = fairness.Stage(
        "retrain", tuple(map(str, range(len(results)))), None, plateau_rule.text(train), spec=spec
    )
    axes = fairness.Axes(ratio="0.5")
    return fairness.RunRecord("R", "d", "n", "l1", axes, stages=(last,), results=tuple(results)), capped


def test_a_stage_that_ended_for_its_length_alone_is_marked():
    still, falling = [1.0] * 12, [2.0 - 0.1 * epoch for epoch in range(12)]
    settles = [2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 1.0, 1.0, *[1.0] * 4]
    stops_at_the_cap = [2.0, 1.8, 1.6, 1.4, 1.0, 1.0, 1.0, 1.0, *[1.0] * 4]
    jsvs = [1.1**epoch for epoch in range(12)]
    signals = [
        (still, still),
        (falling, still),
        (still, jsvs),
        (settles, still),
        (stops_at_the_cap, still),
        (settles, jsvs[:8] + still[:4]),
    ]
    made, wanted = ruled(signals)
    assert wanted == [[], [1, 2], [1, 2], [1], [], [1]]
    assert plateau.capped(made) == wanted
    (row,) = (line for line in plateau.lr_spread([made]).splitlines() if "| 0.01 |" in line)
    lengths = ", ".join(
        f"{result.epochs[-1].epoch}{'†' * bool(stages)}"
        for result, stages in zip(made.results, wanted, strict=True)
    )
    assert f"| {lengths} |" in row
    assert "(R, seed 1: first stage; R, seed 1: second stage; R, seed 2: " in plateau.lr_spread([made])
    told = [dataclasses.replace(e, train_jsv=None) for e in made.results[4].epochs]
    unwatched = dataclasses.replace(made.results[4], epochs=tuple(told))
    results = (*made.results[:4], unwatched, *made.results[5:])
    assert plateau.capped(dataclasses.replace(made, results=results))[4] == [1, 2]  # not known to stand still


def test_without_a_cap_there_is_no_mark():
    assert "†" not in plateau.lr_spread([record(0.01, (81.0, 83.0), [(3, 2), (5, 4)]), record(0.01, (80.0,))])


def test_a_seed_that_ended_earlier_keeps_its_last_value():
    long = record(0.01, (80.0, 84.0), [(3, 2), (5, 4)])
    at, values = reading.curve(long, "test_accuracy")
    assert at.tolist() == list(range(10))
    assert values[0].tolist() == [80.0] * 10
    assert reading.lengths(long) == [5, 9]
    assert reading.epochs(long) == 9
    assert "until plateaus, e.g. `0:0.01,5:0.001`" in tables.accuracy([long])


def test_the_same_rule_is_no_equal_retraining_where_the_epochs_differ():
    a, b = record(0.01, (80.0, 84.0), [(3, 2), (5, 4)]), record(0.01, (80.0, 84.0), [(3, 2), (5, 5)])
    assert chain.epochs(a, ("retrain",)) is None
    assert chain.schedules(a, ("retrain",)) != chain.schedules(b, ("retrain",))
    assert "plateau(loss=0.02)" in chain.schedules(a, ("retrain",))
    assert not fairness.strictest_setup(a, b).holds("S3.1")
    shared = record(0.01, (80.0, 84.0), [(3, 2), (2, 3)])
    assert chain.epochs(shared, ("retrain",)) == 5
    assert fairness.from_json(fairness.to_json(a)) == a
    with pytest.raises(ValueError, match="states no schedule"):
        reading.schedule(dataclasses.replace(shared, stages=(fairness.Stage("retrain"),)))
