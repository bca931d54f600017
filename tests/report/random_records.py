"""Random records that differ from one another in little, so that every setup holds and breaks among their pairs."""

import dataclasses

from prune_jax.fairness import (
    METRICS,
    Axes,
    Costs,
    EpochMetrics,
    Metric,
    Optimiser,
    RunRecord,
    SeedResult,
    Stage,
    Summary,
)

SPEC = {
    "model": {"num_classes": 10},
    "train": {"clip_norm": 0.0, "momentum": 0.9},
    "data": {"classes": [3, 1, 2], "recipe": {"size": 32}, "mean": [0.5, 0.25]},
}


def plain_record(seeds=3):
    """The record that all others are changed from."""
    ids = tuple(f"base{seed}" for seed in range(seeds))
    stages = (
        Stage("pretrain", ids, 30, "0:0.1,20:0.01", spec={"train": {"momentum": 0.9}}),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 10, "0:0.01,5:0.001", spec=SPEC),
    )
    return RunRecord(
        "run", "cifar10", "resnet56", "l1", Axes(ratio="0.5"), Costs(speedup=2.0, compression=3.0), stages,
        tuple(SeedResult(seed, 90.0 + seed / 8) for seed in range(seeds)),
        optimiser=Optimiser("sgd", 0.9, 5e-4, 128, {"nesterov": True}), augmentation=("crop", "flip"),
        settings={"distillation": "no", "steps": 100},
    )  # fmt: skip


def _results(record, random):
    kind = random.randrange(7)
    if kind == 0:
        return dataclasses.replace(record, results=(), summary=None, stages=None)
    if kind == 1:
        std, n = random.choice([0.5, 0.0, None]), random.choice([3, 1, None])
        return dataclasses.replace(record, results=(), summary=Summary(random.choice([91.125, 88.5]), std, n))
    if kind == 2:
        return dataclasses.replace(record, results=tuple(SeedResult(seed, 92.0) for seed in range(3)))
    shift, width = (
        random.choice([-79.5, -20.0, -1.0, 0.0, 0.125, 2.0, 5.0]),
        random.choice([0.01, 1 / 8, 1.0, 3.0]),
    )
    values = [min(100.0, 90.0 + shift + width * random.random()) for _ in range(3)]
    return dataclasses.replace(record, results=tuple(SeedResult(i, value) for i, value in enumerate(values)))


def _metric(record, random):
    stated = random.choice([*METRICS.values(), Metric("loss", "nats", "lower"), None])
    return dataclasses.replace(record, metric=stated)


def _dataset(record, random):
    return dataclasses.replace(record, dataset=random.choice(["cifar10", "cifar100", "wikitext2", None]))


def _network(record, random):
    return dataclasses.replace(record, network=random.choice(["resnet56", "vgg19", None]))


def _costs(record, random):
    speedup, compression = random.choice([1.0, 2.0, 2.03, 4.0, None]), random.choice([3.0, 3.1, 5.0, None])
    flops = random.choice([None, 0.66, 0.67, 1.5])
    dense = random.choice([None, 1e9])
    return dataclasses.replace(
        record, costs=Costs(None, dense, None, None, None, speedup, compression, training_flops=flops)
    )


def _optimiser(record, random):
    other = random.choice([{}, {"nesterov": True}, {"nesterov": 1.0}, {"nesterov": False, "clip_norm": 1.0}])
    stated = Optimiser(
        random.choice(["sgd", "adam", None]), random.choice([0.9, 0.8, None]), random.choice([5e-4, 1e-4, None]),
        random.choice([128, 256]), other,
    )  # fmt: skip
    return dataclasses.replace(record, optimiser=random.choice([stated, None]))


def _augmentation(record, random):
    return dataclasses.replace(record, augmentation=random.choice([("crop",), ("crop", "flip"), (), None]))


def _settings(record, random):
    stated = {"distillation": random.choice(["no", "from resnet110"]), "ümlaut": random.choice([1, 1.0, 2])}
    return dataclasses.replace(record, settings=random.choice([stated, {"steps": 200}, {}]))


