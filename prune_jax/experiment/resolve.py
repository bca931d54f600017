"""From a config to what is run: every value checked, every schedule canonical, every group named."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from prune_jax import nearest
from prune_jax.experiment import (
    execution,
    extension,
    imported,
    networks,
    optimizer_keys,
    own_criterion,
    own_network,
    own_parts,
    placement,
)
from prune_jax.experiment.datasets import AnyDataset, spec_of
from prune_jax.experiment.specs import (
    DataSpec,
    Imported,
    Measure,
    ModelSpec,
    Pretrain,
    Ratios,
    Retrain,
    Scratch,
    Sparsify,
    Stage,
    TrainSpec,
)
from prune_jax.experiment.step import PRECISIONS, REMATS
from prune_jax.pruning.criteria.table import CRITERIA
from prune_jax.schedules import LRSchedule
from prune_jax.trainability import mean_plan

PIPELINES = ("prune", "scratch")
RECOVERIES = ("none", "orthp")
MEASURED = 512  # test examples whose Jacobians are measured where none are named


class Arm(NamedTuple):
    """One run: a chain of stages for several seeds, and how it is measured and executed."""

    label: str
    chain: tuple[Stage, ...]
    seeds: tuple[int, ...]
    measure: Measure
    execution: execution.Execution
    mesh: placement.MeshShape
    remat: str
    config: dict[str, Any]

    @property
    def model(self) -> ModelSpec:
        """The dense network at the chain's head."""
        first = self.chain[0]
        assert isinstance(first, Pretrain | Imported | Scratch)
        return first.model

    @property
    def ratios(self) -> Ratios:
        """(group, ratio) pairs: what the chain removes."""
        return next((stage.ratios for stage in self.chain if isinstance(stage, Sparsify | Scratch)), ())


def resolve(config: ConfigDict, dataset: AnyDataset) -> Arm:
    """The run that ``config`` describes. Raises ValueError naming the key, the value and what is allowed."""
    config = optimizer_keys.completed(config)
    if config.checkpoint.keep < 1:
        raise ValueError(
            f"checkpoint.keep is {config.checkpoint.keep}; at least 1 is kept of a stage in the middle"
        )
    model = _model(config, dataset)
    images = spec_of(config, dataset)
    ratios = _ratios(config, model)
    if own_parts.is_own(model.name):
        own_network.refuse_fixed_sizes(model, networks.widths_of(model, ratios))
    if _one_of("pipeline", config.pipeline, PIPELINES) == "scratch":
        chain: tuple[Stage, ...] = (Scratch(images, model, ratios, _train(config, "scratch", dataset)),)
    else:
        chain = (
            _base(config, images, model, dataset),
            _sparsify(config, ratios, model),
            Retrain(images, _train(config, "retrain", dataset)),
        )
    seeds, how = _seeds(config), _execution(config, model, images.streamed)
    return Arm(
        config.label or config.experiment,
        chain,
        seeds,
        _measure(config, dataset),
        how,
        _mesh(config, len(seeds) if how.replicas == "vmap" else 1, alone=how.together == "run"),
        _one_of("remat", config.remat, REMATS),
        config.to_dict() | _own_parts(config),
    )


def _own_parts(config: ConfigDict) -> dict[str, Any]:
    """What a record says of the parts that are the user's own: file and hash by config key; nothing without any."""
    references = {
        "model.name": config.model.name,
        "dataset.name": config.dataset.name,
        "sparsify.criterion": config.sparsify.criterion,
        "optimizer.name": config.optimizer.name,
    }
    found = own_parts.stated(references)
    return {"own_parts": found} if found else {}


def _model(config: ConfigDict, dataset: AnyDataset) -> ModelSpec:
    options = tuple(sorted(config.model.options.items()))
    name, own = config.model.name, own_parts.is_own(config.model.name)
    source = own_parts.source_of(name, "model.name") if own else ""
    spec = ModelSpec(name, dataset.input_shape, dataset.num_classes, options, source)
    if own:
        own_network.abstract_network(spec)
        return spec
    try:
        networks.abstract_model(spec)
    except ValueError as error:
        raise ValueError(f"model: {error}") from error
    return spec