def _base(record, random):
    if not record.stages:
        return record
    first, *rest = record.stages
    ids = random.choice([None, tuple(f"other{i}" for i in range(3)), tuple(f"base{i}" for i in (2, 1, 0))])
    change = {"ids": ids, "epochs": random.choice([30, 20, None])}
    change["spec"] = {
        "train": {"momentum": random.choice([0.9, 0.5])},
        "data": {"flip": random.choice([True, False])},
    }
    first = dataclasses.replace(first, **change, schedule="0:0.1,15:0.01" if first.epochs else None)
    return dataclasses.replace(record, stages=(first, *rest))


def _chain(record, random):
    spec = random.choice([SPEC, {}, {"train": {"precision": "bfloat16"}, "data": _data(random)}])
    epochs = random.choice([10, 20, None])
    retrain = Stage("retrain", None, epochs, random.choice(["0:0.01,5:0.001", "0:0.1", None]), spec=spec)
    pretrain = record.stages[0] if record.stages else Stage("pretrain")
    sparsify = random.choice(
        [Stage("sparsify", None, 0), Stage("sparsify", None, 5, "0:0.01"), Stage("sparsify")]
    )
    scratch = Stage(
        "scratch", None, 40, random.choice(["0:0.1,20:0.01,30:0.01,35:0.001", "0:0.1"]), 5e8, spec
    )
    untrained = (Stage("initialise", ("random0", "random1", "random2")), Stage("sparsify", None, 0), retrain)
    stages = random.choice([(pretrain, sparsify, retrain)] * 3 + [(scratch,), untrained, None])
    return _trimmed(dataclasses.replace(record, stages=None), stages)


def other_actions():
    """Two records that differ in the LR schedule of the sparsifying action alone: the strictest setup but one."""
    plain = plain_record()
    actions = [Stage("sparsify", None, 5, schedule) for schedule in ("0:0.01", "0:0.02")]
    chains = [(plain.stages[0], action, plain.stages[2]) for action in actions]
    return [dataclasses.replace(plain, name=f"action {i}", stages=chain) for i, chain in enumerate(chains)]


def _action(record, random):
    if not record.stages or len(record.stages) != 3:
        return record
    action = random.choice(
        [
            Stage("sparsify", None, 5, "0:0.01"),
            Stage("sparsify", None, 5, "0:0.02"),
            Stage("sparsify", None, 6),
        ]
    )
    return dataclasses.replace(record, stages=(record.stages[0], action, record.stages[2]))


def _trimmed(record, stages):
    """Ids are stated for each seed, so those of another number of seeds are dropped."""
    count = len(record.results)
    fits = [
        s if not (s.ids and count) or len(s.ids) == count else dataclasses.replace(s, ids=None)
        for s in stages or ()
    ]
    return dataclasses.replace(record, stages=tuple(fits) or None)


def _by_rule(record, random):
    if not record.stages or record.stages[-1].kind != "retrain" or not record.results:
        return record
    epochs = random.choice([8, 9])
    results = tuple(
        dataclasses.replace(
            r, schedule=f"0:0.01,{epochs - 4}:0.001", epochs=(EpochMetrics(epochs, r.last_accuracy),)
        )
        for r in record.results
    )
    stage = Stage("retrain", None, random.choice([epochs, None]), "plateau(0:0.01,1:0.001)", spec=SPEC)
    return dataclasses.replace(record, stages=(*record.stages[:-1], stage), results=results)


def _data(random):
    stated = {
        "classes": random.choice([[1, 2, 3], [4, 5]]), "recipe": {"size": random.choice([32, 32.0, 224])},
        "mean": random.choice([[0.5, 0.25], [0, 1]]), "std": [1], "content": random.choice(["abc", "d" * 20]),
    }  # fmt: skip
    return {name: value for name, value in stated.items() if random.random() < 0.6}


CHANGES = (
    _results, _results, _metric, _dataset, _network, _costs, _costs, _optimiser, _augmentation, _settings, _base, _base,
    _chain, _chain, _by_rule, _action, _action,
)  # fmt: skip


def records(random, count):
    """So many records: the plain one with each of CHANGES by itself, then with up to three of them."""
    made = []
    for number in range(count):
        record = _results(plain_record(), random) if random.random() < 0.8 else plain_record()
        alone = CHANGES[number : number + 1]
        for change in alone or random.sample(CHANGES, random.choice([0, 0, 1, 1, 2, 3])):
            record = change(record, random)
        made.append(dataclasses.replace(record, name=f"run {number}"))
    return made