def _base(config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Pretrain | Imported:
    """The base model: read from ``base.checkpoint`` where that is given, else trained."""
    if config.base.checkpoint:
        return imported.spec_of(config.base.checkpoint, model, images)
    return Pretrain(images, model, _train(config, "pretrain", dataset))


def _train(config: ConfigDict, stage: str, dataset: AnyDataset) -> TrainSpec:
    section, optimizer = config[stage], config.optimizer
    if section.epochs < 1:
        raise ValueError(f"{stage}.epochs is {section.epochs}; a training stage lasts at least 1 epoch")
    try:
        schedule = LRSchedule.parse(section.schedule, section.epochs)
    except ValueError as error:
        raise ValueError(f"{stage}.schedule (with {stage}.epochs={section.epochs}): {error}") from error
    examples = dataset.train_size
    if not 1 <= optimizer.batch_size <= examples:
        raise ValueError(
            f"optimizer.batch_size is {optimizer.batch_size}; {dataset.name} allows 1 to {examples}"
        )
    if optimizer.accumulate < 1 or optimizer.batch_size % optimizer.accumulate:
        raise ValueError(
            f"optimizer.accumulate is {optimizer.accumulate}; it splits optimizer.batch_size="
            f"{optimizer.batch_size} into equal microbatches: allowed are its divisors"
        )
    rule = None
    if section.get("extend"):
        schedule, rule = extension.plateau(section, schedule, dataset)
    return TrainSpec(
        str(schedule),
        schedule.epochs,
        optimizer.batch_size,
        precision=_one_of("precision", config.precision, tuple(PRECISIONS)),
        accumulate=optimizer.accumulate,
        extend=rule,
        **optimizer_keys.read(optimizer),
    )


def _ratios(config: ConfigDict, model: ModelSpec) -> Ratios:
    section = config.sparsify
    _in_range("sparsify.ratio", section.ratio, 0.0, 1.0)
    for ratio in section.stage_ratios:
        _in_range("sparsify.stage_ratios", ratio, 0.0, 1.0)
    if section.stage_ratios:
        return networks.stage_ratios(model, section.layers, section.stage_ratios)
    return networks.uniform_ratios(model, section.layers, section.ratio)


def _sparsify(config: ConfigDict, ratios: Ratios, model: ModelSpec) -> Sparsify:
    section = config.sparsify
    _one_of("sparsify.granularity", section.granularity, ("filter",))
    _one_of("sparsify.schedule", section.schedule, ("one-shot",))
    recovery = _one_of("sparsify.recovery", section.recovery, RECOVERIES)
    gain = float(section.recovery_gain) if recovery != "none" else 1.0
    if gain <= 0:
        raise ValueError(f"sparsify.recovery_gain is {gain}; it must be positive")
    if not own_parts.is_own(section.criterion):
        criterion = _one_of("sparsify.criterion", section.criterion, tuple(CRITERIA))
        return Sparsify(criterion, ratios, recovery=recovery, recovery_gain=gain)
    source = own_parts.source_of(section.criterion, own_criterion.KEY)
    own_criterion.refuse_misfit(section.criterion, source, model, tuple(dict(ratios)))
    return Sparsify(section.criterion, ratios, recovery=recovery, recovery_gain=gain, source=source)


def _seeds(config: ConfigDict) -> tuple[int, ...]:
    seeds = tuple(config.seeds)
    if not seeds or len(set(seeds)) != len(seeds) or any(not isinstance(s, int) or s < 0 for s in seeds):
        raise ValueError(f"seeds is {seeds}; it needs at least one whole number >= 0, each once")
    return seeds


def _measure(config: ConfigDict, dataset: AnyDataset) -> Measure:
    section, available = config.measure, dataset.test_size
    if section.jsv is False:
        return Measure()
    what = "mean" if section.jsv is True else _one_of("measure.jsv", section.jsv, ("mean", "spectrum"))
    every = 1 if section.every == "epoch" else section.every
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(
            f"measure.every is {section.every!r}; allowed: 'epoch' or a number of epochs, at least 1"
        )
    examples = section.examples or min(MEASURED, available)
    if not 1 <= examples <= available:
        raise ValueError(
            f"measure.examples is {examples}; {dataset.name} has {available} test examples: "
            f"allowed: 1 to {available}, or 0: {min(MEASURED, available)}"
        )
    least = mean_plan.least_budget(examples, min(dataset.num_classes, math.prod(dataset.input_shape)))
    return Measure(examples, every, what, _budget(section.budget, what, least))


def _budget(budget: int, what: str, least: int) -> int:
    if budget and what == "spectrum":
        raise ValueError(f"measure.budget is {budget}, but measure.jsv='spectrum' is exact; allowed there: 0")
    if budget and jax.process_count() > 1:
        raise ValueError(f"measure.budget is {budget}; several processes measure exactly, with budget 0")
    if budget and budget < least:
        raise ValueError(
            f"measure.budget is {budget}; allowed: 0 (exact), or at least {least} pull-backs, the fewest that any "
            "method has a standard error from"
        )
    return budget


def _execution(config: ConfigDict, model: ModelSpec, streamed: bool) -> execution.Execution:
    section, convolutional = config.execution, networks.is_convolutional(model)
    epoch, replicas = section.epoch, section.replicas
    if streamed:  # every seed has a stream of its own, and a stream is read step by step
        if "scan" in epoch or "vmap" in replicas:
            raise ValueError(
                f"execution.epoch is {epoch!r} and execution.replicas {replicas!r}; a streamed data set allows "
                "'step' and 'loop' (or 'auto') only"
            )
        epoch, replicas = "step", "loop"
    return execution.decide(jax.default_backend(), convolutional, epoch, replicas, section.together)


def _mesh(config: ConfigDict, replicas: int, *, alone: bool) -> placement.MeshShape:
    """The devices a run is spread over; ValueError where they don't divide its batch."""
    asked = placement.MeshShape(**config.mesh)
    shape = placement.choose(
        asked,
        devices=jax.device_count(),
        replicas=replicas,
        backend=jax.default_backend(),
        processes=jax.process_count(),
        alone=alone,
    )
    placement.refuse_uneven(shape, config.optimizer.batch_size, config.optimizer.accumulate)
    return shape


def _one_of(key: str, value: str, allowed: Sequence[str]) -> str:
    return nearest.one_of(key, value, allowed)


def _in_range(key: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ValueError(f"{key} is {value}; allowed: [{low:g}, {high:g})")
